"""The toolchain: fat binaries behave as the plain programs that they are, and run as HRTs."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from conftest import Outcome, execute, multiverse, run

from multiverse.toolchain.driver import linked_object

SOURCES = Path(__file__).with_name("toolchain")
SCRIPTS = Path(sysconfig.get_path("scripts"))
CC, CXX = str(SCRIPTS / "multiverse-cc"), str(SCRIPTS / "multiverse-c++")
KINDS = {"pie": [], "fixed": ["-no-pie"], "static": ["-static"], "static-pie": ["-static-pie"]}
NOBODY = 65534
ADDED_MAX = 512 * 1024  # bytes that a fat binary may be larger


def start(
    command: Sequence[str],
    mode: str | None,
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
) -> Outcome:
    """Run a fat binary with MULTIVERSE set to mode (None: not set)."""
    environment = dict(os.environ if env is None else env)
    environment.pop("MULTIVERSE", None)
    if mode is not None:
        environment["MULTIVERSE"] = mode
    return run(command, stdin=stdin, env=environment, cwd=cwd, timeout=60, trace=None)


def where(program: Path | str, mode: str | None = None) -> str:
    """Where the program, one of tests/toolchain, runs."""
    outcome = start([str(program), "where"], mode)
    assert outcome.status == 0 and outcome.stderr == b"", outcome
    return outcome.stdout.decode().split()[0]


def build(driver: str, target: Path, *arguments: str) -> Path:
    subprocess.run([driver, *arguments, "-o", str(target)], check=True, timeout=60)
    return target


def one_line(outcome: Outcome, status: int, *words: str) -> None:
    assert outcome.status == status, outcome
    text = outcome.stderr.decode()
    assert text.startswith("multiverse: ") and text.count("\n") == 1, outcome
    assert all(word in text for word in words), outcome


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """program.c as a fat binary of each kind, made when asked for."""
    directory = tmp_path_factory.mktemp("programs")

    def make(kind: str) -> Path:
        target = directory / kind
        if not target.exists():
            build(CC, target, *KINDS[kind], str(SOURCES / "program.c"))
        return target

    return make


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users can enter, which pytest's are not."""
    directory = Path(tempfile.mkdtemp(prefix="toolchain-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


# ---- Linked ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_same_as_native(
    kind: str, programs: Callable[[str], Path], facts: dict[str, str], tmp_path: Path
) -> None:
    """All that a program can see of how it was started, and how it ends."""
    program = programs(kind)
    assert where(program) == where(program, "auto") == where(program, "require") == "HRT"
    assert where(program, "off") == "native"
    (tmp_path / "link").symlink_to(program)
    env = {"A": "1", "EMPTY": "", "PATH": "/bin"}
    for command in (
        [str(program), "a", "", "b c"],
        ["./link"],
        [str(program), "exit", "200"],
        [str(program), "kill", "15"],
        [str(program), "kill", "6"],
        [str(program), "fault"],
    ):
        outcomes = [
            start(command, mode, env=env, stdin=b"line\n" * 5000, cwd=tmp_path)
            for mode in ("off", "require", None)
        ]
        assert outcomes[0] == outcomes[1] == outcomes[2], command
    assert b"begun 1 preinit 1\n" in start([str(program)], "require").stdout


@pytest.mark.parametrize("kind", KINDS)
def test_cxx(kind: str, tmp_path: Path, facts: dict[str, str]) -> None:
    program = build(CXX, tmp_path / "program", *KINDS[kind], str(SOURCES / "program.cc"))
    assert where(program, "require") == "HRT"
    outcome = start([str(program)], "require")
    assert outcome == start([str(program)], "off")
    assert b"caught bottom\nthread 6\nglobals 2 each 5\n" in outcome.stdout
    assert outcome.status == 4


def with_library(driver: str, directory: Path) -> Path:
    words = ["-shared", "-fPIC", str(SOURCES / "library.c"), "-lm"]
    library = build(CC, directory / "libl.so", *words)
    assert multiverse("inspect", str(library)).returncode == 1
    words = ["-DWITH_LIBRARY", str(SOURCES / "program.c"), f"-L{directory}", "-ll"]
    return build(driver, directory / "program", *words, f"-Wl,-rpath,{directory}")


def test_shared_library(tmp_path: Path, facts: dict[str, str]) -> None:
    """Constructors of libraries run once; the library itself is the compiler's."""
    program = with_library(CC, tmp_path)
    assert where(program, "require") == "HRT"
    outcome = start([str(program)], "require")
    assert outcome == start([str(program)], "off")
    assert b"library 1\n" in outcome.stdout and b"library ends after 1\n" in outcome.stdout


def test_rseq_is_forgotten(programs: Callable[[str], Path], facts: dict[str, str]) -> None:
    """An HRT has no restartable sequences, so the C library must not believe that it has."""
    if start([str(programs("pie")), "rseq"], "off").stdout[:10] != b"registered":
        pytest.skip("the C library or Linux has no restartable sequences")
    for kind in KINDS:
        outcome = start([str(programs(kind)), "rseq"], "require")
        assert (outcome.status, outcome.stdout) == (0, b"forgotten\nprogram ends\n")


def test_started_by_the_dynamic_linker(
    programs: Callable[[str], Path], facts: dict[str, str]
) -> None:
    loader = "/lib64/ld-linux-x86-64.so.2"
    outcome = start([loader, str(programs("pie")), "where"], "require")
    assert outcome.stdout.startswith(b"HRT"), outcome


def test_children_decide_for_themselves(
    programs: Callable[[str], Path], facts: dict[str, str]
) -> None:
    program = programs("pie")
    for mode, expected in (("require", b"HRT\n"), ("off", b"native\n")):
        outcome = start([str(program), "child", f"{program} where"], mode)
        assert outcome.status == 0 and outcome.stdout.startswith(expected), outcome
    command = [str(program), "child", f"MULTIVERSE=off {program} where"]
    assert start(command, "require").stdout.startswith(b"native\n")


def test_under_multiverse_run(programs: Callable[[str], Path], facts: dict[str, str]) -> None:
    """It is in an HRT already, whose kind `run` has chosen; or shall not be in any."""
    program = str(programs("pie"))
    outcome = execute([program, "where"])
    assert outcome.stdout.startswith(b"HRT"), outcome
    assert multiverse("run", "--hvm=off", "--quiet", program, "where").stdout.startswith("native")


# ---- Where it cannot be ------------------------------------------------------------------------


def test_unknown_mode(programs: Callable[[str], Path]) -> None:
    for kind in KINDS:
        one_line(start([str(programs(kind))], "on"), 125, "MULTIVERSE", "auto")


def test_empty_mode_is_auto(programs: Callable[[str], Path], facts: dict[str, str]) -> None:
    assert where(programs("pie"), "") == "HRT"


@pytest.fixture(params=["absent", "forbidden"])
def without_kvm(request: pytest.FixtureRequest, open_directory: Path) -> list[str]:
    """Words before a command that take /dev/kvm away from it."""
    if os.geteuid() != 0:
        pytest.skip("taking /dev/kvm away needs root")
    if request.param == "forbidden":
        if Path("/dev/kvm").exists() and os.stat("/dev/kvm").st_mode & 6:
            pytest.skip("/dev/kvm is open to everybody")
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    empty = 'mount -t tmpfs none /dev && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", empty, "sh"]
    if subprocess.run([*words, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mount namespaces are not permitted")
    return words


@pytest.mark.parametrize("kind", KINDS)
def test_without_kvm(
    kind: str, programs: Callable[[str], Path], without_kvm: list[str], open_directory: Path
) -> None:
    """A plain Linux program; nothing on stderr, since nobody asked for more."""
    program = shutil.copy(programs(kind), open_directory / "program")
    for mode in (None, "auto", "off"):
        outcome = start([*without_kvm, program, "where"], mode)
        assert outcome.status == 0 and outcome.stdout.startswith(b"native"), outcome
        assert outcome.stderr == b""
    one_line(start([*without_kvm, program, "where"], "require"), 125, "/dev/kvm", "doctor")


LIMITS = {
    # enough to open /dev/kvm, or as much as the program takes natively, and no more
    "descriptors": (resource.RLIMIT_NOFILE, 4),
    "memory": (resource.RLIMIT_AS, 64 << 20),
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("kind", ["pie", "static"])
def test_not_enough(
    limit: str, kind: str, programs: Callable[[str], Path], facts: dict[str, str]
) -> None:
    """What fails half-way leaves nothing behind in the process."""
    which, value = LIMITS[limit]
    program = str(programs(kind))
    limited = [
        sys.executable,
        "-c",
        f"import os, resource, sys; resource.setrlimit({which}, ({value}, {value}));"
        "os.execv(sys.argv[1], sys.argv[1:])",
    ]
    command = [*limited, program, "child", "ls -l /proc/$PPID/fd; cat /proc/$PPID/maps | wc -l"]
    assert start([*limited, program, "where"], "auto").stdout.startswith(b"native")
    one_line(start([*limited, program, "where"], "require"), 125, "doctor")
    if limit == "descriptors":
        command[-1] = "cat /proc/$PPID/maps"
        outcome = start(command, "auto")
        assert b"kvm" not in outcome.stdout and outcome.status == 0


def test_set_user_id(programs: Callable[[str], Path], open_directory: Path) -> None:
    """It listens to nobody's environment, and is a plain program."""
    if os.geteuid() != 0:
        pytest.skip("set-user-ID programs of root need root")
    program = Path(shutil.copy(programs("pie"), open_directory / "program"))
    program.chmod(0o4755)
    other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    for mode in (None, "require", "nonsense"):
        outcome = start([*other, str(program), "where"], mode)
        assert outcome.stdout.startswith(b"native") and outcome.stderr == b"", outcome


# ---- Bad input ---------------------------------------------------------------------------------


def facts_of(path: Path | str) -> dict[str, object]:
    result = multiverse("inspect", "--json", str(path))
    found: dict[str, object] = json.loads(result.stdout)
    assert (result.returncode == 0) == found["fat"]
    return found


def patched(source: Path, target: Path, offset: int, value: bytes) -> Path:
    content = bytearray(source.read_bytes())
    assert content[offset : offset + len(value)] != value
    content[offset : offset + len(value)] = value
    target.write_bytes(content)
    target.chmod(0o755)
    return target


@pytest.mark.parametrize("kind", ["linked", "packed"])
def test_damaged(
    kind: str, programs: Callable[[str], Path], facts: dict[str, str], tmp_path: Path
) -> None:
    source = programs("pie")
    if kind == "packed":
        plain = build("cc", tmp_path / "plain", str(SOURCES / "program.c"))
        source = tmp_path / "source"
        assert multiverse("pack", str(plain), "-o", str(source)).returncode == 0
    what = facts_of(source)
    core, note = int(str(what["core_offset"])), int(str(what["note_offset"]))
    for at, value in (
        (core + int(str(what["core_size"])) // 2, b"\x5a\xa5\x5a\xa5"),
        (core, b"\0"),
        (note + 24 + 16, struct.pack("<Q", 1 << 40)),  # the core's size
    ):
        damaged = patched(source, tmp_path / "damaged", at, value)
        for mode in (None, "auto"):
            outcome = start([str(damaged), "where"], mode)
            assert outcome.stdout.startswith(b"native\n")
            one_line(outcome, 0, "damaged", "natively")
        one_line(start([str(damaged), "where"], "require"), 125, "damaged", "build")
        assert start([str(damaged), "where"], "off").stderr == b""
        shown = multiverse("inspect", str(damaged))
        assert "damaged" in shown.stdout + shown.stderr
    older = patched(source, tmp_path / "older", note + 24, struct.pack("<I", 0))
    one_line(start([str(older), "where"], None), 0, "another version", "natively")
    one_line(start([str(older), "where"], "require"), 125, "another version", "build")
    assert facts_of(older)["current"] is False


def test_pack_refuses(programs: Callable[[str], Path], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    text = tmp_path / "text"
    text.write_text("hello\n")
    truncated = tmp_path / "truncated"
    truncated.write_bytes(Path("/bin/true").read_bytes()[:3000])
    short = tmp_path / "short"
    short.write_bytes(b"\x7fELF\2\1\1")
    empty = tmp_path / "empty"
    empty.touch()
    object_file = build("cc", tmp_path / "x.o", "-c", str(SOURCES / "library.c"))
    library = build("cc", tmp_path / "l.so", "-shared", "-fPIC", str(SOURCES / "library.c"))
    set_id = Path(shutil.copy("/bin/true", tmp_path / "set-id"))
    set_id.chmod(0o4755)
    for path, word in (
        (script, "script"),
        (text, "not an ELF file"),
        (empty, "not an ELF file"),
        (truncated, "truncated"),
        (short, "damaged"),
        (object_file, "not an executable"),
        (library, "shared library"),
        (set_id, "set-user-ID"),
        (programs("pie"), "already"),
        (tmp_path, ""),
        (tmp_path / "missing", "No such file"),
    ):
        result = multiverse("pack", str(path), "-o", str(tmp_path / "out"))
        assert result.returncode in (2, 125) and word in result.stderr, result
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out").exists()
    for command in ("strip", "inspect"):
        for path in (text, truncated, short, empty):
            result = multiverse(command, str(path))
            assert result.returncode == 125 and result.stderr.count("\n") == 1, result
    result = multiverse("strip", "/bin/true", "-o", str(tmp_path / "out"))
    assert result.returncode == 125 and "nothing" in result.stderr


def test_any_bytes_are_survived(programs: Callable[[str], Path], tmp_path: Path) -> None:
    """Headers changed at random: one line, never a traceback."""
    import random

    chance = random.Random(5)
    content = programs("pie").read_bytes()
    from multiverse.toolchain.elf import Executable, Refused
    from multiverse.toolchain.fat import carried, strip
    from multiverse.toolchain.pack import pack

    for _ in range(400):
        changed = bytearray(content)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(0, 1000)] = chance.choice((0, 1, 127, 255))
        for act in (carried, strip, pack):
            try:
                act(Executable(bytes(changed)))
            except Refused as error:
                assert str(error) and "\n" not in str(error)


# ---- The compiler is the compiler --------------------------------------------------------------


def compiler(driver: str, *arguments: str, cwd: Path, stdin: bytes = b"") -> tuple[object, ...]:
    result = subprocess.run(
        [driver, *arguments], input=stdin, capture_output=True, cwd=cwd, timeout=60
    )
    files = {}
    for path in sorted(cwd.iterdir()):
        files[path.name] = path.read_bytes()
        path.unlink()
    return result.returncode, result.stdout, result.stderr, files


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["-dumpmachine"],
        ["-print-file-name=crt1.o"],
        ["-print-search-dirs"],
        ["-c", "SOURCE"],
        ["-S", "SOURCE", "-o", "-"],
        ["-E", "SOURCE"],
        ["-M", "SOURCE"],
        ["-MMD", "-c", "SOURCE"],
        ["-fsyntax-only", "SOURCE"],
        ["-shared", "-fPIC", "SOURCE", "-o", "out.so"],
        ["-r", "SOURCE", "-o", "out.o"],
        ["-nostdlib", "-Wl,-e,main", "LIBRARY", "-o", "out"],
        ["-x", "c", "-c", "-", "-o", "stdin.o"],
        ["missing.c"],
        ["-c", "missing.c"],
        ["--no-such-option", "SOURCE"],
        ["-Wl,--no-such-option", "SOURCE"],
        ["-DBROKEN=(", "-Wall", "BROKEN"],
        [],
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_passed_through(arguments: list[str], tmp_path: Path) -> None:
    """Status, both outputs and files are the compiler's."""
    broken = tmp_path / "broken.c"
    broken.write_text("int main(void) { return BROKEN; }\n")
    names = {
        "SOURCE": str(SOURCES / "program.c"),
        "LIBRARY": str(SOURCES / "library.c"),
        "BROKEN": str(broken),
    }
    words = [names.get(word, word) for word in arguments]
    directory = tmp_path / "cwd"
    directory.mkdir()
    plain = compiler("cc", *words, cwd=directory, stdin=b"int x;\n")
    fat = compiler(CC, *words, cwd=directory, stdin=b"int x;\n")

    def text(output: object) -> list[str]:
        """Temporary names differ from run to run."""
        import re

        assert isinstance(output, bytes)
        return re.sub(r"/tmp/cc\w+", "TEMP", output.decode()).splitlines()

    assert fat[0] == plain[0]
    assert text(fat[1]) == text(plain[1])
    assert text(fat[2]) == text(plain[2])
    assert fat[3] == plain[3]


@pytest.mark.parametrize(
    "how",
    [
        "response file",
        "object",
        "stdin",
        "-s",
        "-flto",
        "-Wl,--gc-sections",
        "-fuse-ld=gold",
        "-fsanitize=address",
    ],
)
def test_ways_to_link(how: str, tmp_path: Path, facts: dict[str, str]) -> None:
    source, target = SOURCES / "program.c", tmp_path / "out"
    if how == "response file":
        (tmp_path / "words").write_text(f"-O1 {source} -o '{target}'\n")
        subprocess.run([CC, f"@{tmp_path}/words"], check=True, timeout=60)
    elif how == "object":
        subprocess.run([CC, "-c", source, "-o", tmp_path / "x.o"], check=True, timeout=60)
        build(CC, target, str(tmp_path / "x.o"))
    elif how == "stdin":
        words = [CC, "-x", "c", "-", "-o", target]
        subprocess.run(words, input=source.read_bytes(), check=True, timeout=60)
    else:
        if how.endswith("gold") and not shutil.which("ld.gold"):
            pytest.skip("no ld.gold")
        build(CC, target, how, str(source))
    assert where(target, "require") == "HRT"


def test_clang(tmp_path: Path, facts: dict[str, str]) -> None:
    if not shutil.which("clang"):
        pytest.skip("no clang")
    for kind, options in KINDS.items():
        words = [CC, *options, str(SOURCES / "program.c"), "-o", str(tmp_path / kind)]
        subprocess.run(words, check=True, env={**os.environ, "MULTIVERSE_CC": "clang"}, timeout=60)
        assert where(tmp_path / kind, "require") == "HRT"


def test_musl(tmp_path: Path, facts: dict[str, str]) -> None:
    """musl calls nothing before constructors: its programs can be packed."""
    if not shutil.which("musl-gcc"):
        pytest.skip("no musl-gcc")
    (tmp_path / "hello.c").write_text('int puts(const char *); int main(void){puts("hello");}')
    for options in ([], ["-static"]):
        env = {**os.environ, "MULTIVERSE_CC": "musl-gcc"}
        words = [CC, *options, "-o", str(tmp_path / "x"), str(tmp_path / "hello.c")]
        subprocess.run(words, check=True, env=env, timeout=60)
        assert facts_of(tmp_path / "x") == {"fat": False}
        assert multiverse("pack", str(tmp_path / "x"), "-o", str(tmp_path / "y")).returncode == 0
        assert start([str(tmp_path / "y")], "require").stdout == b"hello\n"


def test_missing_compiler(tmp_path: Path) -> None:
    env = {**os.environ, "MULTIVERSE_CC": "/nonexistent/cc -O2"}
    result = subprocess.run([CC, "x.c"], env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 125
    assert result.stderr.count("\n") == 1 and "MULTIVERSE_CC" in result.stderr


def test_as_subcommand(tmp_path: Path) -> None:
    target = tmp_path / "out"
    result = multiverse("cc", str(SOURCES / "program.c"), "-o", str(target))
    assert result.returncode == 0 and facts_of(target)["kind"] == "linked"
    result = multiverse("c++", "--version")
    assert (
        result.stdout == subprocess.run(["c++", "--version"], capture_output=True).stdout.decode()
    )


MAKEFILE = """
CC = cc
OBJECTS = program.o library.o
LDLIBS = -lm
program: $(OBJECTS)
\t$(CC) $(LDFLAGS) -o $@ $(OBJECTS) $(LDLIBS)
"""
CONFIGURE = """#!/bin/sh
set -e
echo 'int main(void) { return 0; }' > conftest.c
${CC:-cc} conftest.c -o conftest
./conftest
echo '#include <stdio.h>' | ${CC:-cc} -E - > conftest.i
${CC:-cc} --version | head -1 > config.log
echo "CFLAGS = -O1 -DWITH_LIBRARY" > config.mk
"""


def test_build_system(tmp_path: Path, facts: dict[str, str]) -> None:
    """CC=multiverse-cc ./configure && make CC=multiverse-cc"""
    for name in ("program.c", "library.c"):
        shutil.copy(SOURCES / name, tmp_path)
    (tmp_path / "Makefile").write_text("include config.mk\n" + MAKEFILE)
    (tmp_path / "configure").write_text(CONFIGURE)
    env = {**os.environ, "CC": CC}
    subprocess.run(["sh", "./configure"], cwd=tmp_path, env=env, check=True, timeout=60)
    subprocess.run(["make", "-s", f"CC={CC}"], cwd=tmp_path, check=True, timeout=60)
    assert where(tmp_path / "program", "require") == "HRT"
    assert b"library 1\n" in start([str(tmp_path / "program")], "require").stdout


def test_what_is_linked_needs_nothing() -> None:
    """No library's function may be called before the library is ready."""
    words = ["nm", "--undefined-only", "--format=posix", linked_object()]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    needed = {tuple(line.split()[:2]) for line in done.stdout.splitlines()}
    # What --override adds may be absent.
    names = ("modules", "modules_end", "links", "links_end")
    needed.discard(("_GLOBAL_OFFSET_TABLE_", "U"))  # the linker's own
    assert needed == {(f"mv_fat_{name}", "w") for name in names}


# ---- Other tools, and taking it out ------------------------------------------------------------


def test_sizes(programs: Callable[[str], Path], tmp_path: Path) -> None:
    for kind, options in KINDS.items():
        plain = build("cc", tmp_path / kind, *options, str(SOURCES / "program.c"))
        added = programs(kind).stat().st_size - plain.stat().st_size
        assert 0 < added < ADDED_MAX


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tool", [["strip"], ["objcopy"], ["strip", "-R", ".comment"]])
def test_other_tools_keep_it(
    kind: str,
    tool: list[str],
    programs: Callable[[str], Path],
    facts: dict[str, str],
    tmp_path: Path,
) -> None:
    for source in (programs(kind), packed(kind, tmp_path)):
        copy = shutil.copy(source, tmp_path / "copy")
        subprocess.run([*tool, copy], check=True, timeout=60)
        assert facts_of(copy)["intact"] is True
        assert where(copy, "require") == "HRT"
        names = subprocess.run(["readelf", "-n", copy], capture_output=True, text=True)
        assert "Multiverse" in names.stdout


def packed(kind: str, directory: Path) -> Path:
    plain = directory / f"plain-{kind}"
    if not plain.exists():
        build("cc", plain, *KINDS[kind], str(SOURCES / "program.c"))
    target = directory / f"packed-{kind}"
    result = multiverse("pack", str(plain), "-o", str(target))
    assert result.returncode == 0, result
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_strip_linked(kind: str, programs: Callable[[str], Path], tmp_path: Path) -> None:
    program, bare = programs(kind), tmp_path / "bare"
    assert multiverse("strip", str(program), "-o", str(bare)).returncode == 0
    assert facts_of(bare) == {"fat": False}
    assert where(bare, "require") == "native"
    assert bare.stat().st_blocks < program.stat().st_blocks
    assert start([str(bare)], "off").stdout.count(b"begun 1 preinit 1") == 1
    assert multiverse("strip", str(bare)).returncode == 125


@pytest.mark.parametrize("kind", KINDS)
def test_strip_packed(kind: str, tmp_path: Path) -> None:
    target = packed(kind, tmp_path)
    assert facts_of(target)["kind"] == "packed"
    assert multiverse("strip", str(target)).returncode == 0
    assert target.read_bytes() == (tmp_path / f"plain-{kind}").read_bytes()
    assert os.access(target, os.X_OK)


def test_changed_since_packed(tmp_path: Path) -> None:
    target = packed("pie", tmp_path)
    subprocess.run(["strip", target], check=True, timeout=60)
    result = multiverse("strip", str(target))
    assert result.returncode == 125 and "changed" in result.stderr


# ---- Packed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("room", ["room", "no room"])
def test_packed_same_as_native(kind: str, room: str, facts: dict[str, str], tmp_path: Path) -> None:
    """With a program header to spare and without."""
    plain = tmp_path / "program"
    build("cc", plain, *KINDS[kind], str(SOURCES / "program.c"))
    if room == "no room":
        without_property_note(plain)
    target = tmp_path / "packed"
    assert multiverse("pack", str(plain), "-o", str(target)).returncode == 0
    assert where(target, "require") == "HRT"
    assert where(target, "off") == "native"
    assert facts_of(target)["intact"] is True
    env = {"A": "1", "PATH": "/bin"}
    for command in ([str(target), "a"], [str(target), "kill", "11"], [str(target), "exit", "9"]):
        native = start(command, "off", env=env, stdin=b"x\n")
        assert start(command, "require", env=env, stdin=b"x\n") == native
    one_line(start([str(target)], "nonsense"), 125, "MULTIVERSE")
    assert multiverse("strip", str(target)).returncode == 0
    assert target.read_bytes() == plain.read_bytes()


def without_property_note(program: Path) -> None:
    """Make the program headers of the GNU property ones of no meaning."""
    content = bytearray(program.read_bytes())
    (phoff,) = struct.unpack_from("<Q", content, 32)
    (phnum,) = struct.unpack_from("<H", content, 56)
    for i in range(phnum):
        if struct.unpack_from("<I", content, phoff + i * 56)[0] == 0x6474E553:
            struct.pack_into("<I", content, phoff + i * 56, 0)
    program.write_bytes(content)


REAL = {
    "/bin/true": ([], b""),
    "/bin/bash": (["-c", "trap 'echo bye' EXIT; echo $((6*7)); ls /proc/self/fd | wc -l"], b"42"),
    "/usr/bin/perl": (["-e", "print join ',', map { $_ * 2 } 1..5"], b"2,4"),
    "/usr/bin/python3": (["-c", "import json, threading; print(json.dumps([1, 2]))"], b"[1, 2]"),
    "/bin/busybox": (["sh", "-c", "echo a | tr a b"], b"b"),
}


@pytest.mark.parametrize("program", REAL)
def test_pack_real_programs(program: str, facts: dict[str, str], tmp_path: Path) -> None:
    if not Path(program).exists():
        pytest.skip(f"no {program}")
    arguments, expected = REAL[program]
    target = tmp_path / Path(program).name
    assert multiverse("pack", program, "-o", str(target)).returncode == 0
    native = start([str(target), *arguments], "off")
    assert start([str(target), *arguments], "require") == native
    assert expected in native.stdout and native.status == 0


def test_packed_takes_over_what_libraries_have_set_up(
    facts: dict[str, str], tmp_path: Path
) -> None:
    """Their constructors have run natively: handlers, masks, stacks, floating point."""
    plain, target = with_library("cc", tmp_path), tmp_path / "packed"
    assert multiverse("pack", str(plain), "-o", str(target)).returncode == 0
    assert where(target, "require") == "HRT"
    outcome = start([str(target)], "require")
    assert outcome == start([str(target)], "off")
    assert outcome.stdout.count(b"on its stack: 1") == 2
    # Threads that run already cannot be taken along.
    env = {**os.environ, "THREAD": "1"}
    assert start([str(target), "where"], "auto", env=env).stdout.startswith(b"native")
    one_line(start([str(target), "where"], "require", env=env), 125, "several threads")


def test_packed_is_hosted(facts: dict[str, str], tmp_path: Path) -> None:
    """A shell looks at its own descriptors."""
    target = tmp_path / "bash"
    assert multiverse("pack", "/bin/bash", "-o", str(target)).returncode == 0
    command = [str(target), "-c", "ls -l /proc/$$/fd; true"]
    assert b"kvm-vm" in start(command, "require").stdout
    assert b"kvm-vm" not in start(command, "off").stdout


def test_pack_in_place_and_mode(tmp_path: Path) -> None:
    program = Path(shutil.copy("/bin/true", tmp_path / "true"))
    program.chmod(0o750)
    before = program.read_bytes()
    assert multiverse("pack", str(program), "-o", str(program)).returncode == 0
    assert program.stat().st_mode & 0o7777 == 0o750 and facts_of(program)["fat"] is True
    assert multiverse("strip", str(program)).returncode == 0
    assert program.read_bytes() == before
    assert list(tmp_path.iterdir()) == [program]


OVERRIDES = str(Path(__file__).with_name("overrides") / "linked.toml")


@pytest.mark.parametrize("kind", KINDS)
def test_overrides(kind: str, facts: dict[str, str], tmp_path: Path) -> None:
    """In an HRT they are in force; natively everything is the legacy functions' again."""
    source = str(SOURCES / "overridden.c")
    program = build(CC, tmp_path / kind, *KINDS[kind], f"--override={OVERRIDES}", source)
    assert start([str(program)], "require").stdout == b"1 1 1 6\n"
    assert start([str(program)], "off").stdout == b"0 1 0 -38\n"


def test_overrides_of_objects(facts: dict[str, str], tmp_path: Path) -> None:
    """As build systems do it: the option is with every command, and means something to one."""
    target = tmp_path / "overridden.o"
    build(CC, target, "--override", OVERRIDES, "-c", str(SOURCES / "overridden.c"))
    program = build(CXX, tmp_path / "linked", "--override", OVERRIDES, str(target))
    assert start([str(program)], "require").stdout == b"1 1 1 6\n"
    carried = json.loads(multiverse("inspect", "--json", str(program)).stdout)
    assert carried["overrides"] == ["linked"]


def test_overrides_packed(facts: dict[str, str], tmp_path: Path) -> None:
    plain, packed = str(tmp_path / "plain"), str(tmp_path / "packed")
    command = ["cc", str(Path(__file__).with_name("guests_override") / "heap.c"), "-o", plain]
    subprocess.run(command, check=True)
    done = multiverse("pack", plain, "-o", packed, "--override=memory")
    assert (done.returncode, done.stderr) == (0, "")
    outcome = start([packed], "require")
    assert (outcome.status, outcome.stdout) == (0, b"refused 1\nright\n")
    assert json.loads(multiverse("inspect", "--json", packed).stdout)["overrides"] == ["memory"]
    assert multiverse("strip", packed).returncode == 0
    assert Path(packed).read_bytes() == Path(plain).read_bytes()
    both = tmp_path / "both.toml"
    both.write_text('sets = ["memory", "time"]\n')
    assert multiverse("pack", plain, "-o", packed, f"--override={both}").returncode == 0
    carried = json.loads(multiverse("inspect", "--json", packed).stdout)["overrides"]
    assert carried[-2:] == ["memory", "time"], carried
    refused = multiverse("pack", plain, "-o", packed, "--override=identity")
    assert refused.returncode == 125 and "takes over functions" in refused.stderr


def test_overrides_with_mistakes(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[[syscall]]\nname = "getpidd"\ncall = "nothing()"\n')
    command = [CC, f"--override={wrong}", str(SOURCES / "overridden.c"), "-o", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith(f"{wrong}:2: "), done.stderr
    assert not (tmp_path / "x").exists()

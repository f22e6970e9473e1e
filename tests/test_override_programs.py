"""Programs' functions that overrides take over: where they are, and how they are got at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import multiverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from override_files import CALL, F, Write, compiled, decode, function, no_warning

from multiverse.overrides import blob
from multiverse.overrides.errors import Mistakes, Unusable
from multiverse.overrides.patch import Beginning, beginning
from multiverse.overrides.program import File, Program

pytestmark = pytest.mark.usefixtures("cache")


LIBRARY = "int thing(int x) { volatile int y = x; return y + 1; }\n"
USER = "int thing(int); int main(void) { return thing(1); }\n"


def shared(tmp_path: Path, directory: str, name: str = "libthing.so") -> Path:
    (tmp_path / directory).mkdir()
    return compiled(tmp_path, f"{directory}/{name}", LIBRARY, "-shared", "-fPIC")


def test_the_dynamic_linkers_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUNPATH, LD_LIBRARY_PATH before it, LD_PRELOAD before all."""
    run, path, preload = (shared(tmp_path, name) for name in ("run", "path", "preload"))
    user = compiled(tmp_path, "user", USER, f"-L{run.parent}", "-lthing", "-Wl,-rpath,$ORIGIN/run")

    def where(library: str | None = None) -> Path:
        found = Program(str(user)).find("thing", library)
        assert found
        return Path(found.file.path)

    assert where() == run
    (link := path.parent / "link").symlink_to(user)  # $ORIGIN is where the file is
    in_link = Program(str(link)).find("thing", None)
    assert in_link and in_link.file.path == str(run)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(path.parent))
    assert where() == path
    monkeypatch.setenv("LD_PRELOAD", str(preload))
    assert where() == preload
    assert where(str(path)) == path and where(str(run)) == run
    with pytest.raises(Unusable, match=r"does not load libx.so; it loads user, libthing.so"):
        where("libx.so")


@pytest.mark.parametrize("flags", [["-static"], ["-static-pie"], ["-no-pie"]])
def test_programs_own_functions(tmp_path: Path, flags: list[str]) -> None:
    user = compiled(tmp_path, "user", LIBRARY + USER, *flags)
    found = Program(str(user)).find("thing", None)
    assert found and found.file.path == str(user)
    code = subprocess.run(
        ["objdump", "-d", "--disassemble=thing", user], capture_output=True, text=True
    ).stdout
    first = re.search(r"<thing>:\n\s+[0-9a-f]+:\s((?:[0-9a-f]{2} )+)", code)
    assert first and found.file.code(found.function, 8).hex(" ").startswith(first[1].strip())


def test_scripts(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"#!/usr/bin/env -S {sys.executable} -u\n")
    assert os.path.samefile(Program(str(script)).path, sys.executable)
    script.write_text("#!/bin/sh\n")
    assert Program(str(script)).path == "/bin/sh"
    script.write_text(f"#!{script}\n")
    with pytest.raises(Unusable, match="too many scripts"):
        Program(str(script))


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_a_program(tmp_path: Path, data: st.DataObject) -> None:
    """Its functions are found or not, or it is refused; nothing else happens."""
    user = tmp_path / "user"
    if not user.exists():
        compiled(tmp_path, "user", LIBRARY + USER, "-nostdlib", "-shared", "-fPIC")
    content = bytearray(user.read_bytes())
    headers = content[40:48]  # e_shoff
    tables = [range(64), range(64, 700), range(int.from_bytes(headers, "little"), len(content))]
    for _ in range(data.draw(st.integers(1, 4))):
        table = data.draw(st.sampled_from([*tables, range(len(content))]))
        content[data.draw(st.sampled_from(table))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    try:
        file = File(str(damaged))
        assert file.soname is None or isinstance(file.soname, str)
        for table in (file.dynamic, file.static):
            assert "other" not in table.names() or table.function("other")
            function = table.function("thing")
            if function:
                beginning(file.code(function, function.size), function.size)
    except Unusable as error:
        assert str(error)


MOVABLE = [
    ("b827000000 0f05 c3", 5, None, ()),  # mov $39, %eax; syscall; ret
    ("f30f1efa b827000000 0f05 c3", 9, None, ()),  # endbr64 before it
    ("55 4889e5 488b05aabbcc00 c3", 11, None, ((7, 11),)),  # mov 0xccbbaa(%rip), %rax
    ("c705aabbcc0078563412 c3", 10, None, ((2, 10),)),  # movl $0x12345678, 0xccbbaa(%rip)
    ("4883ec08 e8aabbcc00 c3", 9, None, ((5, 9),)),  # call
    ("e9aabbcc00 c3", 5, None, ((1, 5),)),  # jmp
    ("31c0 0f84aabbcc00 c3", 8, None, ((4, 8),)),  # je
    # Short branches become long ones, behind which displacements change.
    ("4885ff 7404 90909090 c3", 5, "4885ff 0f8400000000", ((5, 9),)),
    ("85ff 7409 488d0502000000 c3 31c0c3", 11, "85ff 0f8405000000 488d05feffffff",
     ((4, 8), (11, 15))),
    # What follows the function is padding until the next one.
    ("ebf0 | 0f1f8000000000 660f1f44000090", 5, "e9edffffff", ((1, 5),)),
    ("31c0c3 | 0f1f8000000000 660f1f440000", 5, "31c0c3", ()),
    ("c3 | cccccccccccccccccccccccccccccc", 5, "c3", ()),
    ("31c0c3 | 662e0f1f840000000000 6690 90", 5, "31c0c3", ()),
]  # fmt: skip
NOT_MOVABLE = [
    ("31c0c3", "is only 3 bytes long, with no room"),
    ("c3 | 0f1f8000000000", "is only 1 byte long"),  # there is no next one
    ("31c0c3 | b801000000c3", "is only 3 bytes long"),
    ("31c0c3 | 0f1f8000000000 660f1f8400000000c3", "is only 3 bytes long"),  # it is not aligned
    ("ebfe | 9090909090909090909090909090", "jumps back"),
    ("e302 90909090c3", "begins with a branch"),
    ("7400 7400 7400 c3", "begins with instructions"),
    ("31c0 0f05 c39090", "system call"),
    ("90 90 90 90 90 90 ebfa c3", "jumps back"),
    ("554889e5 5d ff0f ebf7 c3", "jumps back"),
    ("06 06 06 06 06 06", "does not begin with code"),
    ("90 90 90 90 90 06 ebfb c3", "jumps back"),  # behind what is no code
    ("", "does not say how long it is"),
]


def begun(code: str, address: int = 0) -> Beginning:
    """Of a function, which ends at the bar."""
    own, _, behind = code.partition("|")
    size = len(bytes.fromhex(own))
    return beginning(bytes.fromhex(own + behind), size, address)


@pytest.mark.parametrize(("code", "length", "moved", "displacements"), MOVABLE)
def test_beginnings(
    code: str, length: int, moved: str | None, displacements: tuple[tuple[int, int], ...]
) -> None:
    there = bytes.fromhex(code.replace("|", ""))[:length]
    wanted = bytes.fromhex(moved) if moved else there
    assert begun(code) == Beginning(there, wanted, displacements)


@pytest.mark.parametrize(("code", "why"), NOT_MOVABLE)
def test_beginnings_that_are_refused(code: str, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        begun(code)


def test_padding_ends_where_the_file_says() -> None:
    code = "31c0c3 | 9090909090 31c0c3"
    assert len(begun(code, 0x1008).code) == 5
    with pytest.raises(Unusable, match="is only 3 bytes long"):
        begun(code, 0x1000)


def test_blob(write: Write) -> None:
    """Everything in it is what core/abi/override.h says."""
    path = write(
        function("char *getenv(const char *name)", "f(name)", 'result = "errno"')
        + function("int atoi(const char *s)", "g(s)")
        + '[[import]]\nlegacy = "int puts(const char *s)"\n'
        + CALL.replace("f()", "h()"),
        "int puts(const char *s);\n"
        "static int64_t f(const char *s) { return s ? puts(s) : AK_FALLBACK; }\n"
        "static int g(const char *s) { return *s; }\nstatic int64_t h(void) { return 1; }\n",
    )
    content = blob([str(path)], sys.executable)
    head, answered, files, functions = decode(content)
    assert head.magic == 0x524F564D and head.version == 3 and head.size == len(content)
    assert head.image % 4096 == 0 and head.image + head.text_size + head.data_size == len(content)
    base = 0xFFFFFFFF86000000
    text = range(base, base + head.text_size)
    data = range(text.stop, text.stop + head.data_size)
    assert [call.nr for call in answered] == [39] and answered[0].wrapper in text
    libc = Program(sys.executable).find("getenv", None)
    assert libc
    status = os.stat(libc.file.path)
    assert [(f.device, f.inode, f.size, f.modified) for f in files] == [
        (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    ]
    getenv, atoi, puts, errno = functions
    raw = Path(libc.file.path).read_bytes()
    assert getenv.wrapper in text and getenv.original in data
    assert atoi.wrapper in text and atoi.original in data
    for taken in (getenv, atoi):
        assert bytes(taken.bytes)[: taken.length] == raw[taken.offset :][: taken.length]
        assert taken.length >= 5
    for needed in (puts, errno):
        assert needed.wrapper == 0 and needed.original in data and needed.original % 8 == 0
    assert len({f.original for f in functions}) == 4


def test_functions_that_are_not_there(write: Write) -> None:
    def refused(legacy: str, *more: str) -> str:
        with pytest.raises(Mistakes) as caught:
            blob([str(write(function(legacy, "f()", *more), F))], sys.executable)
        return str(caught.value)

    assert "did you mean getenv?" in refused("long getennv(void)")
    assert "does not load libx.so" in refused("long getenv(void)", 'library = "libx.so"')
    assert "only linked programs can call it" in refused("long other(void)", "new = true")


def test_how_functions_are_got_at(write: Write, tmp_path: Path) -> None:
    """`explain --program` says it of each."""
    path = write(
        function("size_t strlen(const char *s)", "f()")
        + function("char *getenv(const char *s)", "f()")
        + function("long squeezed(void)", "f()", "optional = true")
        + '[[import]]\nlegacy = "int strcmp(const char *a, const char *b)"\n',
        F,
    )
    done = multiverse("override", "explain", "--program", sys.executable, str(path))
    assert done.returncode == 0, done.stderr
    found = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if "  found" in line]
    assert found[0].endswith("an IFUNC: what its resolver chooses is taken over, whoever calls it")
    assert re.fullmatch(r"in libc.so.6: a jump takes the place of its first \d+ bytes", found[1])
    assert found[2].startswith("not: no file of ")
    assert found[3].endswith("an IFUNC: what its resolver chooses is called")
    assert "  found" not in multiverse("override", "explain", str(path)).stdout


def test_aliases_are_one_function(write: Write) -> None:
    path = write(function("long getppid(void)", "f()") + function("long __getppid(void)", "f()"), F)
    with pytest.raises(Mistakes):
        blob([str(path)], sys.executable)
    aliases = function("int open(const char *s)", "f()") + function("int open64(char *s)", "f()")
    with pytest.raises(Mistakes, match="open64 is open in libc.so.6 and is taken over twice"):
        blob([str(write(aliases, F))], sys.executable)


def test_functions_that_nobody_imports(write: Write, tmp_path: Path) -> None:
    """A warning: calls within the library are taken over all the same."""
    path = write(function("long atoll(const char *s)", "f()"), F)
    warnings: list[str] = []
    user = compiled(tmp_path, "user", "int main(void) { return 0; }\n")
    blob([str(path)], str(user), warnings.append)
    assert len(warnings) == 1 and warnings[0].startswith(f"{path}:2: warning: no file of {user}")


@pytest.mark.parametrize("legacy", ["nosuch", "squeezed", "atoll"])
def test_optional_functions(write: Write, tmp_path: Path, legacy: str) -> None:
    """Neither an error where it is not there or not suitable, nor a warning; nor its imports."""
    toml = function(f"long {legacy}(void)", "f()", "optional = true")
    path = write(
        toml + '[[import]]\nlegacy = "int nosuch2(void)"\n' + CALL.replace("f()", "g()"),
        "int nosuch2(void);\nstatic int64_t f(void) { return nosuch2(); }\n"
        "static int64_t g(void) { return 1; }\n",
    )
    user = compiled(
        tmp_path,
        "user",
        '__asm__(".type squeezed, @function; squeezed: ret; .size squeezed, 1; ret");\n'
        "int main(void) { return 0; }\n",
    )
    if legacy == "atoll":
        with pytest.raises(Mistakes, match="a function nosuch2"):
            blob([str(path)], str(user), no_warning)
    else:
        _, answered, _, functions = decode(blob([str(path)], str(user), no_warning))
        assert len(answered) == 1 and functions == []

"""Native programs: built with the AeroKernel alone, run under KVM by the core and in QEMU alone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import BUILT_GUESTS, GRACE, MULTIVERSE, SLOWNESS, multiverse
from test_aerokernel import PARTS

from multiverse.core import core_path
from multiverse.native.build import missing_line
from multiverse.native.report import describe, parse
from multiverse.native.run import encode

TESTS = Path(__file__).parent
BASICS = TESTS / "guests_native/basics.c"
HOSTILE = TESTS / "guests_native/hostile.c"
EXAMPLE = TESTS.parent / "examples/native/native.c"
QEMU = "qemu-system-x86_64"
LINUX_ONLY = {
    *("system_calls", "linux_knows", "a_clock", "refused", "refused_calls"),
    *("adopted", "interrupted", "handlers_change", "stack_grows", "mapped_anew"),
}
PROGRAMS = ("basics", "hostile", "native", *PARTS)
Run = Callable[..., subprocess.CompletedProcess[str]]


def source_of(name: str) -> Path:
    """Where a program's source is, by its name."""
    return {"basics": BASICS, "hostile": HOSTILE, "native": EXAMPLE}.get(
        name, TESTS / f"guests_aerokernel/{name}.c"
    )


def build(directory: Path, name: str) -> Path:
    """A native program, built once."""
    target = directory / f"native_{name}"
    if not target.exists():
        warnings = ("-Wall", "-Wextra", "-Werror")
        done = multiverse(
            "kernel", "build", "-O2", "-g", *warnings, str(source_of(name)), "-o", str(target)
        )
        assert (done.returncode, done.stderr) == (0, "")
    return target


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The path of a native program, by its name."""
    directory = Path(BUILT_GUESTS) if BUILT_GUESTS else tmp_path_factory.mktemp("native")
    return lambda name: str(build(directory, name))


def boot(*words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """multiverse kernel run."""
    return subprocess.run(
        [*MULTIVERSE, "kernel", "run", *words],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout * SLOWNESS,
    )


def boot_by_core(*words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """The same without its command line, whose start takes ten seconds in the testbed."""
    arguments = list(words)
    config = []
    while arguments[0].startswith("--"):
        config.append(arguments.pop(0)[2:].removesuffix("M"))
    reader, writer = os.pipe()
    try:
        config.append(f"report={writer}")
        done = subprocess.run(
            [str(core_path()), "kernel", ",".join(config), arguments[0], *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout * SLOWNESS,
            pass_fds=[writer],
        )
    finally:
        os.close(writer)
    with os.fdopen(reader) as report:
        ending = parse(report.read())
    line = describe(ending, arguments[0]) if ending else None
    if line:
        done.stderr += f"multiverse: kernel run: {arguments[0]}: {line}\n"
    return done


def find_run(way: str, request: pytest.FixtureRequest) -> Run:
    """One way to boot; skips where it is missing."""
    if way == "qemu":
        if not shutil.which(QEMU):
            pytest.skip(f"{QEMU} is not on PATH")
        return lambda *words, **options: boot("--qemu", "--accel=tcg", *words, **options)
    request.getfixturevalue("facts")
    return boot if way == "hvm" else boot_by_core


@pytest.fixture(params=["hvm", "qemu", "core"])
def run(request: pytest.FixtureRequest) -> Run:
    return find_run(request.param, request)


@pytest.fixture(params=["hvm", "qemu"])
def command(request: pytest.FixtureRequest) -> Run:
    """What only the command line does."""
    return find_run(request.param, request)


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


# ---- Programs that end by themselves -------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "status"), [(0, 0), (1, 1), (42, 42), (255, 255), (256, 0)])
def test_statuses(run: Run, native: Callable[[str], str], wanted: int, status: int) -> None:
    assert outcome(run(native("basics"), "status", str(wanted))) == (status, "", "")


def test_arguments(run: Run, native: Callable[[str], str]) -> None:
    words = ["", "a b", "%41,%", "-x", "--help", "grün", "\udcff\t\n", "x" * 300]
    done = run(native("basics"), "arguments", *words)
    shown = "".join(f"[{word}]\n" for word in ["arguments", *words])
    assert outcome(done) == (0, f"{len(words) + 2} 1\n{shown}", "")


def test_image_and_floating_point(run: Run, native: Callable[[str], str]) -> None:
    done = run(native("basics"), "image")
    assert outcome(done) == (0, "constructed 1, data 8, zeros 0\n", "")
    done = run(native("basics"), "floating")
    assert outcome(done) == (0, "199968\n397968\n595968\n793968\n", "")


def test_console_is_not_changed(run: Run, native: Callable[[str], str]) -> None:
    done = run(native("basics"), "bytes")
    assert done.stdout.replace("\n", "\r") == "\0\1\r\udcff"  # text mode reads \r as \n
    lines = run(native("basics"), "lines", "3000").stdout.splitlines()
    assert lines == [f"line {i}" for i in range(3000)]


@pytest.mark.parametrize("memory", ["32M", "200M"])
def test_all_memory_can_be_used(run: Run, native: Callable[[str], str], memory: str) -> None:
    assert outcome(run(f"--memory={memory}", native("basics"), "memory")) == (0, "1 1\n", "")


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_virtual_cpus(run: Run, native: Callable[[str], str], cpus: int) -> None:
    number = f"--cpus={cpus}"
    assert outcome(run(number, native("basics"), "cpus")) == (0, f"{cpus}\n", "")
    assert outcome(run(number, native("basics"), "leave")) == (77, "", "")


@pytest.mark.parametrize("name", PARTS)
def test_interface(run: Run, native: Callable[[str], str], name: str) -> None:
    """What of the AeroKernel's own tests needs no Linux."""
    done = run("--cpus=2", "--memory=512M", native(name), timeout=100)
    parts = [part for part in PARTS[name] if part not in LINUX_ONLY]
    if name == "cpus":
        parts.append("printed by the AeroKernel -5 ff")
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, parts, "")


# ---- Programs that do not ------------------------------------------------------------------------

FAULTS = {
    "read": "page fault reading 0x10, which is not mapped, at fault+",
    "write": "page fault writing 0x8, which is not mapped, at fault+",
    "code": "page fault writing 0x2[0-9a-f]+, which is not allowed, at fault+",
    "data": "page fault executing 0x2[0-9a-f]+, which is not allowed, at 0x2[0-9a-f]+",
    "null": "page fault executing 0x0, which is not mapped, at 0x0",
    "far": "page fault reading 0x7ffffffff000, which is not mapped, at fault+",
    "noncanonical": "general protection fault at fault+",
    "divide": "division by zero or overflow at fault+",
    "invalid": "invalid instruction at fault+",
    "breakpoint": "breakpoint at fault+",
    "syscall": "invalid instruction at fault+",
    "stack": "page fault writing 0xfffffffffffffff8, which is not mapped, at fault+",
}


@pytest.mark.parametrize("how", FAULTS)
def test_faults(run: Run, native: Callable[[str], str], how: str) -> None:
    done = run(native("basics"), "fault", how)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (139, "", 1), done
    assert done.stderr.startswith(f"multiverse: kernel run: {native('basics')}: "), done
    pattern = FAULTS[how].replace("fault+", r"fault\+")
    assert re.search(pattern, done.stderr), done
    assert " (rip=0x" in done.stderr and " r15=0x" in done.stderr


def test_a_handler_that_refuses(run: Run, native: Callable[[str], str]) -> None:
    done = run(native("basics"), "fault", "handler")
    assert (done.returncode, done.stdout) == (139, "asked about a write\n")
    assert "page fault writing" in done.stderr


def test_overruns(run: Run, native: Callable[[str], str]) -> None:
    done = run(native("basics"), "overrun")
    assert (done.returncode, done.stdout) == (134, "")
    assert "a stack has been overrun at deep+" in done.stderr
    done = run(native("basics"), "overrun", "thread")
    assert done.returncode == 134
    assert "a stack has been overrun by a thread; give it a larger one" in done.stderr


def test_triple_fault(run: Run, native: Callable[[str], str]) -> None:
    done = run(native("basics"), "triple")
    if run(native("basics"), "ring").stdout == "3\n":
        assert outcome(done) == (3, "", "")  # LIDT is not for ring 3
        return
    assert (done.returncode, done.stdout) == (139, "")
    assert done.stderr.startswith(f"multiverse: kernel run: {native('basics')}: triple fault")


@pytest.mark.parametrize("what", ["spin", "wait"])
def test_timeout(command: Run, native: Callable[[str], str], what: str) -> None:
    started = time.monotonic()
    done = command(f"--timeout={4 * SLOWNESS}", native("basics"), what)
    assert time.monotonic() - started >= 4 * SLOWNESS
    said = {"spin": "spinning\n", "wait": "waiting\n"}[what]
    assert (done.returncode, done.stdout) == (124, said)
    assert done.stderr.count("\n") == 1 and "not done after" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_it(command: Run, native: Callable[[str], str], number: signal.Signals) -> None:
    words = ["--qemu", "--accel=tcg"] if command is not boot else []
    process = subprocess.Popen(
        [*MULTIVERSE, "kernel", "run", *words, native("basics"), "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout and process.stdout.readline() == b"waiting\n"
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    rest, errors = process.communicate(timeout=GRACE + 20)  # until all that hold the pipe are gone
    assert (rest, errors) == (b"", b"")
    expected = -number if number == signal.SIGKILL else 128 + number
    assert process.returncode == expected


def test_hostile_requests(native: Callable[[str], str], facts: dict[str, str]) -> None:
    """Whatever is asked for at the doorbell, the monitor goes on, and so does the program."""
    done = boot_by_core("--cpus=2", native("hostile"), timeout=100)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.endswith("still there\n")


# ---- What cannot be run, or built ----------------------------------------------------------------


def test_files_that_are_no_native_programs(
    command: Run, native: Callable[[str], str], tmp_path: Path
) -> None:
    good = Path(native("basics")).read_bytes()
    files = {
        "linux": (Path("/bin/true").read_bytes(), 126),
        "text": (b"#!/bin/sh\n", 126),
        "empty": (b"", 126),
        "cut": (good[:5000], 126),
        "magic": (good.replace(b"AERONAT1"[::-1], b"x" * 8).replace(b"AERONAT1", b"x" * 8), 126),
    }
    if command is boot:  # the core's own; QEMU gives a program nothing that has a version
        at = good.index(b"AERONAT1"[::-1] if b"AERONAT1" not in good else b"AERONAT1")
        files["version"] = (good[: at + 8] + b"\x63" + good[at + 9 :], 126)
        files["layout"] = (good[: at + 12] + b"\x63" + good[at + 13 :], 126)
    for name, (content, status) in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(0o755)
        done = command(str(path))
        assert (done.returncode, done.stdout) == (status, ""), (name, done)
        assert done.stderr.startswith("multiverse: ") and done.stderr.count("\n") == 1, done
    done = command(str(tmp_path / "absent"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (127, "", 1)
    assert "not found" in done.stderr


def test_too_little_memory(run: Run, native: Callable[[str], str], tmp_path: Path) -> None:
    source = tmp_path / "big.c"
    source.write_text("char big[40 << 20]; int main(void) { return big[1]; }")
    program = str(tmp_path / "big")
    assert multiverse("kernel", "build", str(source), "-o", program).returncode == 0
    done = run("--memory=16M", program)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) in [(125, "", 1), (139, "", 1)]
    assert outcome(run("--memory=64M", program)) == (0, "", "")


def test_symbols_that_are_not_there(tmp_path: Path) -> None:
    source = tmp_path / "libc.c"
    source.write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n"
        'int main(void) { printf("%p", malloc(1)); return 0; }\n'
    )
    done = multiverse("kernel", "build", str(source), "-o", str(tmp_path / "libc"))
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and not (tmp_path / "libc").exists()
    assert last.startswith("multiverse: kernel build: not in the AeroKernel: ")
    assert {"printf", "malloc"} == set(re.findall("printf|malloc", last.split("see")[0]))
    assert last.endswith("see <aerokernel/console.h>, <aerokernel/memory.h>")
    source.write_text("void f(void) {}\n")
    done = multiverse("kernel", "build", str(source), "-o", str(tmp_path / "libc"))
    assert "no main()" in done.stderr.splitlines()[-1]


def test_errors_of_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "bad.c"
    source.write_text("int main(void) { return x; }\n")
    done = multiverse("kernel", "build", str(source))
    assert done.returncode == 1 and "bad.c:1" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("multiverse: kernel build: cc ended with")
    done = multiverse("kernel", "build")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    monkeypatch.setenv("CC", "no-such-compiler")
    done = multiverse("kernel", "build", str(source))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no-such-compiler: No such file or directory; install gcc" in done.stderr


def test_options_of_the_compiler(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("part.h").write_text("int part(void);\n")
    Path("part.c").write_text('#include "part.h"\nint part(void) { return NUMBER; }\n')
    Path("main.c").write_text(
        "#include <part.h>\n#include <string.h>\n"
        "void *memcpy(void *to, const void *from, unsigned long size)\n"
        "{ __builtin_trap(); return to && from && size ? to : 0; } // the AeroKernel has its own\n"
        "int main(void) { return part(); }\n"
    )
    assert multiverse("kernel", "build", "-c", "-DNUMBER=21", "part.c").returncode == 0
    done = multiverse("kernel", "build", "main.c", "part.o", "-I.", "-O0", "-g", "-Wl,-Map=m")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("m").exists() and outcome(command("./main")) == (21, "", "")


def test_thread_local_variables_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "tls.c"
    source.write_text("_Thread_local int x = 1; int main(void) { return x; }\n")
    done = multiverse("kernel", "build", str(source), "-o", str(tmp_path / "tls"))
    assert done.returncode == 1 and "ak_cpu_get()" in done.stderr


def test_the_core_refuses_bad_configurations(native: Callable[[str], str]) -> None:
    for config in ("memory=1", "cpus=0", "cpus=x", "cpus=65", "what=1", "ring=9999999999"):
        done = subprocess.run(
            [str(core_path()), "kernel", config, native("basics"), "x"],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1)


@pytest.mark.parametrize("word", ["--cpus=0", "--memory=3M", "--memory=x", "--timeout=0"])
def test_usage(word: str) -> None:
    done = boot(word, "program")
    assert done.returncode == 2 and done.stdout == ""


# ---- The example, and the parts of the command line ----------------------------------------------


def test_example(run: Run, native: Callable[[str], str]) -> None:
    outputs = {outcome(run(f"--cpus={cpus}", native("native"))) for cpus in (1, 3)}
    assert len(outputs) == 1
    status, output, errors = outputs.pop()
    assert (status, errors) == (0, "") and output.splitlines()[-1].startswith("all ")


def test_reports_are_anyones() -> None:
    assert parse("") is None and parse("status=999\n") is None and parse("status=x") is None
    assert parse("nonsense\nstatus=3\n") is not None
    for text in (
        "status=139 what=fault vector=99999999999999999999 error=zz address=",
        "status=139 what= = == rip=- cpu=",
        "status=139 what=machine reason=a_b rip=fffffffffffffffffffff",
        "status=134 what=overrun",
        "status=139 what=start why=\x1b[31mred",
    ):
        ending = parse(text)
        line = describe(ending, "/nowhere") if ending else None
        assert line and line.isprintable()


def test_words_of_a_command_line() -> None:
    assert encode(["a", "", "b c", "100%", "ü"]) == "a %00 b%20c 100%25 %C3%BC"


def test_names_in_linkers_words() -> None:
    gnu = "x.c:(.text+0x1): undefined reference to `puts'\nundefined reference to `memcpy2'"
    assert missing_line(gnu) == ("not in the AeroKernel: puts, memcpy2; see <aerokernel/console.h>")
    assert missing_line("ld.lld: error: undefined symbol: foo") == (
        "not in the AeroKernel: foo; see <aerokernel.h>"
    )
    assert missing_line("all is well") is None

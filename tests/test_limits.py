"""Scarce memory, descriptors, threads and rights; odd standard descriptors; headers that lie."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import HRT, Outcome, execute

from multiverse.core import core_path

SETPRIV = "/usr/bin/setpriv"


def one_line(outcome: Outcome, *allowed: int) -> None:
    assert outcome.status in allowed, outcome
    assert outcome.stdout == b""
    assert outcome.stderr.startswith(b"multiverse: "), outcome
    assert outcome.stderr.count(b"\n") == 1 and outcome.stderr.endswith(b"\n"), outcome


def limited(command: list[str], config: str | None, which: int, value: int) -> Outcome:
    argv = command if config is None else [str(core_path()), config, command[0], *command]

    def limit() -> None:
        resource.setrlimit(which, (value, value))

    result = subprocess.run(argv, capture_output=True, preexec_fn=limit, timeout=60)
    return Outcome(result.returncode, result.stdout, result.stderr)


@pytest.mark.parametrize("mib", [1, 4, 16, 64, 256, 700, 1024, 2048, 4096, 8192, 65536])
def test_address_space_limit(
    mib: int, guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    command = [guest("brk", "-static"), "x"]
    hybrid = limited(command, HRT, resource.RLIMIT_AS, mib << 20)
    if hybrid.stderr.startswith(b"multiverse: "):
        one_line(hybrid, 125, 126)
        return
    # It ran: then as natively, or, as we need some address space ourselves, as the program does
    # with somewhat less.
    native = [
        limited(command, None, resource.RLIMIT_AS, (mib << 20) - less)
        for less in (0, min(mib, 600) << 19)
    ]
    if mib < 2048:
        assert hybrid.status in (*(run.status for run in native), 98, 0), (hybrid, native)
        assert hybrid.status >= 0 or hybrid.status in [run.status for run in native], hybrid
    else:
        assert hybrid == native[0]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 16, 32])
def test_descriptor_limit(
    count: int, guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    command = [guest("vdso_time", "-static"), "x"]
    native = limited(command, None, resource.RLIMIT_NOFILE, count)
    hybrid = limited(command, HRT, resource.RLIMIT_NOFILE, count)
    if hybrid != native:
        one_line(hybrid, 125, 126)
    assert hybrid == native or count < 16, hybrid


@pytest.mark.timeout(180)
def test_out_of_threads(guest: Callable[..., str], facts: dict[str, str]) -> None:
    asked = int(facts.get("max_vcpus", "1024")) + 76
    if asked > 5000:
        pytest.skip(f"this KVM has {asked - 76} virtual CPUs, too many to use up in a test")
    outcome = execute([guest("many_threads"), str(asked)], timeout=120)
    assert outcome.status == 0, outcome
    if outcome.stderr:
        one_line(Outcome(0, b"", outcome.stderr), 0)
    lines = outcome.stdout.decode().split("\n")
    got = [int(line.split()[1]) for line in lines if line.startswith("got")]
    errors = [line.split()[1] for line in lines if line.startswith("error")]
    for number, error in zip(got, errors, strict=True):
        assert (number, error) == (asked, "none") or (number >= 500 and error == "EAGAIN")
    assert lines.count("all went on: yes") == 2
    assert got[0] == got[1]


@pytest.mark.parametrize(
    "closed", [c for n in range(1, 4) for c in itertools.combinations(range(3), n)], ids=str
)
def test_closed_standard_descriptors(
    closed: tuple[int, ...], tmp_path: Path, guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    program = guest("closed")
    redirections = " ".join(f"{fd}{'<' if fd == 0 else '>'}&-" for fd in closed)
    seen = []
    for name, front in (("native", ""), ("hrt", f"'{core_path()}' {HRT} '{program}'")):
        report = tmp_path / name
        script = f"exec {front} '{program}' '{report}' {redirections}"
        result = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=30)
        seen.append((result.returncode, result.stdout, result.stderr, report.read_text()))
    assert seen[0] == seen[1]
    assert seen[0][0] == 5
    assert seen[0][3].count("EBADF") == len(closed)


def test_standard_output_without_a_reader(hrt: Callable[..., Outcome]) -> None:
    for argv in (["/usr/bin/yes"], [str(core_path()), HRT, "/usr/bin/yes", "yes"]):
        read_end, write_end = os.pipe()
        with subprocess.Popen(argv, stdout=write_end, stderr=subprocess.PIPE) as process:
            os.close(write_end)
            assert os.read(read_end, 4) == b"y\ny\n"
            os.close(read_end)
            assert process.wait(30) == -13
            assert process.stderr and process.stderr.read() == b""


@pytest.mark.parametrize("program", ["/bin/echo", "/bin/ls", "/usr/bin/seq"])
def test_standard_output_that_is_full(program: str, same: Callable[..., Outcome]) -> None:
    result = same(["/bin/sh", "-c", f"exec {program} 1 >/dev/full"], config=f"{HRT},follow=1")
    assert result.status != 0


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users can enter, which pytest's are not."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_without_the_right_to_use_kvm(open_directory: Path) -> None:
    if os.geteuid() != 0 or not Path(SETPRIV).exists():
        pytest.skip("becoming another user needs root and setpriv (util-linux)")
    core = shutil.copy(core_path(), open_directory)
    front = [SETPRIV, "--reuid=65534", "--regid=65534", "--clear-groups", core]
    if Path("/dev/kvm").exists() and Path("/dev/kvm").stat().st_mode & 6:
        pytest.skip("everybody may use /dev/kvm here")

    def run(config: str) -> Outcome:
        argv = [*front, config, "/bin/echo", "echo", "ran"]
        result = subprocess.run(argv, capture_output=True, timeout=30)
        return Outcome(result.returncode, result.stdout, result.stderr)

    plain = run("hvm=auto")
    assert (plain.status, plain.stdout) == (0, b"ran\n")
    assert plain.stderr.startswith(b"multiverse: ") and plain.stderr.count(b"\n") == 1
    assert b"/dev/kvm" in plain.stderr
    assert run("quiet=1") == Outcome(0, b"ran\n", b"")
    one_line(run("require=1"), 125)
    one_line(run("require=1,quiet=1"), 125)


def test_told_to_run_natively() -> None:
    plain = execute(["/bin/echo", "x"], config="hvm=off")
    assert (plain.status, plain.stdout) == (0, b"x\n")
    assert plain.stderr.startswith(b"multiverse: ") and plain.stderr.count(b"\n") == 1
    assert execute(["/bin/echo", "x"], config="hvm=off,quiet=1") == Outcome(0, b"x\n", b"")
    one_line(execute(["/bin/echo", "x"], config="hvm=off,require=1"), 125)


def test_ring_0_where_there_is_none(facts: dict[str, str]) -> None:
    if facts["kind"] == "hardware":
        pytest.skip("this machine's KVM has a ring 0")
    advice = b"use --ring=auto, or multiverse testbed\n"
    plain = execute(["/bin/echo", "x"], config="ring=0")
    assert (plain.status, plain.stdout) == (0, b"x\n")
    assert plain.stderr.count(b"\n") == 1 and plain.stderr.endswith(advice)
    refused = execute(["/bin/echo", "x"], config="ring=0,require=1")
    one_line(refused, 125)
    assert refused.stderr.endswith(advice)


@pytest.mark.parametrize(
    "config",
    [
        "quiet=yes",
        "follow=",
        "ring=1",
        "ring=-3",
        "physbits=",
        "physbits=35",
        "physbits=53",
        "physbits=99999999999999999999",
        "stats=x",
        "stats=77",
        "stats=-1",
        "trace=77",
        "trace=0x3",
        "channel",
        "channel=fast",
        "channel=sync1",
        "pollers=",
        "pollers=-1",
        "roscpus=",
        "roscpus=1",
        "roscpus=0x",
        "roscpus=0xg",
        "roscpus=0x0",
        "hrtcpus=0x0",
        "=1",
        "unknown=1",
        "quiet=1;require=1",
    ],
)
def test_wrong_configuration(config: str) -> None:
    argv = [str(core_path()), config, "/bin/true", "true"]
    result = subprocess.run(argv, capture_output=True, timeout=30)
    one_line(Outcome(result.returncode, result.stdout, result.stderr), 125)


@pytest.mark.parametrize("words", [[], ["quiet=1"], ["quiet=1", "/bin/true"], ["probe", "x=1"]])
def test_wrong_number_of_arguments(words: list[str]) -> None:
    result = subprocess.run([core_path(), *words], capture_output=True, timeout=30)
    one_line(Outcome(result.returncode, result.stdout, result.stderr), 2, 125)


def test_a_stats_file_that_is_too_small(tmp_path: Path) -> None:
    fd = os.memfd_create("stats")
    os.ftruncate(fd, 100)
    argv = [str(core_path()), f"stats={fd}", "/bin/true", "true"]
    result = subprocess.run(argv, capture_output=True, timeout=30, pass_fds=[fd])
    os.close(fd)
    one_line(Outcome(result.returncode, result.stdout, result.stderr), 125)


# ---- ELF files whose headers lie: PT_LOAD entries are given as they shall stand in the file ----

CODE = b"\x31\xff\xb8\xe7\x00\x00\x00\x0f\x05"  # xor %edi,%edi; mov $231,%eax; syscall
BASE = 0x10000000


def header(count: int = 1, **fields: int) -> bytes:
    values = {
        "cls": 2,
        "data": 1,
        "type": 2,
        "machine": 62,
        "entry": BASE + 0x1000,
        "phoff": 64,
        "ehsize": 64,
        "phentsize": 56,
        "phnum": count,
        **fields,
    }
    return (
        b"\x7fELF"
        + bytes([values["cls"], values["data"], 1])
        + bytes(9)
        + struct.pack(
            "<HHIQQQIHHHHHH",
            values["type"],
            values["machine"],
            1,
            values["entry"],
            values["phoff"],
            0,
            0,
            values["ehsize"],
            values["phentsize"],
            values["phnum"],
            0,
            0,
            0,
        )
    )


def segment(
    kind: int = 1,
    flags: int = 5,
    offset: int = 0x1000,
    vaddr: int = BASE + 0x1000,
    filesz: int = 0x1000,
    memsz: int = 0x1000,
    align: int = 0x1000,
) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, vaddr, filesz, memsz, align)


def image(head: bytes, *segments: bytes, interpreter: bytes = b"") -> bytes:
    start = (head + b"".join(segments)).ljust(0x800, b"\0") + interpreter
    return start.ljust(0x1000, b"\0") + CODE.ljust(0x1000, b"\x90")


def interpreted(name: bytes, **fields: int) -> bytes:
    entry = {"kind": 3, "offset": 0x800, "vaddr": BASE + 0x800, "filesz": len(name), "memsz": 9}
    return image(header(2), segment(**{**entry, **fields}), segment(), interpreter=name)


GOOD = {
    "plain": image(header(), segment()),
    "with bss": image(header(2), segment(), segment(flags=6, vaddr=BASE + 0x5000, memsz=0x9123)),
    "alignment of no power": image(header(), segment(align=3)),
    "empty segment": image(header(2), segment(), segment(filesz=0, memsz=0, vaddr=0x123)),
    "no permissions": image(header(2), segment(), segment(flags=0, vaddr=BASE + 0x9000)),
    "unknown entries": image(header(3), segment(), segment(kind=0x6FFFFFF0), segment(kind=0)),
    "misaligned but congruent": image(
        header(2), segment(), segment(offset=0x1234, vaddr=BASE + 0x7234, filesz=5, memsz=5)
    ),
}


@pytest.mark.parametrize("what", GOOD)
def test_unusual_but_sound_elf(what: str, tmp_path: Path, same: Callable[..., Outcome]) -> None:
    path = tmp_path / "x"
    path.write_bytes(GOOD[what])
    path.chmod(0o755)
    assert same([str(path)]).status == 0


LIES = {
    "not sorted": image(header(2), segment(flags=6, vaddr=BASE + 0x5000), segment()),
    "overlapping": image(header(2), segment(), segment(flags=4, vaddr=BASE + 0x1000)),
    "class 32": image(header(cls=1), segment()),
    "class 3": image(header(cls=3), segment()),
    "i386": image(header(cls=1, machine=3), segment()),
    "riscv": image(header(machine=243), segment()),
    "core file": image(header(type=4), segment()),
    "entry size": image(header(phentsize=55), segment()),
    "entry size 0": image(header(phentsize=0), segment()),
    "65535 entries": image(header(phnum=65535), segment()),
    "table behind the end": image(header(phoff=0x1FFF), segment()),
    "table wraps": image(header(phoff=(1 << 64) - 8), segment()),
    "kernel address": image(header(), segment(vaddr=0xFFFF800000001000)),
    "non-canonical": image(header(), segment(vaddr=0x0123456789001000)),
    "end wraps": image(header(), segment(memsz=(1 << 64) - 0x2000)),
    "vast bss": image(header(), segment(flags=7, memsz=1 << 46)),
    "file part larger than memory": image(header(), segment(filesz=0x1000, memsz=0x800)),
    "not congruent": image(header(), segment(vaddr=BASE + 0x1010)),
    "offset wraps": image(header(), segment(offset=(1 << 64) - 0x1000)),
    "at zero": image(header(entry=0), segment(vaddr=0)),
    "top of user space": image(header(), segment(vaddr=0x7FFFFFFFE000, memsz=0x10000)),
    "interpreter missing": interpreted(b"/nonexistent/ld.so\0"),
    "interpreter is a directory": interpreted(b"/tmp\0"),
    "interpreter is a device": interpreted(b"/dev/null\0"),
    "interpreter is no ELF": interpreted(b"/etc/passwd\0"),
    "interpreter not ended": interpreted(b"/lib64/ld-linux-x86-64.so.2"),
    "interpreter empty": interpreted(b"\0"),
    "interpreter of no length": interpreted(b"/bin/sh\0", filesz=0),
    "interpreter too long": interpreted(b"/" * 5000 + b"\0"),
    "interpreter behind the end": interpreted(b"/bin/sh\0", offset=1 << 40),
}


@pytest.mark.parametrize("what", LIES)
def test_elf_that_lies(what: str, tmp_path: Path, hrt: Callable[..., Outcome]) -> None:
    path = tmp_path / "x"
    path.write_bytes(LIES[what])
    path.chmod(0o755)
    native = None
    try:
        native = subprocess.run([path], capture_output=True, timeout=20).returncode
    except OSError as error:
        native_says = error.strerror
    outcome = execute([str(path)], timeout=20)
    if native is None:
        # Where Linux refuses, so do we, as a shell would, or because we only host 64-bit x86.
        assert outcome.status in (125, 126, 127), (outcome, native_says)
        one_line(outcome, outcome.status)
    elif outcome.stderr:
        # Linux kills what it finds unsound only when it is too late to refuse: we may refuse. What
        # it runs all the same we may not host, and then leave to it.
        one_line(outcome, 125, *((126, 127) if native < 0 else ()))
        if native >= 0:
            assert execute([str(path)], config="quiet=1", timeout=20).status == native
    else:
        assert outcome.status == native


def test_a_program_that_is_its_own_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(interpreted(bytes(path) + b"\0"))
    path.chmod(0o755)
    outcome = execute([str(path)], timeout=20)
    native = subprocess.run([path], capture_output=True, timeout=20).returncode
    assert outcome.status == native or outcome.status in (125, 126), (outcome, native)


SCRIPTS = {
    "no interpreter": b"#!\n",
    "blanks": b"#!   \t \n",
    "directory": b"#!/tmp\n",
    "not executable": b"#!/etc/passwd\n",
    "carriage return": b"#!/bin/sh\r\necho x\n",
    "very long": b"#!/" + b"x" * 600 + b"\n",
    "no newline": b"#!/bin/echo",
    "one argument with blanks": b"#!/bin/echo  a  b c \n",
    "nul": b"#!/bin/echo\0 x\n",
    "relative": b"#!sh\n",
    "tab": b"#!\t/bin/echo\tz\n",
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_scripts(what: str, tmp_path: Path, hrt: Callable[..., Outcome]) -> None:
    path = tmp_path / "script"
    path.write_bytes(SCRIPTS[what])
    path.chmod(0o755)
    outcome = execute([str(path), "arg"])
    try:
        result = subprocess.run([path, "arg"], capture_output=True, timeout=20)
        assert outcome == Outcome(result.returncode, result.stdout, result.stderr)
    except OSError:
        one_line(outcome, 125, 126, 127)


@pytest.mark.parametrize("depth", [2, 4, 5, 6, 8])
def test_script_chain(depth: int, tmp_path: Path, hrt: Callable[..., Outcome]) -> None:
    before = "/bin/echo"
    for number in range(depth):
        path = tmp_path / f"s{number}"
        path.write_text(f"#!{before} {number}\n")
        path.chmod(0o755)
        before = str(path)
    outcome = execute([before, "end"])
    try:
        result = subprocess.run([before, "end"], capture_output=True, timeout=20)
        assert outcome == Outcome(result.returncode, result.stdout, result.stderr)
    except OSError:
        one_line(outcome, 126)

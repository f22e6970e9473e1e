"""Boot a native program: in a virtual machine of the core's, or in QEMU."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from elftools.elf.elffile import ELFFile

from multiverse.core import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, core_path, probe
from multiverse.crash.symbols import BROKEN
from multiverse.native.report import STATUS_FAULT, Ending, parse

QEMU = "qemu-system-x86_64"
MAGIC = (0x3154414E4F524541).to_bytes(8, "little")  # abi/boot.h
BASE = 0x200000
PR_SET_PDEATHSIG = 1
EXIT_TIMEOUT = 124  # as timeout(1) has it
GDB_PORT = 1234
REPORT_BYTES_MAX = 1 << 16
CHUNK = 1 << 16
#: Bytes of a word that stand for themselves on a command line.
PLAIN = frozenset(range(0x21, 0x7F)) - {ord("%"), ord(",")}


class RunError(Exception):
    """The program could not be run: a status, and one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Machine:
    """The program's machine. memory: MiB; timeout: seconds."""

    memory: int = 256
    cpus: int = 1
    ring: str = "auto"
    timeout: float | None = None


def check_program(path: str) -> None:
    """Raise RunError unless the file is a native program."""
    advice = "make one by multiverse kernel build"
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            loads = list(ELFFile(file).iter_segments("PT_LOAD"))
            native = loads[0]["p_vaddr"] == BASE and loads[0].data()[:8] == MAGIC
            native = native and all(s["p_offset"] + s["p_filesz"] <= size for s in loads)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(EXIT_NOT_FOUND, f"{path}: not found; check the name") from None
    except PermissionError as error:
        raise RunError(EXIT_NOT_EXECUTABLE, f"{path}: {error.strerror}; check the file") from None
    except BROKEN:
        native = False
    if not native:
        raise RunError(EXIT_NOT_EXECUTABLE, f"{path}: not a native program; {advice}")


def encode(words: Sequence[str]) -> str:
    """The command line for these words, as a native program takes it apart."""
    encoded = []
    for word in words:
        data = os.fsencode(word) or b"\0"
        encoded.append("".join(chr(b) if b in PLAIN else f"%{b:02X}" for b in data))
    return " ".join(encoded)


def _die_with_parent() -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare


@contextlib.contextmanager
def _child(command: Sequence[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when this one does, and with the block."""
    process: subprocess.Popen[bytes] = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent(), **options
    )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _late(path: str, timeout: float | None) -> RunError:
    return RunError(EXIT_TIMEOUT, f"{path}: not done after {timeout:g} s; raise --timeout")


def run_hvm(path: str, arguments: Sequence[str], machine: Machine) -> Ending:
    """Run under KVM through the core, standard output being the console. Raises RunError."""
    reader, writer = os.pipe()
    config = f"memory={machine.memory},cpus={machine.cpus},ring={machine.ring},report={writer}"
    command = [str(core_path()), "kernel", config, path, path, *arguments]
    with os.fdopen(reader, "rb") as report:
        try:
            with _child(command, pass_fds=[writer]) as process:
                os.close(writer)
                writer = -1
                status = process.wait(machine.timeout)
        except subprocess.TimeoutExpired:
            raise _late(path, machine.timeout) from None
        finally:
            if writer >= 0:
                os.close(writer)
        ending = parse(report.read(REPORT_BYTES_MAX).decode(errors="replace"))
    if ending is not None and status >= 0:
        return ending
    return Ending(128 - status if status < 0 else status)


def _accelerator(wanted: str) -> str:
    """KVM where it executes what a kernel does, else the emulator."""
    if wanted != "auto":
        return wanted
    facts = probe()
    return "kvm" if facts.get("kvm") == "1" and facts.get("kind") == "hardware" else "tcg"


def qemu_command(
    path: str,
    arguments: Sequence[str],
    machine: Machine,
    accel: str,
    report: int,
    resets: int,
    gdb: bool,
) -> list[str]:
    """QEMU's command. report, resets: descriptors of files for the report, and for resets."""
    command = [
        *(QEMU, "-accel", accel, "-cpu", "host" if accel == "kvm" else "max"),
        *("-m", f"{machine.memory}M", "-smp", str(machine.cpus)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
        *("-chardev", f"file,id=report,path=/dev/fd/{report}"),
        *("-device", "isa-debugcon,iobase=0xe9,chardev=report"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
        *("-d", "cpu_reset", "-D", f"/dev/fd/{resets}"),
        *("-kernel", path, "-append", encode([path, *arguments])),
    ]
    return [*command, "-gdb", f"tcp:127.0.0.1:{GDB_PORT}", "-S"] if gdb else command


def _copy(source: IO[bytes], deadline: float | None) -> bool:
    """Copy to standard output. Returns False when the time is over first."""
    descriptor = source.fileno()
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([descriptor], [], [], left)[0]:
            return False
        data = os.read(descriptor, CHUNK)
        if not data:
            return True
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


def _stopped(resets: str) -> Ending:
    """A machine that has stopped without a report. resets: what QEMU has said of why."""
    triple = "Triple fault" in resets
    words = {"what": "machine", "reason": "triple_fault" if triple else "the_machine_has_stopped"}
    return Ending(STATUS_FAULT, words)


def _memory_file(name: str) -> IO[bytes]:
    return os.fdopen(os.memfd_create(name), "r+b")


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def run_qemu(
    path: str, arguments: Sequence[str], machine: Machine, accel: str = "auto", gdb: bool = False
) -> Ending:
    """Run stand-alone, standard output being the serial port. accel: auto, kvm or tcg.

    Raises RunError.
    """
    if not shutil.which(QEMU):
        raise RunError(125, f"{QEMU}: not found; apt-get install qemu-system-x86")
    check_program(path)
    accel = _accelerator(accel)
    deadline = None if machine.timeout is None else time.monotonic() + machine.timeout
    # In memory: nothing is left behind however this ends.
    with _memory_file("report") as report, _memory_file("resets") as resets:
        files = (report.fileno(), resets.fileno())
        command = qemu_command(path, arguments, machine, accel, *files, gdb)
        with (
            _memory_file("stderr") as stderr,
            _child(command, stdout=subprocess.PIPE, stderr=stderr, pass_fds=files) as qemu,
        ):
            assert qemu.stdout is not None
            if not _copy(qemu.stdout, deadline):
                raise _late(path, machine.timeout)
            status = qemu.wait()
            said = _text(stderr).strip().splitlines()
        ending = parse(_text(report))
        if ending is not None:
            return ending
        if status < 0:
            return Ending(128 - status)
        if status:
            raise RunError(125, f"{QEMU}: {said[-1] if said else f'ended with status {status}'}")
        return _stopped(_text(resets))

"""Find what the testbed is made of, and boot it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from multiverse.testbed import guard

#: What QEMU's emulator lacks of its EPYC model; it would say so at every start.
NOT_EMULATED = (
    "rdseed", "sha-ni", "fxsr-opt", "misalignsse", "3dnowprefetch", "osvw", "topoext", "nrip-save",
    "xsavec",
)  # fmt: skip
MODULE = "kvm_amd"
#: Variables of the caller's that the command gets. PATH finds the same programs.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TERM")
#: What the guest's script says of itself, before it says the command's status.
RUNNING, NO_MODULE = "running", "no module"
COPIED = 1 << 16  # bytes at a time


class TestbedError(Exception):
    """The testbed could not run the command: what failed, and what to do, on one line."""

    __test__ = False  # not one of pytest's


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the parts are."""

    vng: Path
    kernel: Path


@dataclass(frozen=True, slots=True)
class Machine:
    """The emulated machine.

    Attributes:
        cpu: QEMU's processor model and features, without SVM, which it always has.
        phys_bits: width of physical addresses.
        cpus: processors.
        memory: as QEMU takes it, such as "2G".
        writable: directories that the command may change; all others only seem to change.
        plain: a Linux guest and nothing more: no SVM, no KVM in it.
        kvm: this machine's KVM executes it, on a processor like this machine's; only if plain.
    """

    cpu: str = "EPYC"
    phys_bits: int = 48
    cpus: int = 2
    memory: str = "2G"
    writable: tuple[Path, ...] = ()
    plain: bool = False
    kvm: bool = False


def kernels(root: Path = Path("/")) -> list[Path]:
    """Kernel images under `root` whose modules have KVM for AMD processors, newest first."""
    found = []
    for image in (root / "boot").glob("vmlinuz-*"):
        version = image.name.removeprefix("vmlinuz-")
        if any((root / "lib/modules" / version / "kernel/arch/x86/kvm").glob("kvm-amd.ko*")):
            found.append(image)
    return sorted(found, key=lambda image: image.stat().st_mtime, reverse=True)


def find_tools() -> Tools:
    """Find virtme-ng, QEMU and a kernel. Raises TestbedError naming all that is missing."""
    packages = []
    if not shutil.which("qemu-system-x86_64"):
        packages.append("qemu-system-x86")
    if not shutil.which("modprobe", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"):
        packages.append("kmod")
    images = kernels()
    if not images:
        packages.append("linux-image-amd64")
    beside = Path(sys.executable).with_name("vng")
    vng = str(beside) if beside.exists() else shutil.which("vng")
    commands = [f"apt-get install {' '.join(packages)}"] if packages else []
    if not vng:
        packages.append("virtme-ng")
        commands.append("pip install virtme-ng")
    if not vng or packages:
        raise TestbedError(f"{', '.join(packages)}: not found; {' and '.join(commands)}")
    return Tools(Path(vng), images[0])


def command_line(tools: Tools, machine: Machine) -> list[str]:
    """The command that boots the machine, without what it shall run."""
    # QEMU's IRET reads its stack as a kernel would, at ring 3, too. Where there is SMAP the guest
    # takes the fault for one of its kernel's (mended in QEMU 9.1).
    features = [f"phys-bits={machine.phys_bits}", "-smap"]
    if not machine.plain:
        features = ["+svm", "+npt", *features]
    if machine.cpu.startswith("EPYC"):
        features += [f"-{name}" for name in NOT_EMULATED]
    # --disable-kvm: the host's may have no SVM to offer; --disable-microvm: that has no PCI.
    # thread=single: the emulator's processors take turns. When they run at once QEMU (7.2 and 10.0)
    # now and then executes patched code as it was, and takes host state for a guest's.
    processor = (
        ["--qemu-opts=-cpu host"]
        if machine.kvm
        else [
            "--disable-kvm",
            f"--qemu-opts=-accel tcg,thread=single -cpu {','.join([machine.cpu, *features])}",
        ]
    )
    return [
        *(str(tools.vng), "--run", str(tools.kernel), "--disable-microvm"),
        *("--cpus", str(machine.cpus), "--memory", machine.memory, "--cwd", os.getcwd()),
        *(f"--rwdir={directory.resolve()}" for directory in machine.writable),
        *processor,
    ]


def _with_environment(command: Sequence[str]) -> str:
    """The command as a shell takes it, with what it gets of this process's environment."""
    passed = [f"{name}={os.environ[name]}" for name in PASSED_ON if name in os.environ]
    return shlex.join(["env", *passed, *command])


def _with_pipes(words: str) -> str:
    """A shell command that runs another whose standard streams are pipes.

    virtme-ng's are ports that only one can open at a time: /dev/stderr would be busy.
    """
    return (
        "exec 3<&0; p=$(mktemp -d); mkfifo $p/0 $p/1 $p/2; "
        "cat <&3 >$p/0 & cat <$p/1 & o=$!; cat <$p/2 >&2 & e=$!; "
        f"{words} <$p/0 >$p/1 2>$p/2 3<&-; s=$?; wait $o $e; (exit $s)"
    )


def _pipe_instead(descriptor: int) -> int | None:
    """PIPE for files and sockets, which open once more by name to something else or not at all.

    QEMU opens its standard streams so, several times: a file would lose what is in it, and two
    streams to one file would overwrite each other.
    """
    mode = os.fstat(descriptor).st_mode
    return subprocess.PIPE if stat.S_ISREG(mode) or stat.S_ISSOCK(mode) else None


def _copy(source: IO[bytes], target: int) -> None:
    """Write what comes to a descriptor, until there is no more or it takes no more."""
    with source, contextlib.suppress(OSError):
        while data := os.read(source.fileno(), COPIED):
            while data:
                data = data[os.write(target, data) :]


def _boot(tools: Tools, arguments: Sequence[str], timeout: float | None = None) -> None:
    """Run vng to its end; whatever ends this earlier, SIGKILL too, ends the machine."""
    # vng looks for its other half on PATH.
    path = f"{tools.vng.parent}:{os.environ.get('PATH', os.defpath)}"
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb") as wanted:
        process = subprocess.Popen(
            [sys.executable, "-m", guard.__name__, str(reader), *arguments],
            env={**os.environ, "PATH": path},
            pass_fds=[reader],
            stdout=_pipe_instead(1),
            stderr=_pipe_instead(2),
        )
        streams = ((process.stdout, 1), (process.stderr, 2))
        copiers = [Thread(target=_copy, args=stream) for stream in streams if stream[0]]
        for copier in copiers:
            copier.start()
        try:
            process.wait(timeout)
        finally:
            wanted.close()
            process.wait()
            for copier in copiers:
                copier.join()


def _in_machine(
    machine: Machine, words: str, how: Sequence[str], what: str, timeout: float | None
) -> int:
    """Boot, run a shell command in the machine, and return its exit status.

    words: the command, for a shell. how: options of vng's, of which the last is followed by the
    script to run. what: the command's name. timeout: seconds for all of it, or None.
    """
    tools = find_tools()
    with tempfile.TemporaryDirectory(prefix="multiverse-testbed-") as directory:
        status = Path(directory, "status")
        load = (
            ":"
            if machine.plain
            else f"/sbin/modprobe {MODULE} || {{ echo {NO_MODULE} >{status}; exit 1; }}"
        )
        # virtme-ng makes them names of devices.
        names = enumerate(("stdin", "stdout", "stderr"))
        links = "; ".join(f"ln -sfn /proc/self/fd/{fd} /dev/{name}" for fd, name in names)
        # A file, since the kernel's command line takes 2 KiB.
        script = Path(directory, "script")
        script.write_text(
            f'#!/bin/sh\n[ "$#" -gt 0 ] && exec /bin/sh "$@"\n'  # virtme-ng's own use of a shell
            f"echo {RUNNING} >{status}; {links}; {load}; {words}; echo $? >{status}\n"
        )
        script.chmod(0o755)
        boot = [*command_line(tools, machine), f"--rwdir={directory}", *how, str(script)]
        try:
            _boot(tools, boot, timeout)
        except subprocess.TimeoutExpired:
            raise TestbedError(f"{what}: not done after {timeout:g} s") from None
        said = status.read_text().strip() if status.exists() else ""
    if said == NO_MODULE:
        raise TestbedError(f"{tools.kernel}: loading {MODULE} failed; try another --cpu")
    if said == RUNNING:
        raise TestbedError(f"{what}: the machine stopped; give it more --memory")
    if not said.isdecimal():
        raise TestbedError(f"{tools.kernel}: does not boot; try another --cpu or more --memory")
    return int(said)


def run(command: Sequence[str], machine: Machine, timeout: float | None = None) -> int:
    """Boot, run a command with this process's standard streams, and return its exit status.

    It ends when nobody has the command's output open any more. timeout: seconds for all of it, or
    None.
    Raises TestbedError if something is missing, the machine does not boot or dies, or the time is
    over.
    """
    words = _with_pipes(_with_environment(command))
    return _in_machine(machine, words, ["--exec"], command[0], timeout)


def shell(machine: Machine) -> int:
    """Boot, give the user a shell at this terminal, and return its exit status.

    Raises TestbedError as run() does.
    """
    user_shell = os.environ.get("SHELL", "/bin/sh")
    return _in_machine(machine, _with_environment([user_shell]), ["--shell"], user_shell, None)

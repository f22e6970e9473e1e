"""`multiverse testbed`: what it needs, and how it ends. What runs in it: test_ring0.py."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
from conftest import MULTIVERSE, multiverse

from multiverse.testbed import boot, guard


def add_kernel(root: Path, version: str, module: bool, age: int) -> Path:
    image = root / "boot" / f"vmlinuz-{version}"
    image.parent.mkdir(exist_ok=True)
    image.touch()
    os.utime(image, (1e9 - age, 1e9 - age))
    modules = root / "lib/modules" / version / "kernel/arch/x86/kvm"
    modules.mkdir(parents=True)
    if module:
        (modules / "kvm-amd.ko.xz").touch()
    return image


def test_the_newest_kernel_with_kvm_is_taken(tmp_path: Path) -> None:
    old = add_kernel(tmp_path, "6.1.0-1-amd64", True, 20)
    new = add_kernel(tmp_path, "6.1.0-2-amd64", True, 10)
    add_kernel(tmp_path, "6.1.0-3-cloud-amd64", False, 0)
    assert boot.kernels(tmp_path) == [new, old]


def test_all_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot.shutil, "which", lambda *_args, **_options: None)
    monkeypatch.setattr(boot.sys, "executable", "/nowhere/python")
    monkeypatch.setattr(boot, "kernels", lambda: [])
    with pytest.raises(boot.TestbedError) as error:
        boot.find_tools()
    message = str(error.value)
    assert "apt-get install qemu-system-x86 kmod linux-image-amd64" in message
    assert "pip install virtme-ng" in message
    assert "\n" not in message


# A process that nobody waits for, beside its parent; both have the pipe that is standard output.
SCATTERED = "setsid sleep 1000 & echo $!; (setsid sleep 1000 & echo $!); echo begun; sleep 1000"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_whoever_wanted_it(end: signal.Signals) -> None:
    """However that ends; the guard itself is not to be stopped by what a terminal sends to all."""
    wants = f"""
import os, subprocess, sys
reader, writer = os.pipe()
guard = [sys.executable, "-m", "{guard.__name__}", str(reader), "sh", "-c", {SCATTERED!r}]
subprocess.Popen(guard, pass_fds=[reader]).wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", wants], stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line == "begun\n":
                break
        os.killpg(process.pid, end) if end == signal.SIGINT else process.send_signal(end)
        assert process.stdout.read() == ""  # the last one that had it open has ended


def executes(pid: int, *programs: bytes) -> bool:
    with contextlib.suppress(OSError):
        executed = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        return any(program in executed for program in programs)
    return False


def is_qemu(pid: int) -> bool:
    return executes(pid, b"qemu-system")


@pytest.mark.timeout(700)
@pytest.mark.parametrize(("end", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_boot_leaves_nothing(end: signal.Signals, status: int) -> None:
    try:
        boot.find_tools()
    except boot.TestbedError as error:
        pytest.skip(str(error))
    with subprocess.Popen(
        [*MULTIVERSE, "testbed", "run", "--", "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        while not (machines := [pid for pid in guard.descendants(process.pid) if is_qemu(pid)]):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(end)
        process.communicate(timeout=60)
        assert process.returncode == status
    assert not any(is_qemu(pid) for pid in machines)


@pytest.mark.timeout(700)
@pytest.mark.parametrize("program", [b"virtiofsd", b"qemu-system"])
def test_ctrl_c_while_it_boots(program: bytes) -> None:
    """A terminal sends it to all; of these QEMU alone speaks, and is brief."""
    try:
        boot.find_tools()
    except boot.TestbedError as error:
        pytest.skip(str(error))
    with subprocess.Popen(
        [*MULTIVERSE, "testbed", "run", "--", "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        started: list[int] = []
        while not any(executes(pid, program, b"qemu-system") for pid in started):
            assert process.poll() is None
            time.sleep(0.01)
            started = guard.descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.count("\n") <= 1 and "Traceback" not in output, output
    assert not any(executes(pid, b"virtiofsd", b"qemu-system") for pid in started)


@pytest.mark.timeout(700)
def test_status_and_streams_are_the_commands_own() -> None:
    try:
        boot.find_tools()
    except boot.TestbedError as error:
        pytest.skip(str(error))
    # A shell's own streams can be opened by name.
    words = "cat; echo 'an error' | tee /dev/stderr >/dev/stdout; test -e /dev/kvm && exit 7"
    command = [*MULTIVERSE, "testbed", "run", "--", "sh", "-c", words]
    done = subprocess.run(
        command, input="a b\n", capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "a b\nan error\n", "an error\n")


@pytest.mark.timeout(700)
def test_output_to_one_file_is_appended(tmp_path: Path) -> None:
    try:
        boot.find_tools()
    except boot.TestbedError as error:
        pytest.skip(str(error))
    log = tmp_path / "log"
    log.write_text("before\n")
    words = "for i in 1 2 3; do echo out $i; echo err $i >&2; done"
    with log.open("a") as both:
        subprocess.run(
            [*MULTIVERSE, "testbed", "run", "--", "sh", "-c", words],
            stdin=subprocess.DEVNULL,
            stdout=both,
            stderr=subprocess.STDOUT,
            timeout=600,
            check=True,
        )
    lines = log.read_text().splitlines()
    assert lines[0] == "before"
    for stream in ("out", "err"):
        assert [line for line in lines if line.startswith(stream)] == [
            f"{stream} {i}" for i in (1, 2, 3)
        ]


@pytest.mark.timeout(700)
def test_a_shell_at_a_terminal() -> None:
    """It has job control, keys reach what runs in it, and its status is the command's."""
    try:
        boot.find_tools()
    except boot.TestbedError as error:
        pytest.skip(str(error))
    environment = {**os.environ, "SHELL": "/bin/bash", "TERM": "dumb"}
    child = pexpect.spawn(
        MULTIVERSE[0], [*MULTIVERSE[1:], "testbed", "shell"], env=environment, timeout=300
    )
    try:
        child.expect(r"[#$] $")
        child.sendline("stty size; test -e /dev/kvm && tty")
        child.expect(r"\n24 80\r+\n/dev/tty\w+\r")
        child.sendline("sh -c 'echo begun; exec sleep 1000'")
        child.expect(r"\nbegun\r")
        child.sendintr()
        child.sendline("echo $((100 + $?)); exit 5")
        child.expect(r"\n230\r")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 5
    finally:
        child.close(force=True)


@pytest.mark.parametrize("arguments", [["run"], ["run", "--rw", "/nowhere", "true"], ["walk"]])
def test_wrong_usage(arguments: list[str]) -> None:
    done = multiverse("testbed", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr

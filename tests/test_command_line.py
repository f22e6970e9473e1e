"""The command line where its output, files or words fail it: one line, and no traceback."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from array import array
from pathlib import Path

import pytest
from conftest import MULTIVERSE, SLOWNESS, stat_of

# Words beyond what an exec takes in all (a quarter of the stack's limit, 6 MiB at most).
TOO_MANY = ["x" * 100_000] * 70


def command_line(
    *words: str | Path, stdout: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it; stdout: of a file, else it is kept."""
    with open(stdout or os.devnull, "w") as file:
        return subprocess.run(
            [*MULTIVERSE, *words],
            stdin=subprocess.DEVNULL,
            stdout=file if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            text=True,
            timeout=60 * SLOWNESS,
        )


def one_line(done: subprocess.CompletedProcess[str], status: int, *texts: str) -> None:
    assert done.returncode == status, done
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("multiverse: "), done.stderr
    assert all(text in done.stderr for text in texts), done.stderr


@pytest.mark.parametrize(
    "words",
    [
        *(["--help"], ["--version"], ["run", "--help"], ["doctor"], ["doctor", "--json"]),
        *(["override", "list"], ["override", "explain", "memory"], ["completion", "bash"]),
        *(["aerokernel"], ["inspect", "/bin/true"], ["bench", "--help"]),
    ],
    ids=" ".join,
)
def test_full_standard_output(words: list[str]) -> None:
    one_line(command_line(*words, stdout="/dev/full"), 125, "standard output: No space left")


@pytest.mark.parametrize("option", ["--stats=", "--trace="])
def test_files_that_cannot_be_written(option: str) -> None:
    """The program has run when its file turns out to be on a full disk; not if there is none."""
    done = command_line("run", f"{option}/dev/full", "--", "/bin/echo", "ran")
    assert done.stdout == "ran\n"
    one_line(done, 125, "run: /dev/full: No space left on device; give another file")
    done = command_line("run", f"{option}/nonexistent/x", "--", "/bin/echo", "ran")
    assert done.stdout == ""
    one_line(done, 125, "run: /nonexistent/x: No such file", "give another file")


@pytest.mark.parametrize(
    "words", [["run"], ["run", "--hvm=off"], ["profile"], ["tune"]], ids=" ".join
)
@pytest.mark.parametrize("name", ["", "directory"])
def test_names_that_no_program_has(words: list[str], name: str, tmp_path: Path) -> None:
    """As in a shell neither is a command, though PATH leads to something."""
    (tmp_path / "directory").mkdir()
    done = command_line(*words, "--", name, PATH=str(tmp_path))
    one_line(done, 127, f"{name or repr(name)}: not found; check the name and PATH")


@pytest.mark.parametrize(
    "words", [["run"], ["run", "--stats"], ["run", "--hvm=off", "--stats"], ["profile"]]
)
def test_more_arguments_than_an_exec_takes(words: list[str]) -> None:
    # The command line itself could not be started with so many, either.
    script = (
        "import json, sys; from multiverse.__main__ import main;"
        "sys.argv[1:] = json.load(sys.stdin); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([*words, "--", "/bin/true", *TOO_MANY]),
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
    )
    one_line(done, 125, "Argument list too long; shorten the arguments or the environment")


def test_what_is_no_regular_file_stays_what_it_is(tmp_path: Path) -> None:
    """-o /dev/null does not replace the device."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (tmp_path / "read").open("wb") as target:
        reader = subprocess.Popen(["/bin/cat", fifo], stdout=target)
    assert command_line("pack", "/bin/true", "-o", fifo).returncode == 0
    reader.wait(60 * SLOWNESS)
    packed = (tmp_path / "read").read_bytes()
    assert fifo.is_fifo() and packed.startswith(b"\x7fELF")
    (tmp_path / "there").write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to("there")
    assert command_line("pack", "/bin/true", "-o", link).returncode == 0
    assert link.is_symlink() and (tmp_path / "there").read_bytes() == packed
    done = command_line("pack", "/bin/true", "-o", "/nonexistent/x")
    one_line(done, 125, "pack: /nonexistent/x: No such file")


def test_no_home_is_made(tmp_path: Path) -> None:
    home = str(tmp_path / "none")
    done = command_line("run", "--override", "time", "--", "/bin/echo", "ran", HOME=home)
    assert done.stdout == "ran\n"
    assert not Path(home).exists()


def test_interrupted() -> None:
    """Ctrl-C ends a command with 130 and without a traceback, whatever it is doing."""
    words = [*MULTIVERSE, "crash-report", "-"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stderr
        process.stdin.write("x")
        process.stdin.flush()
        unread = array("i", [1])
        while unread[0] or stat_of(process.pid)[0] != "S":
            time.sleep(0.02)
            fcntl.ioctl(process.stdin, termios.FIONREAD, unread)
        process.send_signal(signal.SIGINT)  # while it waits for more
        process.wait(60 * SLOWNESS)
        assert (process.returncode, process.stderr.read()) == (130, "multiverse: interrupted\n")


def test_interrupted_while_it_starts(tmp_path: Path) -> None:
    """Ctrl-C then ends it as any program."""
    (tmp_path / "click.py").write_text("import time; print('begun', flush=True); time.sleep(1000)")
    with subprocess.Popen(
        [*MULTIVERSE, "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        process.wait(60 * SLOWNESS)
        assert (process.returncode, process.stderr.read()) == (-signal.SIGINT, "")


@pytest.mark.parametrize("action", [signal.SIG_DFL, signal.SIG_IGN], ids=["default", "ignored"])
@pytest.mark.parametrize("options", [[], ["--stats=/dev/null"]], ids=["exec", "child"])
def test_a_program_begins_with_sigint_as_it_was(
    options: list[str], action: signal.Handlers
) -> None:
    """What is ignored outlives an exec; how the command line sees to the signal must not."""
    before = signal.signal(signal.SIGINT, action)
    try:
        words = ["run", "--hvm=off", "--quiet", *options, "--", "/bin/cat", "/proc/self/status"]
        status = command_line(*words).stdout
    finally:
        signal.signal(signal.SIGINT, before)
    fields = dict(line.split(":", 1) for line in status.splitlines())
    has = {name: int(fields[name], 16) >> signal.SIGINT - 1 & 1 for name in ("SigIgn", "SigBlk")}
    assert has == {"SigIgn": action == signal.SIG_IGN, "SigBlk": 0}


def test_counters_are_json(tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    assert command_line("run", f"--stats={file}", "--", "/bin/true").returncode == 0
    assert json.loads(file.read_text()).keys() >= {"hrt", "ring", "events", "syscalls"}

"""`multiverse run --gdb`, driven by a stock gdb."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import MULTIVERSE, RING, SLOWNESS, multiverse, stat_of
from test_aerokernel import compile_all, compile_handler

from multiverse import aerokernel as library
from multiverse.debug.packets import INTERRUPT, ConnectionLost, Packets
from multiverse.debug.process import Command, Process, State

GUESTS = ("basics", "children", "signals", "steps", "stops", "threads")
FLAGS = ("-O1", "-g")
TIMEOUT = 60 * SLOWNESS  # seconds, for what takes one or two
KERNEL_MAGIC = 0x314C4E4B4F524541
STOPS = 100  # then the program may run to its end
MAIN_THREAD = r"Thread (\d+)\.\1 "

pytestmark = pytest.mark.timeout(TIMEOUT * 3)


def compile_debugged(guest: Callable[..., str]) -> dict[str, str]:
    """Compile the programs of tests/guests_debug. Returns their paths by their names."""
    return {name: guest(f"../guests_debug/{name}", *FLAGS) for name in GUESTS}


@pytest.fixture(scope="module")
def gdb(facts: dict[str, str]) -> str:
    found = shutil.which("gdb")
    if not found:
        pytest.skip("no gdb: apt-get install gdb")
    return found


@pytest.fixture(scope="module")
def programs(guest: Callable[..., str]) -> dict[str, str]:
    return compile_debugged(guest)


class Debugged:
    """A program under `multiverse run --gdb`, and gdbs that attach to it."""

    def __init__(self, gdb: str, where: str, command: Sequence[str], *options: str) -> None:
        self.gdb = gdb
        self.program = command[0]
        self.sessions: list[subprocess.Popen[str]] = []
        ring = f"--ring={RING or 'auto'}"
        self.process = subprocess.Popen(
            [*MULTIVERSE, "run", ring, "--gdb", where, *options, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        line = self.process.stderr.readline()
        found = re.fullmatch(r"multiverse: run: waiting for gdb: target remote (\S+)\n", line)
        assert found, line + self.process.stderr.read()
        self.target = found[1]

    def start(self, *commands: str) -> subprocess.Popen[str]:
        """Begin a session: attach, then these commands; at its end gdb detaches."""
        argv = [self.gdb, "-nx", "-batch", "-ex", "set confirm off", "-ex", "set width 0"]
        for command in (f"target remote {self.target}", *commands):
            argv += ["-ex", command]
        session = subprocess.Popen(
            [*argv, self.program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LC_ALL": "C", "DEBUGINFOD_URLS": ""},
        )
        self.sessions.append(session)
        return session

    def session(self, *commands: str) -> str:
        """The output of a whole session."""
        return self.start(*commands).communicate(timeout=TIMEOUT)[0]

    def ends(self) -> tuple[int, str, str]:
        """Wait for the program's end: status as subprocess has it, output, errors."""
        output, errors = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, output, errors


@pytest.fixture
def debug(gdb: str, tmp_path: Path) -> Iterator[Callable[..., Debugged]]:
    """Start a program to be debugged; a socket's path must be short."""
    begun: list[Debugged] = []

    def start(command: Sequence[str], *options: str, where: str | None = None) -> Debugged:
        relative = os.path.relpath(tmp_path / f"socket{len(begun)}")
        begun.append(Debugged(gdb, where or relative, command, *options))
        return begun[-1]

    yield start
    for debugged in begun:
        for process in (*debugged.sessions, debugged.process):
            process.kill()
            process.communicate(timeout=TIMEOUT)


def values(output: str) -> dict[str, str]:
    """What commands like `printf "name=%d\\n", ...` have printed."""
    return dict(re.findall(r"^(\w+)=(.*)$", output, re.MULTILINE))


def test_breakpoints(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    debugged = debug([programs["basics"]])
    output = debugged.session(
        "break leaf",
        "continue",
        "backtrace",
        r'printf "counter=%d\n", counter',
        'set var message = "changed"',
        "continue",
        "finish",
        r'printf "counter=%d\n", counter',
        "set var $xmm0.v2_double[0] = 1.5",
        r'printf "xmm0=%g\n", $xmm0.v2_double[0]',
        "delete",
        "continue",
    )
    assert re.search(r"#0 +leaf \(depth=0, value=1\).*\n#1 .* nest .*\n#2 .* main", output), output
    assert values(output)["xmm0"] == "1.5"
    assert "Value returned is $1 = 2" in output
    assert "exited with code 011" in output
    assert debugged.ends() == (9, "sum 9, counter 3, changed, 0.50\n", "")


def test_registers(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    output = debug([programs["basics"]]).session(
        "break leaf",
        "continue",
        r'printf "cr0=%lx\n", $cr0',
        r'printf "cr3=%lx\n", $cr3',
        r'printf "efer=%lx\n", $efer',
        r'printf "tls=%d\n", *(unsigned long *)$fs_base == $fs_base',
        r'printf "fctrl=%x\n", $fctrl',
        r'printf "mxcsr=%x\n", (int)$mxcsr',
        "set var $st0 = 2.5",
        r'printf "st0=%g\n", (double)$st0',
        "delete",
        "call nest(2, 10)",
        "info registers cr0 cr2 cr3 cr4 efer",
        "kill",
    )
    got = values(output)
    assert int(got["cr0"], 16) & 0x80010001 == 0x80010001  # PG, WP, PE
    assert int(got["efer"], 16) & 0x500 == 0x500  # LMA, LME
    assert int(got["cr3"], 16) > 0
    assert (got["tls"], got["fctrl"], got["mxcsr"], got["st0"]) == ("1", "37f", "1f80", "2.5")
    assert "= 22" in output
    assert [name for name in re.findall(r"^(\w+) +0x", output, re.MULTILINE)][-5:] == [
        *("cr0", "cr2", "cr3", "cr4", "efer")
    ], output


def test_steps(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    debugged = debug([programs["steps"]])
    output = debugged.session(
        "break call_begin",
        "continue",
        "stepi",
        "stepi",
        r'printf "behind_call=%d\n", $pc == (long)call_end',
        r'printf "result=%d\n", $rax',
        "break fork_begin",
        "continue",
        "stepi 2",
        r'printf "behind_fork=%d\n", $pc == (long)fork_end',
        "break move_begin",
        "continue",
        "delete",
        "stepi 64",
        r'printf "behind_moves=%d\n", $pc == (long)move_end',
        "continue",
        r'printf "behind_int3=%d\n", $pc == (long)after_trap',
        "signal SIGTRAP",
    )
    got = values(output)
    assert (got["behind_call"], got["behind_fork"], got["behind_moves"]) == ("1",) * 3, output
    assert int(got["result"]) == debugged.process.pid
    assert "Program received signal SIGTRAP" in output  # its own INT3
    assert got["behind_int3"] == "1", output
    assert debugged.ends() == (0, "1 1 0 1\n", "")


@pytest.mark.parametrize("channel", ["auto", "async"])
def test_threads(channel: str, debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    debugged = debug([programs["threads"]], f"--channel={channel}")
    output = debugged.session(
        "break all_there",
        "continue",
        "info threads",
        "thread apply all backtrace",
        "break short_thread",
        "ignore 2 50",
        "continue",
        "next",
        r'printf "ended=%d\n", ended',
        "delete",
        "continue",
    )
    for name in ("compute", "reader", "waiter"):
        assert re.search(rf'Thread \d+\.\d+ "{name}"', output), output
    assert re.search(rf"{MAIN_THREAD}", output)
    for function in ("compute (", "__pthread_cond_wait", "read (", "all_there"):
        assert function in output, output
    assert int(values(output)["ended"]) >= 50
    assert debugged.ends() == (0, "read 1 x\nended 100\n", "")


def cpu_seconds(pid: int) -> float:
    user, system = stat_of(pid)[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(("thread", "name"), [(2, "compute"), (3, "reader")])
def test_interrupt(
    thread: int, name: str, debug: Callable[..., Debugged], programs: dict[str, str]
) -> None:
    """Of a thread that computes, and of one that waits in a system call."""
    debugged = debug([programs["threads"]])
    session = debugged.start(
        "break all_there",
        "continue",
        "delete",
        "set var go_on = 1",
        "set scheduler-locking on",
        f"thread find {name}",
        f"thread {thread}",
        "echo going on\\n",
        "continue",
        "set scheduler-locking off",
        "info threads",
        r'printf "turns=%d\n", turns > 0',
        "continue",
    )
    assert session.stdout
    seen = ""
    while "going on" not in seen:
        line = session.stdout.readline()
        assert line, seen
        seen += line
    before = computed = cpu_seconds(debugged.process.pid)
    while name == "compute" and computed < before + 0.2:  # only that thread runs, for ever
        time.sleep(0.02)
        computed = cpu_seconds(debugged.process.pid)
    time.sleep(0.5)
    session.send_signal(signal.SIGINT)
    seen += session.communicate(timeout=TIMEOUT)[0]
    assert "received signal SIGINT" in seen, seen
    assert values(seen)["turns"] == "1"
    assert debugged.ends() == (0, "read 1 x\nended 100\n", "")


def test_signals(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    debugged = debug([programs["signals"]])
    output = debugged.session(
        "continue",
        r'printf "first=%d\n", $_siginfo.si_signo',
        "stepi",
        "backtrace 3",
        "continue",
        r'printf "fault=%d\n", (char *)$_siginfo._sifields._sigfault.si_addr == page + 5',
        "continue",
    )
    assert (values(output)["first"], values(output)["fault"]) == (f"{signal.SIGUSR1}", "1"), output
    assert re.search(r"#0 +handler .*\n#1 +<signal handler called>", output), output
    assert "Program received signal SIGTERM" in output
    expected = "usr1 10\nsegv 11\nslept 0 polled 0, long enough\n"
    # gdb has left it there, so the signal is the program's.
    assert debugged.ends() == (-signal.SIGTERM, expected, "")


def test_signals_passed_and_dropped(
    debug: Callable[..., Debugged], programs: dict[str, str]
) -> None:
    debugged = debug([programs["signals"]])
    output = debugged.session(
        "handle SIGSEGV nostop noprint pass",
        "continue",
        "signal 0",
        "signal 0",
    )
    assert "received signal SIGUSR1" in output and "received signal SIGSEGV" not in output, output
    assert "exited normally" in output
    expected = "usr1 0\nsegv 11\nslept 0 polled 0, long enough\n"
    assert debugged.ends() == (0, expected, "")


def test_stops_do_not_end_calls(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    debugged = debug([programs["signals"], "pause"])
    commands = ["handle all nostop noprint pass", "break step_here", "continue", "delete"]
    session = debugged.start(*commands, "echo sleeping\\n", *["continue"] * 5)
    assert session.stdout
    while "sleeping" not in session.stdout.readline():
        pass
    for _ in range(4):  # in nanosleep, poll and pause
        time.sleep(0.2 * SLOWNESS)
        session.send_signal(signal.SIGINT)
        while "received signal SIGINT" not in (line := session.stdout.readline()):
            assert line
    assert debugged.process.stdout
    text = "".join(debugged.process.stdout.readline() for _ in range(3))
    assert text == "usr1 10\nsegv 11\nslept 0 polled 0, long enough\n"
    debugged.process.send_signal(signal.SIGTERM)
    output = session.communicate(timeout=TIMEOUT)[0]
    assert debugged.ends() == (-signal.SIGTERM, "", ""), output


class Client:
    """The protocol without a gdb, which would be slow: one that stops and goes on all the time."""

    def __init__(self, target: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(target.split(":")[1])))
        self.socket.settimeout(TIMEOUT)
        self.packets = Packets(self.socket)

    def ask(self, packet: bytes) -> bytes:
        self.packets.send(packet)
        return self.answer()

    def answer(self) -> bytes:
        while (packet := self.packets.next()) is None:
            self.packets.receive()
        return packet

    def stop(self) -> bytes:
        self.socket.sendall(INTERRUPT)
        return self.answer()


def test_stops_are_not_seen(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    """Neither by calls that they interrupt, nor by children that begin in the midst of one."""
    debugged = debug([programs["stops"]], where="0")
    client = Client(debugged.target)
    assert client.ask(b"QPassSignals:e;14") == b"OK"  # SIGALRM, SIGCHLD
    client.packets.send(b"vCont;c")
    stops = 0
    answer = b""
    try:
        while not answer.startswith((b"W", b"X")):
            time.sleep(0.002 * (stops % 5))
            answer = client.stop() if stops < STOPS else client.answer()
            stops += answer.startswith(b"T02")
            if answer.startswith(b"T"):
                client.packets.send(b"vCont;c")
    except ConnectionLost:
        pass  # the program had ended before the last stop was asked for
    client.socket.close()
    assert debugged.ends() == (0, "wrong 0\n", "")
    assert stops > 3


class GoesOn:
    """The slot of a thread that takes its command after the debugger's first look."""

    def __init__(self) -> None:
        self.fields: dict[str, int] = {"state": State.PARKED, "command": Command.CONTINUE}

    def __getattr__(self, name: str) -> int:
        value = self.fields[name]
        self.fields = {"state": State.RUNNING, "command": Command.NOTHING}
        return value


def test_a_thread_that_goes_on_is_not_parked() -> None:
    assert not Process.is_parked(GoesOn())


def test_aerokernel_itself(debug: Callable[..., Debugged], guest: Callable[..., str]) -> None:
    debugged = debug([compile_all(guest)["pages"]])
    output = debugged.session(
        f"add-symbol-file {library.symbols()}",
        f'printf "magic=%d\\n", *(unsigned long *){0xFFFFFFFF84000000:#x} == {KERNEL_MAGIC}',
        "handle SIGSEGV nostop noprint pass",
        "break ak_on_fault",
        "continue",
        "backtrace",
        "next",
        "stepi 20",
        "info symbol $pc",
        "delete",
        "break ak_page_protect",
        "continue",
        "backtrace",
        "delete",
        "continue",
    )
    assert values(output)["magic"] == "1", output
    assert re.search(r"#0 .*ak_on_fault \(window=0xffffffff80200000", output), output
    assert re.search(r"Breakpoint 2\.\d, .*ak_page_protect", output), output
    assert "exited normally" in output
    assert debugged.ends()[0] == 0


@pytest.mark.parametrize("where", ["in_handler", "ak_on_fault"])
def test_backtrace_beyond_the_fault(
    where: str, debug: Callable[..., Debugged], guest: Callable[..., str]
) -> None:
    """From the AeroKernel, and from a handler that it calls, to the program, whose frames are
    found by its registers."""
    debugged = debug([compile_handler(guest)])
    output = debugged.session(
        f"add-symbol-file {library.symbols()}",
        "handle SIGSEGV nostop noprint pass",
        "break store",
        "continue",
        f"break {where}",
        "continue",
        "backtrace",
        "up 2",
        "finish",
        "delete",
        "continue",
    )
    frames = re.findall(r"^#(\d) .*?(\w+ \(|<signal handler called>)", output, re.M)
    expected = [f"{where} (", "<signal handler called>", "store (", "main ("]
    assert [frame for _, frame in frames[:4]] == expected, output
    assert re.search(r"^main \(", output, re.M), output
    assert "exited normally" in output
    assert debugged.ends() == (0, "stored\n", "")


def test_children(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    """Forked ones have no breakpoints; a child of vfork, in shared memory, is one more thread."""
    debugged = debug([programs["children"]])
    output = debugged.session("break passed", *["continue"] * 4)
    assert output.count("hit Breakpoint 1, passed") + output.count("\nBreakpoint 1, passed") == 3
    assert "exited with code 07" in output, output
    expected = "fork 3\nvfork 4\nspawn 0 5\nsystem 6\npasses 3\nexecuted\n"
    assert debugged.ends() == (7, expected, "")


def test_detach_and_attach_again(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    debugged = debug([programs["signals"], "pause"])
    debugged.session("handle all nostop noprint pass", "break step_here", "continue", "detach")
    output = debugged.session("backtrace", "kill")
    assert "pause" in output or "sleep" in output or "poll" in output, output
    assert debugged.ends()[0] == -signal.SIGKILL


@pytest.mark.parametrize(
    "doing",
    ["time.sleep(1000)", "[gdb.execute('stepi') for _ in repeat(0)]"],
    ids=["nothing", "steps"],
)
@pytest.mark.parametrize("victim", ["gdb", "debugger"])
def test_debugger_lost(
    victim: str, doing: str, debug: Callable[..., Debugged], programs: dict[str, str]
) -> None:
    """The program goes on, without breakpoints, from wherever a step has got to."""
    debugged = debug([programs["basics"]])
    session = debugged.start(
        *("break leaf", "continue", "python import time; from itertools import repeat"),
        *("echo stopped\\n", f"python {doing}"),
    )
    assert session.stdout
    while "stopped" not in session.stdout.readline():
        pass
    time.sleep(0.5)  # a step is under way, if it steps
    pid = session.pid if victim == "gdb" else debugger_of(debugged.process.pid)
    os.kill(pid, signal.SIGKILL)
    status, output, errors = debugged.ends()
    assert (status, output) == (9, "sum 9, counter 3, unchanged, 0.50\n")
    assert errors.startswith("multiverse: run: the debugger's") == (victim == "debugger"), errors


def inode_of_page(pid: int) -> str | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if "memfd:multiverse-debug" in line:
                return line.split()[4]
    return None


def debugger_of(pid: int) -> int:
    """The other process that has mapped the core's memory file."""
    for path in Path("/proc").glob("[0-9]*/maps"):
        other = int(path.parent.name)
        if other == pid:
            continue
        if inode_of_page(other) == inode_of_page(pid):
            return other
    raise AssertionError("no debugger")


def test_port(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    debugged = debug([programs["basics"]], where="0")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", debugged.target)
    again = multiverse("run", "--gdb", debugged.target.split(":")[1], "--", programs["basics"])
    assert again.returncode == 125
    assert again.stderr.startswith("multiverse: run: --gdb ")
    assert again.stderr.count("\n") == 1
    debugged.session("continue")
    assert debugged.ends()[0] == 9


def test_somebody_else_connects(debug: Callable[..., Debugged], programs: dict[str, str]) -> None:
    """The program waits for one who speaks the protocol, and can be ended meanwhile."""
    debugged = debug([programs["basics"]], where="0")
    address = ("127.0.0.1", int(debugged.target.split(":")[1]))
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    output = debugged.session(r'printf "counter=%d\n", counter')
    assert values(output)["counter"] == "0"
    assert debugged.ends()[0] == 9
    waiting = debug([programs["basics"]])
    waiting.process.send_signal(signal.SIGINT)
    assert waiting.ends() == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    "options", [("--gdb", "port"), ("--gdb", "70000"), ("--gdb", "0", "--hvm=off")]
)
def test_wrong_usage(options: tuple[str, ...]) -> None:
    done = multiverse("run", *options, "--", "/bin/true")
    assert done.returncode == 2
    assert "Error: " in done.stderr and "Traceback" not in done.stderr


def test_missing_program(gdb: str) -> None:
    done = multiverse("run", "--gdb", "0", "--", "/dev/null")
    assert done.returncode == 126

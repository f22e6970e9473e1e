"""Runs of the same command natively and as an HRT. The native run is the oracle."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cffi
import hypothesis
import pytest
from override_files import INCLUDES, Write

from multiverse.core import core_header, core_path, probe
from multiverse.observe import read_stats
from multiverse.overrides import blob, sealed
from multiverse.syscalls import NAMES

# A busy machine is no failure.
hypothesis.settings.register_profile("multiverse", deadline=None)
hypothesis.settings.load_profile("multiverse")

MULTIVERSE = [sys.executable, "-m", "multiverse"]
GUESTS = Path(__file__).with_name("guests")
# Guests that have test files of their own, which run them over each event channel.
APART = ("channel_signals", "poller_signals", "rights_", "sites")
HRT = "require=1,quiet=1"  # a silent native fallback never passes as an HRT
# Where a ring is asked for: a hardware KVM has both.
RING = os.environ.get("MULTIVERSE_TEST_RING")
if RING:
    HRT += f",ring={RING}"
PR_SET_CHILD_SUBREAPER = 36
# How many times longer than on the processor itself things may take: the testbed is an emulator.
SLOWNESS = float(os.environ.get("MULTIVERSE_TEST_SLOWNESS", "1"))
# Where guests are that have been built before; compilers are slow in the testbed.
BUILT_GUESTS = os.environ.get("MULTIVERSE_TEST_GUESTS")
GRACE = 10.0 * SLOWNESS  # seconds that processes of a run may outlive its first process
TRACE_CAPACITY = 1 << 18  # events; pages of the file are only taken when they are written
TRACE_TAIL = 60  # events shown of a run that hangs


@dataclass(frozen=True)
class Outcome:
    """What a run left: wait status as subprocess gives it, its output, and the core flag."""

    status: int
    stdout: bytes
    stderr: bytes
    core_dumped: bool = False


# A shell without job control starts what is in the background with these ignored, and programs that
# the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


class TraceFile:
    """A trace of the core (core/abi/trace.h) that can be read while the program still runs."""

    def __init__(self) -> None:
        self.ffi: Any = cffi.FFI()
        self.ffi.cdef(core_header("trace.h"))
        self.header_size = self.ffi.sizeof("struct mv_trace_header")
        size = self.header_size + TRACE_CAPACITY * self.ffi.sizeof("struct mv_trace_event")
        self.fd = os.memfd_create("trace")
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)
        header = self.ffi.cast("struct mv_trace_header *", self.ffi.from_buffer(self.map))
        header.magic = 0x5254564D
        header.version = 3
        header.capacity = TRACE_CAPACITY
        header.tsc_hz = 1_000_000_000  # only intervals are looked at

    def close(self) -> None:
        os.close(self.fd)

    def tail(self) -> str:
        buffer = self.ffi.from_buffer(self.map)
        header = self.ffi.cast("struct mv_trace_header *", buffer)
        events = self.ffi.cast("struct mv_trace_event *", buffer + self.header_size)
        kinds = {
            value: name.removeprefix("MV_TRACE_").lower()
            for name, value in self.ffi.typeof("enum mv_trace_kind").relements.items()
        }
        count = min(header.next, header.capacity)
        lines = [f"{header.next} events, the last ones recorded:"]
        for i in range(max(0, count - TRACE_TAIL), count):
            event = events[i]
            kind = kinds.get(event.kind, "?")
            name = NAMES.get(event.nr, event.nr) if kind == "syscall" else event.nr
            words = " ".join(f"{value:x}" for value in event.a)
            lines.append(f"  {event.tid} {kind} {name} ({words}) = {event.result}")
        return "\n".join(lines)


def stat_of(pid: int | str) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty if the process is gone.

    A thread is PID/task/TID.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def processes() -> dict[int, list[str]]:
    """Running processes (not zombies) and their stat fields: state, parent, group, session."""
    found = {int(e.name): stat_of(int(e.name)) for e in Path("/proc").iterdir() if e.name.isdigit()}
    return {pid: fields for pid, fields in found.items() if fields and fields[0] not in "ZX"}


def describe(pid: int) -> str:
    """Where the threads of a process are: enough to know a hang's location."""
    lines = []
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        lines.append(f"process {pid} ({command.strip()[:120]})")
        for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
            wchan = (task / "wchan").read_text()
            state = (task / "stat").read_text().rsplit(")", 1)[1].split()[0]
            call = (task / "syscall").read_text().strip()
            lines.append(f"  thread {task.name} {state} in {wchan or '-'}: {call}")
    return "\n".join(lines)


def end_session(session: int, grace: float) -> list[str]:
    """Wait until no process of a session is left; kill those that remain and describe them."""
    deadline = time.monotonic() + grace
    while True:
        left = [pid for pid, fields in processes().items() if int(fields[3]) == session]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    described = [describe(pid) for pid in left]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return described


def multiverse(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line, in a session of its own: that of the tests may have no number here."""
    return subprocess.run(
        [*MULTIVERSE, *arguments],
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
        start_new_session=True,
    )


def _read_into(stream: IO[bytes], parts: list[bytes]) -> threading.Thread:
    thread = threading.Thread(target=lambda: parts.append(stream.read()), daemon=True)
    thread.start()
    return thread


def _feed(stream: IO[bytes], data: bytes) -> None:
    def write() -> None:
        with contextlib.suppress(BrokenPipeError):
            stream.write(data)
        with contextlib.suppress(BrokenPipeError):
            stream.close()

    threading.Thread(target=write, daemon=True).start()


def run(
    argv: Sequence[str],
    *,
    stdin: bytes,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    timeout: float,
    trace: TraceFile | None,
    pass_fds: Sequence[int] = (),
) -> Outcome:
    """Run in a session of its own; fail on a hang, saying where, and on processes left behind."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
        start_new_session=True,
    )
    assert process.stdin and process.stdout and process.stderr
    output: list[bytes] = []
    errors: list[bytes] = []
    readers = [_read_into(process.stdout, output), _read_into(process.stderr, errors)]
    _feed(process.stdin, stdin)
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(timeout * 1000 * SLOWNESS):
            places = "\n".join(end_session(process.pid, 0))
            process.wait()
            for reader in readers:
                reader.join(1)
            events = trace.tail() if trace else ""
            seen = b"".join(output)[-2000:], b"".join(errors)[-2000:]
            # The places last: of a long report the end is what is kept.
            pytest.fail(f"{argv} hangs ({timeout} s)\noutput so far: {seen}\n{events}\n{places}")
        # Left unreaped here: subprocess drops the core flag.
        info = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        dumped = info is not None and info.si_code == os.CLD_DUMPED
        process.wait()
    finally:
        os.close(pidfd)
    left = end_session(process.pid, GRACE)
    for reader in readers:
        reader.join(GRACE)
    assert not left, f"{argv} left behind:\n" + "\n".join(left)
    return Outcome(process.returncode, b"".join(output), b"".join(errors), dumped)


@contextlib.contextmanager
def hybrid(
    command: Sequence[str], config: str, overrides: Sequence[str] = ()
) -> Iterator[tuple[list[str], list[int]]]:
    """The words that run a command as an HRT, and the descriptors that have to be inherited.

    overrides: as for execute().
    """
    fds = []
    if overrides:
        fds.append(sealed(blob(overrides, command[0])))
        config += f",override={fds[0]}"
    try:
        yield [str(core_path()), config, command[0], *command], fds
    finally:
        for fd in fds:
            os.close(fd)


def execute(
    command: Sequence[str],
    *,
    config: str | None = HRT,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
    overrides: Sequence[str] = (),
) -> Outcome:
    """Run a command whose first word is a path; config None: natively, else as an HRT.

    overrides: TOML files, modules and sets that the HRT has.
    """
    if config is None:
        return run(command, stdin=stdin, env=env, cwd=cwd, timeout=timeout, trace=None)
    trace = TraceFile()
    try:
        with hybrid(command, f"{config},trace={trace.fd}", overrides) as (argv, fds):
            fds = [trace.fd, *fds]
            return run(
                argv, stdin=stdin, env=env, cwd=cwd, timeout=timeout, trace=trace, pass_fds=fds
            )
    finally:
        trace.close()


def counters(command: Sequence[str], config: str = HRT) -> tuple[Outcome, dict[str, Any]]:
    """Run as an HRT and read what the core counted (core/abi/stats.h)."""
    ffi: Any = cffi.FFI()
    ffi.cdef(core_header("stats.h"))
    size = ffi.sizeof("struct mv_stats")
    fd = os.memfd_create("stats")
    os.ftruncate(fd, size)
    argv = [str(core_path()), f"{config},stats={fd}", command[0], *command]
    outcome = run(argv, stdin=b"", env=None, cwd=None, timeout=60, trace=None, pass_fds=[fd])
    with mmap.mmap(fd, size) as data:
        content = bytes(data)
    os.close(fd)
    return outcome, read_stats(content)


@pytest.fixture(scope="session")
def facts() -> dict[str, str]:
    """What `multiverse-core probe` says of this machine; skips where no HRT is possible."""
    found = probe()
    if found.get("kvm") != "1":
        pytest.skip(f"no /dev/kvm: {found.get('error')}")
    return {**found, "ring": RING or found["ring"]}


@pytest.fixture(scope="session")
def hrt(facts: dict[str, str]) -> Callable[..., Outcome]:
    """Run as an HRT; skips where the substrate is missing."""
    return execute


@pytest.fixture(scope="session")
def same(
    hrt: Callable[..., Outcome], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Outcome]:
    """Run natively and as an HRT, and compare everything."""
    directory = tmp_path_factory.mktemp("cwd")  # core files go there

    def run_both(
        command: Sequence[str],
        *,
        config: str = HRT,
        overrides: Sequence[str] = (),
        **options: Any,
    ) -> Outcome:
        options.setdefault("cwd", directory)
        native = execute(command, config=None, **options)
        hybrid = execute(command, config=config, overrides=overrides, **options)
        for what in ("stderr", "stdout"):  # lists of lines give readable differences
            left = getattr(hybrid, what).decode(errors="backslashreplace").splitlines()
            right = getattr(native, what).decode(errors="backslashreplace").splitlines()
            status = f"status {hybrid.status}, native {native.status}"
            assert left == right, f"{what} of the HRT (left) is not the native one; {status}"
        assert hybrid == native
        return hybrid

    return run_both


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compile a program of tests/guests; flags such as "-static" make variants."""
    directory = Path(BUILT_GUESTS) if BUILT_GUESTS else tmp_path_factory.mktemp("guests")

    def build(name: str, *flags: str, libraries: Sequence[str] = ()) -> str:
        target = directory / "".join([name, *flags]).replace("/", "_")
        if not target.exists():
            source = str(GUESTS / f"{name}.c")
            warnings = ["-Wall", "-Wextra", "-Werror"]
            command = ["cc", "-std=gnu17", "-O2", *warnings, "-pthread", *flags]
            command += ["-o", str(target), source, *libraries, "-lm"]
            subprocess.run(command, check=True)
        return str(target)

    return build


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for what is kept of overrides, which the test alone has."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "multiverse" / "overrides"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write NAME.toml and NAME.c of overrides."""

    def write_both(toml: str, c: str = "", name: str = "x") -> Path:
        (tmp_path / f"{name}.c").write_text(INCLUDES + c)
        path = tmp_path / f"{name}.toml"
        path.write_text(toml)
        return path

    return write_both


@pytest.fixture(autouse=True, scope="session")
def nothing_left_behind() -> Iterator[None]:
    """No process that a test started may outlive the tests."""
    # Orphans become our children, whatever session they have moved to.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(processes())
    yield
    deadline = time.monotonic() + GRACE
    while True:
        ours = {pid for pid, f in processes().items() if int(f[1]) == os.getpid()} - before
        if not ours or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    left = [describe(pid) for pid in ours]
    for pid in ours:
        os.kill(pid, signal.SIGKILL)
    assert not left, "processes left behind:\n" + "\n".join(left)

"""Run a command, and end all that it has started as soon as it ends or nobody wants it any more.

    python -m multiverse.testbed.guard FD COMMAND...

FD is the reading end of a pipe. Who wants the command has the other end, alone: when that process
ends, however that is, the pipe does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def descendants(process: int) -> list[int]:
    """What a process has started, and what that has, as far as it has not ended."""
    found = [process]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text().split())
    return found[1:]


def end_descendants() -> None:
    """Kill all until there are none; whoever loses its parent meanwhile becomes a child."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.wait()


def main() -> None:
    wanted = int(sys.argv[1])
    # What a terminal sends to all concerns this process last. A handler, since the command would
    # inherit that a signal is ignored.
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # As it shall here: virtme-ng's programs would show tracebacks on their way out.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command = subprocess.Popen(sys.argv[2:])
    select.select([wanted, os.pidfd_open(command.pid)], [], [])
    end_descendants()


if __name__ == "__main__":
    main()

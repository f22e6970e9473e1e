"""A benchmark that a signal ends in the middle of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest


def waiting(directory: Path) -> str:
    """A shell script for a fake program: it says that it runs, and then runs for long."""
    started = directory / "started"
    return f"echo $$ > {started}.new; mv {started}.new {started}; exec sleep 1000"


def end_by_signal(
    words: Sequence[str | Path], directory: Path, number: signal.Signals, status: int
) -> None:
    """Send `number` to `multiverse bench WORDS` when a waiting() program in it runs.

    It has to end with `status`, one line, and nothing left behind, neither files nor the program.
    """
    started = directory / "started"
    temporary = directory / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", "from multiverse.cli.bench import bench; bench()", *words],
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        while not started.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert len(errors.splitlines()) == 1
    assert errors.startswith(b"multiverse: benchmark: ")
    assert list(temporary.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)

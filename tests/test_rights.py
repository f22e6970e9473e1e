"""What a program may do and see is its own at every call, whoever answers the call.

The guests make the same calls many times before and after a change, in one thread and in several,
and tell every answer, so that one wrong answer is a difference from the native run.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import HRT, Outcome

MODES = {
    "rights_ids": [
        "alone",
        "threads",
        "first process",
        "first process with threads",
        "to and fro",
        "handler",
    ],
    "rights_view": [
        "directories",
        "to and fro",
        "namespaces",
        "user namespace",
        "others' mounts",
        "process namespace",
        "rules",
    ],
    "rights_files": [
        "tables",
        "to and fro",
        "becomes a pipe",
        "nonblocking",
        "offsets",
        "locks",
    ],
    "rights_limits": ["file size", "broken pipe", "numbers"],
    "rights_process": [
        "own state",
        "children",
        "bare threads",
        "vfork",
        "inheritance",
        "exec from a thread",
        "endings",
        "filter",
    ],
}
# How often each call is made. Over the asynchronous channel a call takes long.
CHANNELS = {"sync": 80, "async": 30}


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users can enter, which pytest's are not."""
    directory = Path(tempfile.mkdtemp(prefix="rights-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def compare(
    same: Callable[..., Outcome], program: str, mode: str, directory: Path, channel: str
) -> None:
    command = [program, mode, str(directory), str(CHANNELS[channel])]
    result = same(command, config=f"{HRT},channel={channel}", timeout=60)
    missing = [line for line in result.stdout.split(b"\n") if line.startswith(b"missing: ")]
    if missing:
        pytest.skip(f"{mode} needs {missing[0].decode().removeprefix('missing: ')}")
    assert b"NEED failed" not in result.stdout, "the guest's own assumptions do not hold here"
    assert result.status == 0


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name, modes in MODES.items() for mode in modes]
)
def test_rights(
    name: str,
    mode: str,
    channel: str,
    guest: Callable[..., str],
    same: Callable[..., Outcome],
    open_directory: Path,
) -> None:
    compare(same, guest(name), mode, open_directory, channel)


@pytest.mark.parametrize("name", MODES)
def test_forked_and_static(
    name: str, guest: Callable[..., str], same: Callable[..., Outcome]
) -> None:
    """Without arguments each mode runs in a child, which makes its machine anew."""
    result = same([guest(name, "-static", "-no-pie")])
    assert b"NEED failed" not in result.stdout, "the guest's own assumptions do not hold here"


# Linux counts a worker that KVM starts in the process as one of its threads.
NOT_ALONE = "KVM's own worker is a thread of the process"
DIFFERENT = [
    ("rights_process", "visible threads", NOT_ALONE),
    ("rights_files", "shared table", "a child closes the descriptors of its parent's machine"),
]


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize(("name", "mode", "why"), DIFFERENT)
def test_known_differences(
    name: str,
    mode: str,
    why: str,
    channel: str,
    guest: Callable[..., str],
    same: Callable[..., Outcome],
    open_directory: Path,
    request: pytest.FixtureRequest,
) -> None:
    request.applymarker(pytest.mark.xfail(reason=why, strict=False))
    compare(same, guest(name), mode, open_directory, channel)

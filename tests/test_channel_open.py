"""The synchronous channel opens files and reads directories: what a poller opens, and what not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome, multiverse

TIMES = 1000
OPEN_EACH = f"""
import os, sys, threading
os.chdir(sys.argv[1])
for _ in range({TIMES}):
    os.close(os.open("file", os.O_RDONLY))
    os.close(os.open(".", os.O_RDONLY | os.O_DIRECTORY))
    os.close(os.open("/dev/null", os.O_WRONLY))
    os.close(os.open("new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640))
    try:
        os.open("missing", os.O_RDONLY)
    except FileNotFoundError as error:
        missing = error
    try:
        os.open("link", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        link = error
    names = sorted(os.listdir("."))
print(missing, link, names, oct(os.stat("new").st_mode))
writer = threading.Thread(target=lambda: os.write(os.open("fifo", os.O_WRONLY), b"through"))
writer.start()
print(os.read(os.open("fifo", os.O_RDONLY), 7))
writer.join()
"""

# What is opened is now a file and now a FIFO, whose other end comes and goes: the poller that has
# seen a file may wait for it, and everybody else has to go on.
OPEN_CHANGING = """
import os, sys, threading
os.chdir(sys.argv[1])
done = False
def change():
    while not done:
        for name in ("fifo", "file"):
            os.link(name, "next")
            os.replace("next", "changing")
def release():
    while not done:
        try:
            os.close(os.open("fifo", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            pass
others = [threading.Thread(target=f) for f in (change, release)]
for thread in others:
    thread.start()
for _ in range(100):
    os.close(os.open("changing", os.O_RDONLY))
done = True
for thread in others:
    thread.join()
print("opened")
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    os.link(tmp_path / "file", tmp_path / "changing")
    return tmp_path


def natively(program: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, directory], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def hosted(program: str, directory: Path) -> tuple[str, dict[str, dict[str, int]]]:
    """Its output and counters, over the synchronous channel."""
    file = directory.parent / f"{directory.name}.json"
    done = multiverse(
        "run", "--require-hrt", f"--stats={file}", "--channel=sync", "--",
        sys.executable, "-c", program, str(directory),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())


def test_files_and_directories_are_opened_by_a_poller(
    hrt: Callable[..., Outcome], directory: Path
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a second CPU for a poller is missing")
    expected = natively(OPEN_EACH, directory)
    (directory / "new").unlink()
    output, stats = hosted(OPEN_EACH, directory)
    assert output == expected
    assert stats["sync"]["openat"] > 0 and stats["sync"]["getdents64"] > 0
    # The device, what may have to be made, and the FIFO are the partner's.
    assert stats["syscalls"]["openat"] >= 2 * TIMES + 2


def test_a_file_that_becomes_a_fifo(hrt: Callable[..., Outcome], directory: Path) -> None:
    assert hosted(OPEN_CHANGING, directory)[0] == natively(OPEN_CHANGING, directory) == "opened\n"

"""`multiverse override`, `run --override`, and the examples of docs/overrides.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MULTIVERSE, multiverse
from override_files import CALL, F, Write, function

from multiverse.overrides.sets import sets

pytestmark = pytest.mark.usefixtures("cache")


# ---- The documentation -------------------------------------------------------------------------


def test_documented_examples(facts: dict[str, str], tmp_path: Path) -> None:
    """The files in docs/overrides.md do what it says."""
    text = Path(__file__).parents[1].joinpath("docs", "overrides.md").read_text()
    for name, content in re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```", text, re.M | re.S):
        (tmp_path / name).write_text(content)
    command = "--override frozen.toml -- date -u +%F"
    assert f"\n$ multiverse run {command}\n2000-01-01\n" in text
    done = run_here(tmp_path, *shlex.split(command))
    assert (done.returncode, done.stdout, done.stderr) == (0, "2000-01-01\n", "")
    program = "import os; print(os.getpid() == int(os.readlink('/proc/self')))"
    for options, leaves in (([], True), (["--override", "pid.toml"], False)):
        done = run_here(tmp_path, "--stats=counts", *options, "--", sys.executable, "-c", program)
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
        counts = json.loads((tmp_path / "counts").read_text())
        assert ("getpid" in counts["syscalls"]) is leaves


def run_here(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*MULTIVERSE, "run", "--require-hrt", *words]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


# ---- The command line --------------------------------------------------------------------------


def test_check_command(write: Write) -> None:
    good = write(CALL, F, "good")
    done = multiverse("override", "check", str(good))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    bad = write(CALL + "wen = 1\n", F, "bad")
    done = multiverse("override", "check", str(good), str(bad))
    assert done.returncode == 1
    assert done.stderr == f"{bad}:4: unknown key wen in [[syscall]]; did you mean when?\n"
    data = json.loads(multiverse("override", "check", "--json", str(bad)).stdout)
    assert data["ok"] is False and data["mistakes"] == [
        {
            "file": str(bad),
            "line": 4,
            "text": "unknown key wen in [[syscall]]; did you mean when?",
        }
    ]
    function_file = write(function("long getennv(void)", "f()"), F, "function")
    assert multiverse("override", "check", str(function_file)).returncode == 0
    done = multiverse("override", "check", "--program", "sh", str(function_file))
    assert done.returncode == 1 and "getenv" in done.stderr


def test_build_command(write: Write, tmp_path: Path) -> None:
    """Several files give several modules; nothing is left of one that cannot be written."""
    files = [str(write(CALL, F, name)) for name in ("one", "two")]
    command = [*MULTIVERSE, "override", "build", *files]
    work = tmp_path / "work"
    work.mkdir()
    assert subprocess.run(command, cwd=work, timeout=60).returncode == 0
    assert sorted(os.listdir(work)) == ["one.override", "two.override"]
    assert multiverse("override", "build", *files, "-o", "x").returncode == 2
    done = multiverse("override", "build", files[0], "-o", "/proc/x")
    assert done.returncode == 125 and done.stderr.startswith("multiverse: override: /proc/x: ")


def test_explain_command(write: Write) -> None:
    path = write(CALL + function("int raise(int sig)", "f()", "when = 'sig == 1'"), F)
    shown = multiverse("override", "explain", str(path)).stdout
    assert f"system call getpid (39), {path}:2\n" in shown and "Linux answers" in shown
    assert "sig == 1; else the original is called" in shown


def test_list_command() -> None:
    listed = json.loads(multiverse("override", "list", "--json").stdout)
    assert [one["name"] for one in listed] == [one.name for one in sets()]
    text = multiverse("override", "list").stdout
    assert all(f"{one.name}: {one.summary}\n" in text for one in sets())
    files = next(one for one in sets() if one.name == "files")
    assert "lseek" in files.syscalls and "close" in files.watched
    assert f"  told of       {', '.join(files.watched)}\n" in text


def test_explain_says_when_linux_answers() -> None:
    text = multiverse("override", "explain", "files").stdout
    closing = text[text.index("system call close (3)") :].split("\n\n")[0]
    assert "before Linux's answer" in closing and "not left" not in closing


def test_run_refuses_bad_overrides(write: Write) -> None:
    bad = write(CALL + "wen = 1\n", F)
    done = multiverse("run", "--override", str(bad), "--", "true")
    assert done.returncode == 2
    assert done.stderr == (
        f"{bad}:4: unknown key wen in [[syscall]]; did you mean when?\n"
        "multiverse: run: the overrides cannot be used; see above\n"
    )
    done = multiverse("run", "--override", "nosuchset", "--", "true")
    assert done.returncode == 2 and "neither a file nor an installed set" in done.stderr


def test_run_of_what_is_no_program(write: Write, tmp_path: Path) -> None:
    path = write(function("char *getenv(const char *s)", "f()"), F)
    for program, status in ((tmp_path / "nothing", 127), (path, 126), (tmp_path, 126)):
        done = multiverse("run", "--override", str(path), "--", str(program))
        assert done.returncode == status and str(program) in done.stderr


def test_without_hrt(write: Write) -> None:
    path = write(CALL, F)
    done = multiverse("run", "--hvm=off", "--override", str(path), "--", "true")
    assert done.returncode == 0
    line = "multiverse: run: --hvm=off: the overrides are not in force\n"
    assert done.stderr.startswith(line)


def test_completion(write: Write) -> None:
    words = {"_MULTIVERSE_COMPLETE": "bash_complete", "COMP_WORDS": "multiverse override explain "}
    environment = {**os.environ, **words, "COMP_CWORD": "3"}
    done = subprocess.run(MULTIVERSE, env=environment, capture_output=True, text=True, timeout=60)
    assert all(f"plain,{one.name}" in done.stdout for one in sets())
    assert "file," in done.stdout

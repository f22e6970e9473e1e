"""The examples in docs/models.md do what the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MULTIVERSE

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "models.md").read_text()
# What the shell of the page's reader would find.
COMMANDS = {"multiverse": MULTIVERSE, "python3": [os.path.realpath(sys.executable)]}


def section(title: str) -> str:
    return re.split(rf"^## {title}$", PAGE, flags=re.M)[1].split("\n## ")[0]


def commands(text: str) -> list[tuple[list[str], str]]:
    """The commands of a section, and what each prints there."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    found = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", "".join(blocks), re.M)
    return [(line.split(), output) for line, output in found]


def run(words: list[str], cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command: list[str] = []
    for word in words:
        command += COMMANDS.get(word, [word])
        if word in ("run", "profile"):
            command += options
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done


def test_incremental(tmp_path: Path, facts: dict[str, str]) -> None:
    plain, profile, overridden = commands(section("Incremental"))
    assert profile[0][:2] == ["multiverse", "profile"] and "--override" in overridden[0]
    calls = []
    for words, output in (plain, overridden):
        stats = tmp_path / "stats.json"
        assert run(words, ROOT, "--require-hrt", f"--stats={stats}").stdout == output
        calls.append(json.loads(stats.read_text())["syscalls"])
    assert "getpid" in calls[0] and "getpid" not in calls[1]
    report = tmp_path / "profile.json"
    tables = run(profile[0], ROOT, f"--json={report}")
    assert tables.stdout == plain[1] and "getpid" in tables.stderr


def test_accelerator(tmp_path: Path, facts: dict[str, str]) -> None:
    text = section("Accelerator")
    source = re.search(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert source
    (tmp_path / "sums.py").write_text(source[1])
    ((words, output),) = commands(text)
    assert words == ["python3", "sums.py"]
    # The interpreter that has multiverse.
    done = run([sys.executable, "sums.py"], tmp_path)
    assert (done.stdout, done.stderr) == (output, "")


def test_native(tmp_path: Path, facts: dict[str, str]) -> None:
    text = section("Native")
    source = re.search(r"^```c\n(.*?)^```", text, re.M | re.S)
    assert source
    (tmp_path / "sum.c").write_text(source[1])
    for words, output in commands(text):
        done = run(words, tmp_path)
        assert (done.stdout, done.stderr) == (output, "")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", PAGE))))
def test_links(link: str) -> None:
    assert (ROOT / "docs" / link).exists()

"""tools/cpython-suite.py, with a program in the place of CPython."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "cpython-suite.py"
# Test "same" gives the same both ways, "flaky" what it gave the other way last time, "other" never.
FAKE = """#!{python}
import os, pathlib, sys
if "--junit-xml" in sys.argv:
    hrt = os.environ["MULTIVERSE"] != "off"
    state = pathlib.Path({directory!r}, "runs")
    runs = len(state.read_text()) if state.exists() else 0
    state.write_text("x" * (runs + 1))
    case = '<testcase name="%s">%s</testcase>'
    cases = case % ("same", "<skipped/>")
    if sys.argv[-1] == "test_flaky":
        cases += case % ("flaky", "<failure/>" if runs == 1 else "")
    if sys.argv[-1] == "test_other":
        cases += case % ("other", "<error/>" if hrt else "")
    report = pathlib.Path(sys.argv[sys.argv.index("--junit-xml") + 1])
    report.write_text("<testsuite>" + cases + "</testsuite>")
"""


def test_differences(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(FAKE.format(python=sys.executable, directory=str(tmp_path)))
    python.chmod(0o755)
    results = tmp_path / "results.json"
    command = [sys.executable, str(TOOL), f"--results={results}", str(python)]
    done = subprocess.run([*command, "test_flaky"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].endswith("s: 1 passed, 1 skipped")
    done = subprocess.run([*command, "test_other"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    assert "  other: natively ['passed'], as an HRT ['error']\n" in done.stdout
    found = {
        module: result["differences"] for module, result in json.loads(results.read_text()).items()
    }
    assert found == {
        "test_flaky": {}, "test_other": {"other": {"native": ["passed"], "hrt": ["error"]}},
    }  # fmt: skip


def test_no_hrt(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "false"], cwd="/bin", capture_output=True, text=True
    )
    assert done.returncode == 125 and "build it with multiverse-cc" in done.stderr

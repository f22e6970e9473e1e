#!/usr/bin/env python3
"""Run CPython's own test suite natively and as an HRT, and compare.

usage: cpython-suite.py [options] PYTHON [MODULE...]

PYTHON is an executable of CPython that has been built with multiverse-cc or packed. Each test
module runs in a process of its own, natively (MULTIVERSE=off) and as an HRT (MULTIVERSE=auto, since
some tests have children that may not open /dev/kvm, and which are native then).
What each single test gave (passed, failed, error, skipped) is compared; where it differs, both are
run again, and a difference is what no repetition has explained. Results are kept in a file, so that
a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

WAYS = {"native": "off", "hrt": "auto"}


def run(options: argparse.Namespace, module: str, way: str) -> dict[str, Any]:
    """One module, one way: status, seconds, and what each test gave."""
    with tempfile.TemporaryDirectory(prefix="cpython-suite-") as directory:
        report, log = Path(directory, "report.xml"), Path(directory, "log")
        command = [*shlex.split(options.prefix), str(options.python), "-m", "test"]
        command += ["--junit-xml", str(report), *shlex.split(options.options), module]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        begin = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory,
                env=environment | {"MULTIVERSE": WAYS[way]}, start_new_session=True,
            )  # fmt: skip
            try:
                status = process.wait(options.timeout)
            except subprocess.TimeoutExpired:
                status = -signal.SIGALRM
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        seconds = time.monotonic() - begin
        tests = {}
        if report.exists():
            for case in ET.parse(report).getroot().iter("testcase"):
                kinds = [
                    child.tag for child in case if child.tag in ("failure", "error", "skipped")
                ]
                tests[case.get("name", "?")] = kinds[0] if kinds else "passed"
        text = log.read_text(errors="replace")
    return {"status": status, "seconds": seconds, "tests": tests, "log": text[-20000:]}


def outcomes(result: dict[str, Any]) -> set[tuple[str, str]]:
    return {("(status)", str(result["status"])), *result["tests"].items()}


def compare(options: argparse.Namespace, module: str) -> dict[str, Any]:
    """One module both ways; "differences" lists tests that never gave the same."""
    results = {way: run(options, module, way) for way in WAYS}
    seen = {way: outcomes(result) for way, result in results.items()}
    for _ in range(options.again):
        if seen["native"] == seen["hrt"]:
            break
        for way in WAYS:
            seen[way] |= outcomes(run(options, module, way))
    names = sorted({name for name, _ in seen["native"] ^ seen["hrt"]})
    differences = {}
    for name in names:
        native, hrt = (sorted(kind for n, kind in seen[way] if n == name) for way in WAYS)
        if not set(native) & set(hrt):
            differences[name] = {"native": native, "hrt": hrt}
    for result in results.values():
        result["counts"] = dict(Counter(result.pop("tests").values()))
        if not differences:
            del result["log"]
    return {**results, "differences": differences}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("python", type=Path, help="the executable")
    parser.add_argument("modules", nargs="*", help="test modules; default: all")
    parser.add_argument("--results", type=Path, default=Path("cpython-suite.json"))
    parser.add_argument("--timeout", type=float, default=600, help="of a module, seconds (600)")
    parser.add_argument("--again", type=int, default=1, help="repetitions where it differs (1)")
    parser.add_argument("--prefix", default="", help="what each run is started with: 'nice -n 10'")
    parser.add_argument("--options", default="", help="options of regrtest: '-u all,-network'")
    options = parser.parse_args()
    options.python = options.python.resolve()
    # A shell that starts something in the background has it ignored, which tests would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hosted = [str(options.python), "-c", ""]
    if subprocess.run(hosted, env=os.environ | {"MULTIVERSE": "require"}).returncode:
        print(f"{options.python}: no HRT; build it with multiverse-cc", file=sys.stderr)
        return 125
    modules = options.modules
    if not modules:
        listed = [str(options.python), "-m", "test", "--list-tests"]
        modules = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    for number, module in enumerate(modules, 1):
        if module in results:
            continue
        results[module] = compare(options, module)
        options.results.write_text(json.dumps(results, indent=1))
        native, hrt = results[module]["native"], results[module]["hrt"]
        print(
            f"{number}/{len(modules)} {module}: "
            f"native {native['seconds']:.1f} s {native['counts']}, "
            f"HRT {hrt['seconds']:.1f} s {hrt['counts']}",
            flush=True,
        )
        for name, kinds in results[module]["differences"].items():
            print(f"  {name}: natively {kinds['native']}, as an HRT {kinds['hrt']}", flush=True)
    for way in WAYS:
        counts: Counter[str] = Counter()
        for result in results.values():
            counts.update(result[way]["counts"])
        seconds = sum(result[way]["seconds"] for result in results.values())
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        print(f"{way}: {len(results)} modules, {seconds:.0f} s: {kinds}")
    return 1 if any(result["differences"] for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

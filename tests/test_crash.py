"""A virtual machine that cannot go on ends with one line, a report and status 125."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HRT, MULTIVERSE, Outcome, multiverse, run
from hypothesis import given
from hypothesis import strategies as st
from test_aerokernel import compile_handler

from multiverse.cli.run import decode_value, encode_value
from multiverse.crash.raw import RawError, parse
from multiverse.crash.report import Report
from multiverse.crash.symbols import Place, readable
from multiverse.crash.text import full_text, short_text

LINE = "multiverse: run: exception in the AeroKernel (13) at RIP 0x"
ADVICE = ": the virtual machine cannot go on; run the program with --hvm=off"
SHORT_MAX = 60  # lines
FRAME_POINTERS = "-fno-omit-frame-pointer"


@pytest.fixture(scope="session")
def crasher(guest: Callable[..., str]) -> str:
    return guest("../guests_hostile/crash", "-O1", "-g", FRAME_POINTERS)


@pytest.fixture(scope="session")
def crash(crasher: str, facts: dict[str, str]) -> Callable[..., Outcome]:
    """Run the crasher by the command line."""

    def run_it(*words: str, options: tuple[str, ...] = (), cwd: Path | None = None) -> Outcome:
        command = [*MULTIVERSE, "run", "--require-hrt", *options, "--", crasher, *words]
        return run(command, stdin=b"", env=None, cwd=cwd, timeout=60, trace=None)

    return run_it


@pytest.fixture(scope="session")
def raw_report(crasher: str, hrt: Callable[..., Outcome]) -> str:
    result = hrt([crasher, "jump", "threads"], config=f"{HRT},crash=raw")
    assert result.status == 125
    return result.stderr.decode()


def check_line(outcome: Outcome) -> list[str]:
    """The end that every crash has; returns the lines behind the first one."""
    assert outcome.status == 125, outcome
    lines = outcome.stderr.decode().splitlines()
    assert lines[0].startswith(LINE) and lines[0].endswith(ADVICE), lines[:3]
    return lines[1:]


def functions(steps: list[dict[str, Any]]) -> list[str]:
    return [step["place"]["symbol"] for step in steps if step["place"]]


@pytest.mark.parametrize("how", ["jump", "stack", "overwrite", "twice"])
def test_short_report(how: str, crash: Callable[..., Outcome]) -> None:
    outcome = crash(how)
    assert outcome.stdout == b"before\n"
    lines = check_line(outcome)
    assert lines[0] == "crash report"
    assert len(lines) <= SHORT_MAX
    assert any("#GP general protection, error code 0x0" in line for line in lines)
    assert any("AeroKernel, window " in line for line in lines)
    assert any(line.startswith("  rax ") for line in lines)
    assert any(line.startswith("  cr0 80010033  cr2 ") for line in lines)
    assert any(line.startswith("  program ") and line.endswith(f" {how}") for line in lines)
    assert lines[-1].split(maxsplit=1)[1].startswith("exception #GP")


def test_json(crash: Callable[..., Outcome], crasher: str, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    lines = check_line(crash("jump", options=(f"--crash-report={target}",)))
    assert lines == [f"multiverse: crash report: {target}"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    report = json.loads(target.read_text())
    assert report["complete"]
    assert report["reason"]["exception"]["vector"] == 13
    assert report["reason"]["notes"] == []
    assert report["program"] == os.path.realpath(crasher)
    assert report["arguments"] == [crasher, "jump"]
    assert report["saved_registers"]["rip"] == hex(1 << 63)
    assert report["registers"]["rflags"] != "0x0"
    hows = [step["how"] for step in report["backtrace"]]
    assert hows[:3] == ["rip", "exception", "frame"]
    assert {"call", "fp"} & set(hows[3:])
    found = functions(report["backtrace"])
    assert found[:2] == ["vector 13", "ak_answered"]
    assert [name for name in found if name in ("do_crash", "main")] == ["do_crash", "main"]
    assert any(m["path"] == report["program"] for m in report["mappings"])
    assert [event["kind"] for event in report["events"]][-1] == "exception"
    begins = [event["begin"] for event in report["events"]]
    assert begins == sorted(begins) and begins[-1] < report["tsc"]
    assert 2 < len(begins) <= 16


def test_backtrace_from_a_handler_of_faults(
    guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    """It goes on at the instruction that faulted."""
    program = compile_handler(guest, FRAME_POINTERS)
    result = hrt([program, "crash"], config=f"{HRT},crash=raw")
    assert result.status == 125
    report = Report(parse(result.stderr.decode().splitlines()))
    names = [step.place.symbol for step in report.backtrace if step.place]
    expected = ["in_handler", "ak_upcall", "store", "main"]
    assert names[names.index(expected[0]) :][: len(expected)] == expected, names


def test_stack_scan(crash: Callable[..., Outcome], tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    crash("overwrite", options=(f"--crash-report={target}",))
    report = json.loads(target.read_text())
    found = functions(report["backtrace"] + report["stack_scan"])
    assert {"do_crash", "main"} <= set(found)
    assert report["code"], "the call's own code can be read"


def test_full_text(crash: Callable[..., Outcome], tmp_path: Path) -> None:
    target = tmp_path / "a,b%report"
    lines = check_line(crash("jump", options=("--crash-report", str(target))))
    assert lines == [f"multiverse: crash report: {target}"]
    text = target.read_text().splitlines()
    assert text[0] == "crash report"
    assert "mappings" in text and "stack" in text


def test_directory(crash: Callable[..., Outcome], crasher: str, tmp_path: Path) -> None:
    check_line(crash("jump", options=("--crash-report=.",), cwd=tmp_path))
    (target,) = tmp_path.iterdir()
    assert target.name.startswith(f"crash-{Path(crasher).name}-")
    assert target.suffix == ".txt"


def test_off(crash: Callable[..., Outcome], tmp_path: Path) -> None:
    assert check_line(crash("jump", options=("--crash-report=off",), cwd=tmp_path)) == []
    assert not list(tmp_path.iterdir())


def test_destination_that_cannot_be_written(crash: Callable[..., Outcome]) -> None:
    lines = check_line(crash("jump", options=("--crash-report=/proc/self/report",)))
    assert lines[0].startswith("multiverse: crash report: /proc/self/report: ")
    assert lines[1] == "crash report"


def test_destination_that_is_none(tmp_path: Path) -> None:
    result = multiverse("run", f"--crash-report={tmp_path}/no/report", "--", "true")
    assert result.returncode == 2
    assert "neither a directory nor a file in one" in result.stderr


def test_other_threads(crash: Callable[..., Outcome], tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    check_line(crash("jump", "threads", options=(f"--crash-report={target}",)))
    threads = json.loads(target.read_text())["threads"]
    assert len(threads) == 3
    assert all(thread["stopped"] for thread in threads)
    computing = [t for t in threads if (t["place"] or {}).get("symbol") == "compute"]
    waiting = [t for t in threads if (t["called_from"] or {}).get("symbol") in ("pause", "__pause")]
    assert (len(computing), len(waiting)) == (1, 2), threads


def test_fault_of_the_core(crash: Callable[..., Outcome], tmp_path: Path) -> None:
    """Taking the report down meets the same fault again: what there is by then is reported."""
    target = tmp_path / "report.json"
    options = (f"--crash-report={target}", "--channel=async")
    outcome = crash("core", options=options)
    lines = outcome.stderr.decode().splitlines()
    assert (outcome.status, outcome.stdout) == (125, b"before\n")
    assert lines[0].startswith("multiverse: internal error: signal 11 at core offset 0x")
    assert lines[1:] == [f"multiverse: crash report: {target}"]
    report = json.loads(target.read_text())
    assert not report["complete"]
    assert report["reason"]["what"] == "internal error of the core"
    found = functions(report["backtrace"] + report["core_stack_scan"])
    assert "ros_loop" in found, "what its compiler has not taken apart"
    assert any("in the core" in note for note in report["reason"]["notes"])


def test_forked_child(crash: Callable[..., Outcome]) -> None:
    outcome = crash("jump", "child")
    assert (outcome.status, outcome.stdout) == (0, b"before\nchild: 125\n")
    lines = outcome.stderr.decode().splitlines()
    assert lines[0].startswith(LINE)
    assert lines[1] == "crash report"


def test_children_that_borrow_memory(crash: Callable[..., Outcome]) -> None:
    """Their parent goes on, and its own crash is reported as theirs were."""
    outcome = crash("jump", "borrowers")
    assert (outcome.status, outcome.stdout) == (125, b"before\nchild: 125\nchild: 125\n")
    lines = outcome.stderr.decode().splitlines()
    assert [lines.count("crash report"), sum(line.startswith(LINE) for line in lines)] == [3, 3]


def test_followed_program(crasher: str, facts: dict[str, str]) -> None:
    script = f"{crasher} jump; echo $?"
    command = [*MULTIVERSE, "run", "--follow", "--", "sh", "-c", script]
    outcome = run(command, stdin=b"", env=None, cwd=None, timeout=60, trace=None)
    assert outcome.stdout == b"before\n125\n"
    lines = outcome.stderr.decode().splitlines()
    assert lines[0].startswith(LINE)
    assert lines[1] == "crash report"


def test_observed_program(crash: Callable[..., Outcome], tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    lines = check_line(crash("jump", options=(f"--stats={stats}",)))
    assert lines[0] == "crash report"
    assert json.loads(stats.read_text())["exceptions"]["13"] == 1


@pytest.mark.parametrize("what", ["descriptors", "memory", "files", "alarm", "missing", "root"])
def test_hard_circumstances(what: str, crash: Callable[..., Outcome]) -> None:
    """Whatever the process is short of: readable or raw, the report is there."""
    outcome = crash("jump", what)
    if outcome.stdout == b"before\nno userfaultfd\n":
        pytest.skip("userfaultfd is not permitted here")
    lines = check_line(outcome)
    if "crash report" in lines:
        whole = not any("note      the report is not whole" in line for line in lines)
    else:
        raw = parse(lines)
        assert raw.text["what"] == "exception in the AeroKernel"
        assert bool(raw.mappings) == (what != "root"), "there is no /proc"
        whole = raw.complete
    assert whole == (what != "missing"), lines


def test_closed_streams(crash: Callable[..., Outcome]) -> None:
    outcome = crash("jump", "closed")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (125, b"before\n", b"")


@pytest.mark.parametrize("python", ["", "/nonexistent/python", "/bin/false", "/bin/true"])
def test_without_the_command_line(python: str, crasher: str, hrt: Callable[..., Outcome]) -> None:
    """Only an interpreter that says that it has reported is believed."""
    keys = f",python={python}" if python else ""
    lines = check_line(hrt([crasher, "jump"], config=f"{HRT},crash=-{keys}"))
    if python == "/bin/true":
        assert lines == []
        return
    raw = parse(lines)
    assert raw.complete
    assert raw.text["what"] == "exception in the AeroKernel"


def test_raw_file(crash: Callable[..., Outcome], tmp_path: Path) -> None:
    target = tmp_path / "report.raw"
    check_line(crash("jump", options=(f"--crash-report={target}",)))
    lines = target.read_text().splitlines()
    assert lines[0] == "multiverse-crash=1"
    assert lines[-1] == "end=1"


def test_raw_report_read_again(raw_report: str, tmp_path: Path) -> None:
    file = tmp_path / "raw"
    file.write_text(raw_report)
    full = multiverse("crash-report", str(file))
    short = multiverse("crash-report", "--short", str(file))
    values = multiverse("crash-report", "--json", str(file))
    assert full.returncode == short.returncode == values.returncode == 0
    assert len(short.stdout.splitlines()) <= SHORT_MAX < len(full.stdout.splitlines())
    assert json.loads(values.stdout)["complete"]


@pytest.mark.parametrize("text", ["", "hello\n", "multiverse-crash=999\nend=1\n"])
def test_what_is_no_raw_report(text: str) -> None:
    command = [sys.executable, "-m", "multiverse", "crash-report", "-"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (125, "")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("main", "main"),
        ("i", "i"),  # which is a type, mangled
        ("_Zero", "_Zero"),
        ("_ZN4shop7CounterIlE3askEl", "shop::Counter<long>::ask(long)"),
        ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
        ("_RNvC6_123foo3bar", "123foo::bar"),
        ("_Z1f" + "P" * 100_000 + "i", "_Z1f" + "P" * 100_000 + "i"),
    ],
    ids=["C", "short", "wrong", "C++", "older Rust", "Rust", "long"],
)
def test_names_are_readable(symbol: str, name: str) -> None:
    assert readable(symbol) == name
    assert str(Place(16, "/bin/x", symbol, 8)) == f"{name}+0x8 (/bin/x)"


def test_a_name_does_not_grow_without_end() -> None:
    """Each argument's type names the one before twice."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    pairs = "".join(f"S_IS{digits[i]}_S{digits[i]}_E" for i in range(36))
    symbol = f"_Z1f1PIiiE{pairs}"
    assert readable(symbol) == symbol


def test_nothing_reaches_the_terminal(raw_report: str) -> None:
    """Names are the program's to choose."""
    evil = raw_report.replace("arg=jump", r"arg=\x1b[2J\x9b\xff\n")
    evil = evil.replace("map=", r"map=00001000-00002000 r-xp 0 00:00 0 /\x1b]0;x\x07" + "\nmap=", 1)
    report = Report(parse(evil.splitlines()))
    for text in (short_text(report), full_text(report)):
        assert all(line.isprintable() for line in text.splitlines())
        text.encode()  # nothing that cannot be
    json.dumps(report.to_json())


@given(st.data())
def test_any_raw_report_is_rendered(raw_report: str, data: st.DataObject) -> None:
    """What a broken program leaves may be anything; the report is made all the same."""
    lines = raw_report.splitlines()
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key = lines[at].partition("=")[0]
        value = data.draw(
            st.one_of(
                st.integers(-(1 << 70), 1 << 70).map(str),
                st.lists(st.integers(0, 1 << 64), max_size=9).map(lambda n: ",".join(map(hex, n))),
                st.text(st.characters(exclude_characters="\n"), max_size=20),
            )
        )
        lines[at] = f"{key}={value}"
    try:
        raw = parse(lines)
    except RawError:
        return
    report = Report(raw)
    text = short_text(report)
    assert len(text.splitlines()) <= SHORT_MAX
    assert len(full_text(report)) > len("crash report")
    json.dumps(report.to_json())


@given(st.text())
def test_values_of_the_configuration(text: str) -> None:
    encoded = encode_value(text)
    assert "," not in encoded
    assert decode_value(encoded) == text

"""`multiverse bench latency`: arithmetic, reading, files and errors. No test asserts on time."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from bench_signals import end_by_signal, waiting
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from multiverse.bench import chart, latency, micro, report, stats
from multiverse.bench.errors import BenchError
from multiverse.bench.topology import Placement, parse_list, place
from multiverse.cli.bench import bench as command
from multiverse.core import core_path

needs_cc = pytest.mark.skipif(
    shutil.which("cc") is None, reason="cc is not installed (apt-get install gcc libc6-dev)"
)
needs_two = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor only")

TWO_SOCKETS = Placement(hrt=0, same_socket=1, other_socket=2, sockets=2, siblings=False)
ALONE = Placement(hrt=0, same_socket=None, other_socket=None, sockets=1, siblings=False)

INTERACTIONS = ["merge", "merge_slots", "async", "sync_other_socket", "sync_same_socket"]
YARDSTICKS = [
    "line_other_socket", "line_same_socket", "exit", "getppid_native", "getppid_sync",
    "getppid_async", "vm", "vcpu", "slot", "clock",
]  # fmt: skip

# ---- statistics ----


@given(st.lists(st.floats(min_value=-1e12, max_value=1e12), min_size=2))
def test_spread_agrees_with_the_standard_library(samples: list[float]) -> None:
    ours = stats.spread(samples)
    deciles = statistics.quantiles(samples, n=10, method="inclusive")
    assert ours.count == len(samples)
    for mine, theirs in ((ours.p10, deciles[0]), (ours.median, deciles[4]), (ours.p90, deciles[8])):
        assert math.isclose(mine, theirs, rel_tol=1e-9, abs_tol=1e-3)


@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [math.inf]])
def test_spread_refuses_what_is_not_a_sample(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="sample"):
        stats.spread(samples)


def test_a_range_is_shown_in_the_unit_of_its_middle() -> None:
    assert report.shown_range(990, 1100, 12_000, "cycles") == "0.99-12.0"
    assert report.shown_range(990, 998, 12_000, "cycles") == "990-12000"
    assert report.shown_range(0.9e-6, 1.5e-6, 40e-6, "s") == "0.90-40.0"


# ---- processors ----


def fake_system(directory: Path, cpus: Mapping[int, tuple[int, str]]) -> Path:
    """A directory like /sys/devices/system/cpu: socket and threads of one core, by processor."""
    for cpu, (socket, threads) in cpus.items():
        topology = directory / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{socket}\n")
        (topology / "thread_siblings_list").write_text(f"{threads}\n")
    return directory


@pytest.mark.parametrize(
    ("cpus", "usable", "expected"),
    [
        ({0: (0, "0"), 1: (0, "1")}, {0, 1}, (0, 1, None, 1, False)),
        ({0: (0, "0")}, {0}, (0, None, None, 1, False)),
        # Two threads a core: the other core comes before the other thread.
        ({0: (0, "0-1"), 1: (0, "0-1"), 2: (0, "2")}, {0, 1, 2}, (0, 2, None, 1, False)),
        ({0: (0, "0-1"), 1: (0, "0-1")}, {0, 1}, (0, 1, None, 1, True)),
        ({c: (c // 2, str(c)) for c in range(4)}, {0, 1, 2, 3}, (0, 1, 2, 2, False)),
        ({c: (c // 2, str(c)) for c in range(4)}, {1, 3}, (1, None, 3, 2, False)),
        ({c: (c % 2, str(c)) for c in range(4)}, {1, 2, 3}, (1, 3, 2, 2, False)),
    ],
)  # fmt: skip
def test_processors_are_chosen_by_topology(
    tmp_path: Path,
    cpus: dict[int, tuple[int, str]],
    usable: set[int],
    expected: tuple[Any, ...],
) -> None:
    assert place(usable, fake_system(tmp_path, cpus)) == Placement(*expected)


def test_processors_without_topology_are_cores_of_one_socket(tmp_path: Path) -> None:
    assert place({3, 5}, tmp_path) == Placement(3, 5, None, 1, False)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_lists_of_processors_are_read(numbers: set[int]) -> None:
    assert parse_list(",".join(str(number) for number in sorted(numbers)) + "\n") == numbers
    first, last = min(numbers), max(numbers)
    assert parse_list(f"{first}-{last}") == set(range(first, last + 1))


# ---- what the programs print ----


def test_round_trips_are_read() -> None:
    text = "empty 52.0 78.0\nsingle 300.0 310.5\nbatch 140.2\nresult -38\n"
    samples, clock, result = latency.parse_round_trips(["/x/roundtrip"], text)
    assert samples == latency.Samples([300.0, 310.5], [140.2])
    assert clock == latency.Samples([52.0, 78.0])
    assert result == -38


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oops\n",
        "empty 1\nsingle 1\n",
        "empty 1\nsingle\nbatch 1\n",
        "empty 1\nsingle x\nbatch 1\n",
        "empty 1\nsingle nan\nbatch 1\n",
        "empty 1\nsingle 1\nbatch 1\nresult\n",
        "\n\nempty " + "1 " * 500,
    ],
)
def test_what_is_no_round_trip_is_an_error_of_one_line(text: str) -> None:
    with pytest.raises(
        BenchError, match=r"read the figure: roundtrip: it printed .*; try"
    ) as error:
        latency.parse_round_trips(["/x/roundtrip"], text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


# ---- ratios ----


def made_report(placement: Placement = TWO_SOCKETS, rounds: int = 3) -> latency.Report:
    """Call n of the names of a report takes n times the cycles of call 1."""
    made = latency.Report(
        {"processor": "a processor", "cores": 4, "kernel": "6.1", "kvm": {"kind": "hardware"}},
        2e9,
        rounds,
        placement,
        7,
        latency._interactions(),
        latency._yardsticks(),
        [],
    )
    missing = latency._unavailable(placement)
    for number, figure in enumerate((*made.interactions, *made.yardsticks), 1):
        figure.unavailable = missing.get(figure.name)
        if figure.unavailable is None:
            batched = figure.name.startswith(("sync", "async", "line", "getppid"))
            figure.rounds = [
                latency.Samples([100.0 * number * (turn + 1)] * 5, [90.0 * number] * batched)
                for turn in range(rounds)
            ]
    return made


def test_figures_are_the_papers_and_the_yardsticks() -> None:
    made = made_report()
    assert [figure.name for figure in made.interactions] == INTERACTIONS
    assert [figure.name for figure in made.yardsticks] == YARDSTICKS
    assert [figure.paper_cycles for figure in made.interactions] == [
        33_000,
        None,
        25_000,
        1060,
        790,
    ]
    assert made.seconds(2_000) == pytest.approx(1e-6)


def test_ratios_are_taken_round_by_round() -> None:
    made = made_report()
    place_of = {name: n for n, name in enumerate((*INTERACTIONS, *YARDSTICKS), 1)}
    ratios = made.ratios()
    assert [(ratio.over, ratio.under) for ratio in ratios] == [
        ("sync_other_socket", "line_other_socket"),
        ("sync_same_socket", "line_same_socket"),
        ("async", "exit"),
        ("getppid_sync", "getppid_native"),
        ("getppid_async", "getppid_native"),
    ]
    for ratio in ratios:
        expected = place_of[ratio.over] / place_of[ratio.under]
        # A machine that gets slower from round to round moves both.
        assert ratio.single == pytest.approx([expected] * 3)
        assert ratio.batch == pytest.approx([] if ratio.under == "exit" else [expected] * 3)


def test_what_cannot_be_measured_says_why() -> None:
    assert set(latency._unavailable(TWO_SOCKETS)) == set()
    missing = latency._unavailable(ALONE)
    assert missing["sync_other_socket"] == missing["line_other_socket"] == "one socket"
    assert missing["sync_same_socket"] == missing["getppid_sync"] == "one processor"
    spread_out = Placement(hrt=0, same_socket=None, other_socket=1, sockets=2, siblings=False)
    assert set(latency._unavailable(spread_out).values()) == {"one processor a socket"}
    assert [ratio.over for ratio in made_report(ALONE).ratios()] == ["async", "getppid_async"]


def test_remarks_tell_siblings_and_pollers_that_do_not_answer() -> None:
    made = made_report(Placement(0, 1, None, 1, siblings=True))
    assert [remark.split(":")[0] for remark in latency._remarks(made)] == [
        "processors 0 and 1 are two threads of one core",
        "Synchronous call, same socket",
    ]
    for samples in made.figures()["sync_same_socket"].rounds:
        samples.single = [1.0]
    assert len(latency._remarks(made)) == 1


@pytest.mark.parametrize("placement", [TWO_SOCKETS, ALONE])
def test_chart_is_drawn_and_always_the_same(tmp_path: Path, placement: Placement) -> None:
    png, svg = chart.draw_latency(made_report(placement), tmp_path / "one.two")
    assert (png.name, svg.name) == ("one.two.png", "one.two.svg")
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    text = svg.read_text()
    for word in ("Asynchronous call", "paper, Figure 2", "Bare exit", "33,000", "hardware KVM"):
        assert word in text
    assert ("n/a, one socket" in text) == (placement is ALONE)
    assert chart.draw_latency(made_report(placement), tmp_path / "again")[1].read_text() == text


# ---- a whole run, with a core that runs everything natively ----

FAKE_CORE = """#!/bin/sh
case "$1" in
probe) printf 'kvm=1\\nkind=software\\nring=3\\n{tsc}' ;;
latency) {latency} ;;
*)
    echo "$1" >>{log}
    [ "$4" = absent ] && {absent}
    program=$2
    shift 3
    exec "$program" "$@" ;;
esac
"""
CORE_LATENCY = (
    "printf 'vm_create=100,300\\nmerge_100_slots=9000\\nmerge_windows=3\\nmerge_100=70,71\\n"
    "slot_add=5\\nvcpu_create=6\\nexit=40,50\\nexit=60\\n'"
)
ABSENT = "{ printf 'empty 1\\nsingle 20 30\\nbatch 25 35\\nresult %s\\n' -38; exit 0; }"


def fake_core(
    directory: Path,
    latency: str = CORE_LATENCY,
    absent: str = ABSENT,
    tsc: str = "tsc_hz=2000000000\\n",
) -> Path:
    core = directory / "multiverse-core"
    log = directory / "configs"
    core.write_text(FAKE_CORE.format(latency=latency, absent=absent, tsc=tsc, log=log))
    core.chmod(0o755)
    return core


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["latency", *(str(argument) for argument in arguments)])


def error_line(result: Result) -> str:
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("multiverse: ")
    return lines[0]


def check_json(values: dict[str, Any]) -> None:
    """The format that docs/benchmarks.md describes."""
    assert set(values) == {
        "format", "machine", "tsc_hz", "runs", "processors", "merge_windows", "interactions",
        "yardsticks", "ratios", "remarks",
    }  # fmt: skip
    assert values["format"] == "multiverse-bench-latency-1"
    assert set(values["processors"]) == {
        "hrt", "same_socket", "other_socket", "sockets", "siblings",
    }  # fmt: skip
    assert [figure["name"] for figure in values["interactions"]] == INTERACTIONS
    assert [figure["name"] for figure in values["yardsticks"]] == YARDSTICKS
    for figure in (*values["interactions"], *values["yardsticks"]):
        assert set(figure) == {
            "name", "title", "paper_cycles", "rounds", "unavailable", "single_summary",
            "batch_summary",
        }  # fmt: skip
        if figure["unavailable"] is not None:
            assert figure["rounds"] == []
            assert figure["single_summary"] is None
            continue
        assert len(figure["rounds"]) == values["runs"]
        single = [value for samples in figure["rounds"] for value in samples["single"]]
        assert all(value > 0 for value in single)
        assert set(figure["single_summary"]) == {"count", "p10", "median", "p90"}
        assert figure["single_summary"]["count"] == len(single)
        assert figure["single_summary"]["median"] == pytest.approx(statistics.median(single))
        batch = [value for samples in figure["rounds"] for value in samples["batch"]]
        assert (figure["batch_summary"] is None) == (not batch)
    for ratio in values["ratios"]:
        assert set(ratio) == {
            "title", "over", "under", "single", "batch", "single_summary", "batch_summary",
        }  # fmt: skip
        assert len(ratio["single"]) == values["runs"]


@pytest.mark.parametrize("width", [80, 109, 140])
def test_no_name_or_figure_of_the_table_is_cut_short(width: int) -> None:
    made = made_report()
    console = Console(width=width, file=io.StringIO())
    console.print(report.latency_table(made, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    for figure in (*made.interactions, *made.yardsticks):
        assert all(word in text for word in figure.title.split())
        assert report.shown(figure.single().median, "cycles") in text


@needs_cc
def test_latency_writes_table_json_and_chart(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    result = invoke(
        "--runs", "2", "--core", fake_core(tmp_path), "--json", tmp_path / "out.json",
        "--chart", tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert os.sched_getaffinity(0) == before
    values = json.loads((tmp_path / "out.json").read_text())
    check_json(values)
    figures = {
        figure["name"]: figure for figure in (*values["interactions"], *values["yardsticks"])
    }
    for figure in figures.values():
        assert figure["title"] in result.stdout
    assert figures["exit"]["rounds"] == [{"single": [40, 50, 60], "batch": []}] * 2
    assert figures["async"]["rounds"] == [{"single": [20, 30], "batch": [25, 35]}] * 2
    assert figures["merge_slots"]["single_summary"]["median"] == 9000
    assert values["merge_windows"] == 3
    assert "ten times too low" in result.stdout
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert b"<svg" in (tmp_path / "latency.svg").read_bytes()
    hrt = min(before)
    asynchronous = f"require=1,quiet=1,channel=async,hrtcpus={1 << hrt:#x}"
    configs = (tmp_path / "configs").read_text().splitlines()
    assert configs.count(asynchronous) == 4
    for config in set(configs) - {asynchronous}:
        head, poller, ros, last = config.rsplit(",", 3)
        assert (head, poller) == ("require=1,quiet=1,channel=sync", "pollers=1")
        assert int(ros.removeprefix("roscpus="), 16) & ~(1 << hrt)
        assert last == f"hrtcpus={1 << hrt:#x}"


@needs_cc
def test_latency_json_on_stdout_is_json_and_nothing_else(tmp_path: Path) -> None:
    result = invoke("--runs", "1", "--core", fake_core(tmp_path), "--json", "-")
    check_json(json.loads(result.stdout))
    assert "Asynchronous call" in result.stderr


@needs_cc
def test_latency_on_one_processor_leaves_out_what_needs_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "place", lambda usable: place([min(usable)]))
    result = invoke("--runs", "1", "--core", fake_core(tmp_path), "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert "one processor" in result.stdout
    values = json.loads((tmp_path / "out.json").read_text())
    check_json(values)
    assert [ratio["over"] for ratio in values["ratios"]] == ["async", "getppid_async"]
    assert "sync,pollers" not in (tmp_path / "configs").read_text()


@needs_cc
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"absent": "{ echo single 1; exit 0; }"},
            r"read the figure: .* roundtrip absent 200 10: it printed 'single 1\\n'; try",
        ),
        # A core that made the call after all.
        ({"absent": ABSENT.replace("-38", "-22")}, r"it printed 'result -22'; try"),
        ({"absent": "{ echo multiverse: no >&2; exit 9; }"}, r'exited with 9; .* "multiverse: no"'),
        ({"latency": "exit 3"}, r"run: multiverse-core latency: it exited with 3; "),
        ({"latency": "echo vm_create=1"}, r"read the figure: multiverse-core latency: it printed"),
        ({"latency": CORE_LATENCY.replace("slot_add=5", "slot_add=")}, r"read the figure"),
        ({"tsc": ""}, r"probe the machine: multiverse-core: it gave no tsc_hz; install"),
        ({"tsc": "tsc_hz=0\\n"}, r"it gave no tsc_hz"),
    ],
)
def test_what_goes_wrong_is_one_line(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    before = os.sched_getaffinity(0)
    result = invoke("--runs", "1", "--core", fake_core(tmp_path, **parts))
    assert result.exit_code == 125
    assert re.search(message, error_line(result))
    assert os.sched_getaffinity(0) == before


def test_latency_without_a_compiler_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name, **_: None)
    result = invoke("--core", fake_core(tmp_path))
    assert result.exit_code == 125
    assert "cc: not found; install a C compiler" in error_line(result)


@pytest.mark.parametrize(
    "arguments",
    [["--runs", "0"], ["--chart", "/nonexistent/x"], ["--json", "/"], ["--short"], ["extra"]],
)
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == 2


@needs_cc
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals, status: int) -> None:
    core = fake_core(tmp_path, waiting(tmp_path))
    end_by_signal(
        ["latency", "--core", core, "--json", tmp_path / "out.json"], tmp_path, number, status
    )
    assert not (tmp_path / "out.json").exists()


# ---- the programs and the core themselves ----


@needs_cc
@needs_two
def test_a_cache_line_goes_there_and_back() -> None:
    one, other = sorted(os.sched_getaffinity(0))[:2]
    with micro.compiled(["pingpong"]) as directory:
        words = [str(directory / "pingpong"), str(one), str(other)]
        samples, _, _ = latency.parse_round_trips(words, micro.printed([*words, "3", "2"]))
        assert (len(samples.single), len(samples.batch)) == (3, 2)
        with pytest.raises(BenchError, match=r"exited with 1; .*CPU 9999: Invalid argument"):
            micro.printed([words[0], str(one), "9999", "3", "2"])
        for wrong in ([], words[1:], [*words[1:], "0", "1"], [*words[1:], "1", "x"]):
            with pytest.raises(BenchError, match=r"exited with 2; .*usage: pingpong"):
                micro.printed([words[0], *wrong])


@needs_cc
@pytest.mark.parametrize("call", ["absent", "getppid"])
def test_a_round_trip_natively_and_as_an_hrt(hrt: Callable[..., Any], call: str) -> None:
    with micro.compiled(["roundtrip"]) as directory:
        words = [str(directory / "roundtrip"), call, "3", "2"]
        natively = latency.parse_round_trips(words, micro.printed(words))
        outcome = hrt(words)
        assert outcome.status == 0
        as_hrt = latency.parse_round_trips(words, outcome.stdout.decode())
        for samples, clock, _ in (natively, as_hrt):
            assert [len(samples.single), len(samples.batch), len(clock.single)] == [3, 2, 3]
        # Linux has call 334 and refuses its arguments; an HRT does not have it.
        assert natively[2] == (-22 if call == "absent" else os.getpid())
        assert as_hrt[2] == (-38 if call == "absent" else os.getpid())


def core_latency(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(core_path()), "latency", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_core_measures_itself(facts: dict[str, str]) -> None:
    done = core_latency()
    assert (done.returncode, done.stderr) == (0, "")
    figures, windows = latency._core_samples(["core"], done.stdout)
    assert {name: len(samples.single) for name, samples in figures.items()} == {
        "vm": 4, "vcpu": 4, "slot": 8, "merge": 8, "merge_slots": 1, "exit": 128,
    }  # fmt: skip
    assert windows > 0
    assert all(cycles > 0 for samples in figures.values() for cycles in samples.single)
    assert core_latency(f"ring={facts['ring']}").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense=1"], "unknown configuration key nonsense"),
        (["ring=1"], "configuration key ring"),
    ],
)
def test_the_core_refuses_wrong_configuration(arguments: list[str], message: str) -> None:
    done = core_latency(*arguments)
    assert done.returncode == 125
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_core_says_where_ring_0_is_impossible(facts: dict[str, str]) -> None:
    done = core_latency("ring=0")
    possible = facts["kind"] == "hardware"
    assert done.returncode == (0 if possible else 125)
    refused = "ring 0 on a software KVM: Operation not supported; use --ring=auto, or multiverse "
    assert possible or refused in done.stderr


@needs_cc
def test_latency_is_measured_here(facts: dict[str, str], tmp_path: Path) -> None:
    result = invoke("--runs", "1", "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    values = json.loads((tmp_path / "out.json").read_text())
    check_json(values)
    assert values["machine"]["kvm"]["ring"] == facts["ring"]
    assert values["tsc_hz"] > 0


@needs_cc
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    result = invoke("--runs", "1", "--core", fake_core(tmp_path), "--json", "/dev/full")
    assert result.exit_code == 125
    assert "benchmark: /dev/full: No space left on device" in error_line(result)

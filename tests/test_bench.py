"""The benchmarks' machinery and the Racket programs' correctness. No test asserts on time."""

from __future__ import annotations

import functools
import json
import math
import os
import random
import shutil
import signal
import statistics
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_signals import end_by_signal, waiting
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from multiverse.bench import base, chart, machine, pairs, racket, report, runner, sources, stats
from multiverse.bench.errors import BenchError, Difference
from multiverse.cli.bench import bench as command

RACKET = shutil.which("racket")
needs_racket = pytest.mark.skipif(
    RACKET is None, reason="racket is not installed (apt-get install racket)"
)
needs_cc = pytest.mark.skipif(
    shutil.which("cc") is None, reason="cc is not installed (apt-get install gcc libc6-dev)"
)

finite = st.floats(min_value=-1e12, max_value=1e12)
positive = st.floats(min_value=1e-6, max_value=1e6)


# ---- statistics ----


@given(st.lists(finite, min_size=1))
def test_summary_is_ordered_and_within_the_sample(samples: list[float]) -> None:
    summary = stats.summarize(samples)
    assert summary.count == len(samples)
    assert summary.minimum == min(samples)
    assert summary.maximum == max(samples)
    assert (
        summary.minimum
        <= summary.lower_quartile
        <= summary.median
        <= summary.upper_quartile
        <= summary.maximum
    )


@given(st.lists(finite, min_size=2))
def test_summary_agrees_with_the_standard_library(samples: list[float]) -> None:
    summary = stats.summarize(samples)
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    for ours, theirs in (
        (summary.lower_quartile, lower),
        (summary.median, median),
        (summary.upper_quartile, upper),
    ):
        assert math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-3)


@given(st.lists(finite, min_size=1), st.randoms())
def test_summary_does_not_depend_on_the_order(samples: list[float], rng: random.Random) -> None:
    shuffled = list(samples)
    rng.shuffle(shuffled)
    assert stats.summarize(shuffled) == stats.summarize(samples)


@given(st.lists(positive, min_size=1), positive)
def test_ratios_of_a_program_that_is_k_times_slower(native: list[float], k: float) -> None:
    ratios = stats.paired_ratios(native, [k * sample for sample in native])
    assert all(math.isclose(ratio, k, rel_tol=1e-9) for ratio in ratios)
    assert math.isclose(stats.geometric_mean(ratios), k, rel_tol=1e-9)


@given(st.lists(positive, min_size=1))
def test_geometric_mean_lies_within(values: list[float]) -> None:
    mean = stats.geometric_mean(values)
    assert min(values) * (1 - 1e-9) <= mean <= max(values) * (1 + 1e-9)


@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [math.inf]])
def test_summary_refuses_what_is_not_a_sample(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="sample"):
        stats.summarize(samples)


def test_pairs_have_to_be_pairs() -> None:
    with pytest.raises(ValueError, match="paired"):
        stats.paired_ratios([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="above zero"):
        stats.paired_ratios([0.0], [1.0])
    with pytest.raises(ValueError, match="above zero"):
        stats.geometric_mean([])
    assert stats.paired_differences([1.0, 5.0], [3.0, 4.0]) == [2.0, -1.0]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.5, "s", "1.50 s"),
        (0.0123, "s", "12.3 ms"),
        (97e-9, "s", "97.0 ns"),
        (0.0, "s", "0.00 ns"),
        (-0.0021, "s", "-2.10 ms"),
        (16 * 2**20, "bytes", "16.0 MiB"),
        (0, "bytes", "0.00 B"),
        (790, "cycles", "790"),
        (33_000, "cycles", "33.0 K"),
        (8.5e6, "cycles", "8.50 M"),
    ],
)
def test_quantities_are_shown_in_a_unit_that_suits(value: float, unit: str, text: str) -> None:
    assert report.shown(value, unit) == text


# ---- running and comparing ----


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


@pytest.fixture
def output() -> Iterator[runner.Output]:
    with runner.Output() as fresh:
        yield fresh


def outcome(script: str) -> runner.Output:
    result = runner.Output()
    runner.run(shell(script), result, 60)
    return result


def test_a_run_is_captured_and_timed(output: runner.Output) -> None:
    timing = runner.run(shell("echo out; echo error >&2; exit 3"), output, 60)
    assert output.stdout_bytes() == b"out\n"
    assert output.last_words() == 'its last line on stderr is "error"'
    assert output.ending() == "exited with 3"
    assert timing.wall > 0
    assert timing.user >= 0
    assert timing.system >= 0


def test_a_run_reads_nothing_and_has_default_signals(output: runner.Output) -> None:
    # Python ignores SIGPIPE and SIGXFSZ; a measured program must not inherit that.
    runner.run(shell("cat; grep SigIgn /proc/self/status"), output, 60)
    name, ignored = output.stdout_bytes().split()
    assert name == b"SigIgn:"
    assert not int(ignored, 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_a_run_ended_by_a_signal_says_so(output: runner.Output) -> None:
    runner.run(shell("kill -SEGV $$"), output, 60)
    assert output.status == -signal.SIGSEGV
    assert output.ending() == "was ended by SIGSEGV"


def test_a_run_that_does_not_end_is_killed(output: runner.Output) -> None:
    with pytest.raises(Difference, match="did not end within"):
        runner.run(["/bin/sleep", "1000"], output, 0.05)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_command_that_cannot_start_is_an_error(output: runner.Output) -> None:
    with pytest.raises(BenchError, match=r"start: /nonexistent: No such file or directory; \S"):
        runner.run(["/nonexistent"], output, 60)


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    outcome("echo").close()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (
            "echo abc",
            "echo abd",
            r"stdout differs from the native run's at byte 2: 'd\\n' instead of 'c\\n'",
        ),
        ("echo abc", "printf abc", r"stdout differs .* at byte 3: the end instead of '\\n'"),
        ("printf abc", "echo abc", r"stdout differs .* at byte 3: '\\n' instead of the end"),
        ("true", "echo w >&2", r"stderr differs .* at byte 0"),
        (
            "true",
            "echo bad >&2; exit 4",
            r'exited with 4 where the native run exited with 0; .* "bad"',
        ),
        (
            "true",
            "kill -ABRT $$",
            r"was ended by SIGABRT where the native run exited with 0; it wrote nothing",
        ),
    ],
)
def test_a_difference_is_found_and_named(one: str, other: str, message: str) -> None:
    with outcome(one) as expected, outcome(other) as actual:
        runner.compare(expected, expected)
        with pytest.raises(Difference, match=message):
            runner.compare(expected, actual)


@given(st.integers(0, 3_000_000), st.integers(1, 3_000_000))
def test_a_difference_is_found_anywhere(offset: int, size: int) -> None:
    offset = min(offset, size - 1)
    with runner.Output() as expected, runner.Output() as actual:
        for output in (expected, actual):
            os.ftruncate(output.stdout, size)
        runner.compare(expected, actual)
        os.pwrite(actual.stdout, b"x", offset)
        with pytest.raises(Difference, match=f"at byte {offset}:"):
            runner.compare(expected, actual)


@given(st.integers(1, 4), st.integers(0, 9))
def test_interleaving_runs_everything_equally_and_changes_who_goes_first(
    count: int, rounds: int
) -> None:
    calls: list[int] = []

    def variant(number: int) -> int:
        calls.append(number)
        return number

    results = list(
        runner.interleave([functools.partial(variant, number) for number in range(count)], rounds)
    )
    assert results == [list(range(count))] * rounds
    assert calls[::count] == [number % count for number in range(rounds)]


def test_variables_and_files_are_given_on(output: runner.Output) -> None:
    descriptor = os.memfd_create("given", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, b"what is given")
        words = shell(f"echo $MULTIVERSE_TEST; cat /proc/self/fd/{descriptor}; echo $HOME")
        way = pairs.Way(words, {"MULTIVERSE_TEST": "more"}, [descriptor])
        pairs.run_way(way, output, 60)
        assert output.stdout_bytes().decode() == f"more\nwhat is given{os.environ['HOME']}\n"
        with runner.Output() as other:
            runner.run(words, other, 60)
            assert other.stdout_bytes().decode() == f"\n{os.environ['HOME']}\n"
    finally:
        os.close(descriptor)


def test_ways_run_by_turns_until_they_differ(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def way(name: str, script: str = "echo same") -> pairs.Way:
        return pairs.Way(shell(f"echo {name} >>{log}; {script}"))

    rounds = []
    runs = pairs.measure(
        "it",
        {
            "native": way("n"),
            "good": way("g"),
            "bad": way("b", "echo other"),
            # The third run of it, the rehearsal included, is another.
            "late": way("l", f"[ $(grep -c l {log}) -lt 3 ] && echo same"),
        },
        3,
        "advice",
        rounds.append,
        {"late": way("l"), "good": way("r")},
    )
    assert rounds == [1, 2, 3]
    assert {name: len(timings) for name, timings in runs.timings.items()} == {
        "native": 3, "good": 3, "bad": 0, "late": 1,
    }  # fmt: skip
    assert set(runs.differences) == {"bad", "late"}
    assert "'other\\n' instead of 'same\\n'" in runs.differences["bad"]
    assert log.read_text().split() == [*"nlr", *"ngbl", *"gln", *"ng"]


def test_a_rehearsal_that_differs_counts() -> None:
    ways = {"native": pairs.Way(shell("echo same")), "other": pairs.Way(shell("echo same"))}
    wrong = {"other": pairs.Way(shell("exit 3"))}
    runs = pairs.measure("it", ways, 2, "advice", rehearsals=wrong)
    assert list(runs.differences) == ["other"]
    assert len(runs.timings["native"]) == 1
    assert runs.timings["other"] == []


# ---- a whole run, with a core that runs everything natively ----

FAKE_CORE = """#!/bin/sh
if [ "$1" = probe ]; then
    printf 'kvm=%s\\nkind=software\\nring={ring}\\nphys_bits=48\\n{error}' {kvm}
    exit 0
fi
case "$1" in
require=1,quiet=1) ;;
require=1,quiet=1,override=*) [ -s "/proc/self/fd/${{1##*=}}" ] || exit 125 ;;
*) exit 125 ;;
esac
program=$2
shift 3
{action}
"""


def fake_core(
    directory: Path,
    action: str = 'exec "$program" "$@"',
    kvm: int = 1,
    error: str = "",
    ring: int = 3,
) -> Path:
    core = directory / "multiverse-core"
    core.write_text(FAKE_CORE.format(action=action, kvm=kvm, error=error, ring=ring))
    core.chmod(0o755)
    return core


def fake_racket(directory: Path, run: str = 'echo "$(basename "$1") $2"') -> Path:
    """A program that answers to what is asked of Racket without being it."""
    program = directory / "racket"
    program.write_text(
        f"""#!/bin/sh
case "$1" in
--version) echo "Welcome to Racket v0.0 [fake]." ;;
-l-) ;;
*) {run} ;;
esac
"""
    )
    program.chmod(0o755)
    return program


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def error_line(result: Result) -> str:
    lines = [line for line in result.stderr.splitlines() if not line.startswith("wrote ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("multiverse: ")
    return lines[0]


def test_racket_writes_table_json_and_chart(tmp_path: Path) -> None:
    result = invoke(
        "racket", "--runs", "2", "--core", fake_core(tmp_path), "--racket", fake_racket(tmp_path),
        "--json", tmp_path / "out.json", "--chart", tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for benchmark in racket.BENCHMARKS:
        assert benchmark.name in result.stdout
    assert "identical" in result.stdout
    assert "DIFFERS" not in result.stdout
    assert (tmp_path / "racket.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert b"<svg" in (tmp_path / "racket.svg").read_bytes()
    values = json.loads((tmp_path / "out.json").read_text())
    check_racket_json(values)
    assert values["machine"]["versions"]["racket"] == "Racket v0.0 [fake]"
    assert racket.Report.from_json(values).to_json() == values


def check_racket_json(values: dict[str, Any]) -> None:
    """The format that docs/benchmarks.md describes."""
    assert set(values) == {"format", "machine", "runs", "benchmarks", "ratio_geometric_mean"}
    assert values["format"] == "multiverse-bench-racket-1"
    check_machine_json(values["machine"])
    assert [entry["name"] for entry in values["benchmarks"]] == [
        benchmark.name for benchmark in racket.BENCHMARKS
    ]
    for entry in values["benchmarks"]:
        assert set(entry) == {
            "name", "size", "identical", "difference", "native", "hrt",
            "native_seconds", "hrt_seconds", "ratio",
        }  # fmt: skip
        assert len(entry["native"]) == len(entry["hrt"]) == values["runs"]
        for sample in (*entry["native"], *entry["hrt"]):
            assert set(sample) == {"wall", "user", "system", "faults"}
        walls = [[sample["wall"] for sample in entry[side]] for side in ("native", "hrt")]
        assert entry["native_seconds"]["median"] == pytest.approx(statistics.median(walls[0]))
        assert entry["ratio"]["median"] == pytest.approx(
            statistics.median(hrt / native for native, hrt in zip(*walls, strict=True))
        )
        for summary in ("native_seconds", "hrt_seconds", "ratio"):
            assert set(entry[summary]) == {
                "count",
                "minimum",
                "lower_quartile",
                "median",
                "upper_quartile",
                "maximum",
            }


def check_machine_json(values: dict[str, Any]) -> None:
    assert set(values) == {
        "date", "kernel", "distribution", "processor", "cores", "memory_bytes", "load_average",
        "transparent_huge_pages", "frequency_governor", "kvm", "versions",
    }  # fmt: skip
    assert values["kvm"]["kind"] == "software"
    assert {"multiverse", "core_sha256", "python", "libc"} <= set(values["versions"])


def test_racket_json_on_stdout_is_json_and_nothing_else(tmp_path: Path) -> None:
    result = invoke(
        "racket", "--runs", "1", "--only", "fasta", "--only", "n-body", "--short", "--json", "-",
        "--core", fake_core(tmp_path), "--racket", fake_racket(tmp_path),
    )  # fmt: skip
    values = json.loads(result.stdout)
    assert [(entry["name"], entry["size"]) for entry in values["benchmarks"]] == [
        ("fasta", 750_000),
        ("n-body", 2_000_000),
    ]
    assert "HRT/native" in result.stderr


def test_racket_reports_other_output_and_goes_on(tmp_path: Path) -> None:
    # The "HRT" alters fasta's output only.
    action = 'case "$1" in *fasta.rkt) echo "fasta.rkt oops" ;; *) exec "$program" "$@" ;; esac'
    result = invoke(
        "racket", "--runs", "2",
        "--core", fake_core(tmp_path, action), "--racket", fake_racket(tmp_path),
        "--json", tmp_path / "out.json", "--chart", tmp_path / "figure",
    )  # fmt: skip
    assert result.exit_code == 1
    assert result.stdout.count("DIFFERS") == 1
    assert result.stdout.count("identical") == len(racket.BENCHMARKS) - 1
    assert (
        "run as an HRT: fasta 10000000: stdout differs from the native run's at byte 10"
        in error_line(result)
    )
    values = json.loads((tmp_path / "out.json").read_text())
    (entry,) = (entry for entry in values["benchmarks"] if entry["name"] == "fasta")
    assert not entry["identical"]
    assert entry["native"] == []
    assert racket.Report.from_json(values).to_json() == values
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_racket_reports_an_hrt_that_fails(tmp_path: Path) -> None:
    core = fake_core(tmp_path, "echo 'multiverse: no room' >&2; exit 125")
    result = invoke(
        "racket", "--runs", "1", "--only", "fasta",
        "--core", core, "--racket", fake_racket(tmp_path),
        "--chart", tmp_path / "figure",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "exited with 125 where the native run exited with 0" in error_line(result)
    assert "no room" in error_line(result)
    assert not (tmp_path / "figure.png").exists()


def test_racket_that_fails_natively_is_an_error(tmp_path: Path) -> None:
    program = fake_racket(tmp_path, "echo 'no memory' >&2; exit 1")
    result = invoke("racket", "--core", fake_core(tmp_path), "--racket", program)
    assert result.exit_code == 125
    assert "run natively: binary-tree 20: it exited with 1" in error_line(result)


def test_racket_whose_output_changes_from_run_to_run_is_an_error(tmp_path: Path) -> None:
    program = fake_racket(tmp_path, "date +%N")
    result = invoke(
        "racket",
        "--core",
        fake_core(tmp_path),
        "--racket",
        program,
        "--only",
        "fasta",
        "--runs",
        "1",
    )
    assert result.exit_code == 125
    assert "not every native run is the same" in error_line(result)


def test_racket_missing_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = invoke("racket", "--core", fake_core(tmp_path))
    assert result.exit_code == 125
    assert (
        error_line(result) == "multiverse: find Racket: racket: not found; apt-get install racket"
    )


def test_no_kvm_is_an_error_and_not_a_native_run(tmp_path: Path) -> None:
    core = fake_core(tmp_path, kvm=0, error="error=permission denied\\n")
    for arguments in (("racket", "--racket", fake_racket(tmp_path)), ("base",)):
        result = invoke(*arguments, "--core", core)
        assert result.exit_code == 125
        assert "/dev/kvm: permission denied; run `multiverse doctor`" in error_line(result)


def test_a_missing_or_broken_core_is_an_error(tmp_path: Path) -> None:
    result = invoke("base", "--core", tmp_path / "absent")
    assert result.exit_code == 125
    assert f"{tmp_path / 'absent'}: it is not there" in error_line(result)
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho why >&2\nexit 3\n")
    broken.chmod(0o755)
    result = invoke("base", "--core", broken)
    assert result.exit_code == 125
    assert "it exited with 3: why" in error_line(result)
    result = invoke("base", "--core", "/bin/true")
    assert result.exit_code == 125
    assert "/bin/true: it does not answer as a core" in error_line(result)


@pytest.mark.parametrize(
    "arguments",
    [
        ["racket", "--runs", "0"],
        ["racket", "--only", "fastest"],
        ["racket", "--json", "/nonexistent/x.json"],
        ["racket", "--chart", "/nonexistent/x"],
        ["racket", "--json", "/"],
        ["base", "--runs", "many"],
        ["frobnicate"],
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals, status: int) -> None:
    program = fake_racket(tmp_path, waiting(tmp_path))
    end_by_signal(
        ["racket", "--core", fake_core(tmp_path), "--racket", program], tmp_path, number, status
    )


@needs_cc
@pytest.mark.parametrize("ring", [0, 3])
def test_kernel_writes_table_and_json(tmp_path: Path, ring: int) -> None:
    # The stand-in for the core runs the program natively, so both sides are Linux.
    out, core = tmp_path / "out.json", fake_core(tmp_path, ring=ring)
    result = invoke("kernel", "--runs", "1", "--core", core, "--json", out)
    assert result.exit_code == 0, result.output
    values = json.loads(out.read_text())
    assert values["format"] == "multiverse-bench-kernel-1"
    assert values["remarks"] == []
    names = [figure["name"] for figure in values["figures"]]
    assert names == [
        *("system_call", "fault", "protect", "barrier", "barrier_by_signal"),
        *(["barrier_gc"] if ring == 0 else []),
        *("thread", "event", "interrupt", "block", "object", "clock", "timer"),
    ]
    for figure in values["figures"]:
        assert len(figure["native"]) == len(figure["hrt"]) == 1


@needs_cc
def test_base_writes_table_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = tmp_path / "multiverse"
    cli.write_text('#!/bin/sh\n[ "$*" = "run --require-hrt --quiet -- $5" ] && exec "$5"\n')
    cli.chmod(0o755)
    monkeypatch.setattr(base, "find_cli", lambda: [str(cli)])
    result = invoke(
        "base", "--runs", "1", "--core", fake_core(tmp_path), "--json", tmp_path / "out.json"
    )
    assert result.exit_code == 0, result.output
    values = json.loads((tmp_path / "out.json").read_text())
    assert set(values) == {"format", "machine", "runs", "figures", "remarks"}
    assert values["format"] == "multiverse-bench-base-1"
    assert values["remarks"] == []
    check_machine_json(values["machine"])
    samples = {figure["name"]: len(figure["native"]) for figure in values["figures"]}
    assert samples == {
        "start": base.STARTS_A_RUN, "start_cli": base.STARTS_A_RUN,
        "resident": 1, "first_touch": 1, "first_touch_huge": 1, "compute": 1, "getppid": 1,
    }  # fmt: skip
    for figure in values["figures"]:
        assert len(figure["hrt"]) == len(figure["native"])
        assert all(sample > 0 for sample in (*figure["native"], *figure["hrt"]))
        assert figure["unit"] == ("bytes" if figure["name"] == "resident" else "s")
        assert figure["title"] in result.stdout


@needs_cc
def test_base_without_the_command_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "find_cli", lambda: None)
    result = invoke("base", "--runs", "1", "--core", fake_core(tmp_path))
    assert result.exit_code == 0, result.output
    assert "start-up through `multiverse run` was not measured" in result.stdout


@needs_cc
def test_base_names_a_program_that_fails_as_an_hrt(tmp_path: Path) -> None:
    core = fake_core(
        tmp_path, 'case "$program" in */getppid) exit 9 ;; *) exec "$program" "$@" ;; esac'
    )
    result = invoke("base", "--runs", "1", "--core", core)
    assert result.exit_code == 125
    assert "run: multiverse-core require=1,quiet=1 getppid getppid: it exited with 9" in error_line(
        result
    )


def test_base_without_a_compiler_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == "cc" else f"/bin/{name}")
    result = invoke("base", "--runs", "1", "--core", fake_core(tmp_path))
    assert result.exit_code == 125
    assert "cc: not found; install a C compiler (apt-get install gcc libc6-dev)" in error_line(
        result
    )


# ---- pieces ----


def sample_report(results: int = 7) -> racket.Report:
    def timings(wall: float) -> list[runner.Timing]:
        return [runner.Timing(wall * factor, wall, 0.01) for factor in (0.95, 1.0, 1.02, 1.1)]

    facts = {
        "processor": "a processor",
        "cores": 2,
        "kernel": "6.1",
        "kvm": {"kind": "hardware", "ring": "0"},
    }
    return racket.Report(
        facts,
        4,
        [
            racket.Result(
                benchmark.name, benchmark.size, timings(1.0 + i), timings((1.0 + i) * 1.1)
            )
            for i, benchmark in enumerate(racket.BENCHMARKS[:results])
        ],
    )


@pytest.mark.parametrize("results", [1, 7])
def test_chart_is_drawn_and_always_the_same(tmp_path: Path, results: int) -> None:
    png, svg = chart.draw(sample_report(results), tmp_path / "one.two")
    assert (png.name, svg.name) == ("one.two.png", "one.two.svg")
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    text = svg.read_text()
    for word in ("binary-tree", "Native", "Multiverse (HRT)", "Run time (s)", "hardware KVM"):
        assert word in text
    again = chart.draw(sample_report(results), tmp_path / "again")[1]
    assert again.read_text() == text


def test_chart_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no complete pair"):
        chart.draw(racket.Report({}, 1, [racket.Result("fasta", 1)]), tmp_path / "x")


@pytest.mark.parametrize(
    "values", [{}, {"format": "other"}, {"format": racket.FORMAT, "machine": {}}]
)
def test_a_foreign_json_file_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="format"):
        racket.Report.from_json(values)


def test_sources_are_found_and_missing_ones_named() -> None:
    for benchmark in racket.BENCHMARKS:
        assert sources.read("racket", f"{benchmark.name}.rkt").startswith(b"#lang racket/base\n")
    with pytest.raises(
        BenchError, match=r"find the benchmark: racket/none.rkt: .*; install multiverse again"
    ):
        sources.read("racket", "none.rkt")


def test_machine_facts_name_nobody(tmp_path: Path) -> None:
    core = fake_core(tmp_path)
    facts = machine.facts(core, machine.probe(core))
    check_machine_json(facts)
    text = json.dumps(facts)
    assert str(tmp_path) not in text
    assert f'"{os.uname().nodename}"' not in text


# ---- what the Racket programs compute, natively ----


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    assert RACKET is not None
    with racket.compiled(
        Path(RACKET), [benchmark.name for benchmark in racket.BENCHMARKS]
    ) as directory:
        yield directory


def natively(programs: Path, name: str, size: int) -> bytes:
    assert RACKET is not None
    done = subprocess.run(
        [RACKET, programs / f"{name}.rkt", str(size)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout


def binary_tree_output(n: int) -> str:
    def nodes(depth: int) -> int:
        return (2 << depth) - 1

    deepest = max(n, 6)
    lines = [f"stretch tree of depth {deepest + 1}\t check: {nodes(deepest + 1)}"]
    for depth in range(4, deepest + 1, 2):
        trees = 1 << (deepest - depth + 4)
        lines.append(f"{trees}\t trees of depth {depth}\t check: {trees * nodes(depth)}")
    lines.append(f"long lived tree of depth {deepest}\t check: {nodes(deepest)}")
    return "\n".join(lines) + "\n"


ALU = (
    "GGCCGGGCGCGGTGGCTCACGCCTGTAATCCCAGCACTTTGGGAGGCCGAGGCGGGCGGATCACCTGAGGTC"
    "AGGAGTTCGAGACCAGCCTGGCCAACATGGTGAAACCCCGTCTCTACTAAAAATACAAAAATTAGCCGGGCG"
    "TGGTGGCGCGCGCCTGTAATCCCAGCTACTCGGGAGGCTGAGGCAGGAGAATCGCTTGAACCCGGGAGGCGG"
    "AGGTTGCAGTGAGCCGAGATCGCGCCACTGCACTCCAGCCTGGGCGACAGAGCGAGACTCCGTCTCAAAAA"
)
IUB = [
    (letter, 0.27 if letter in "at" else 0.12 if letter in "cg" else 0.02)
    for letter in "acgtBDHKMNRSVWY"
]
HOMO_SAPIENS = list(
    zip("acgt", (0.3029549426680, 0.1979883004921, 0.1975473066391, 0.3015094502008), strict=True)
)


def fasta_output(n: int) -> str:
    """A third way to make what fasta and fasta-3 make."""
    state = 42

    def draw(table: list[tuple[str, float]]) -> str:
        nonlocal state
        state = (state * 3877 + 29573) % 139968
        r, total = state / 139968, 0.0
        for letter, weight in table:
            total += weight
            if r < total:
                return letter
        return table[-1][0]

    def lines(heading: str, letters: str) -> str:
        return f">{heading}\n" + "".join(
            letters[i : i + 60] + "\n" for i in range(0, len(letters), 60)
        )

    repeated = (ALU * (2 * n // len(ALU) + 1))[: 2 * n]
    return (
        lines("ONE Homo sapiens alu", repeated)
        + lines("TWO IUB ambiguity codes", "".join(draw(IUB) for _ in range(3 * n)))
        + lines("THREE Homo sapiens frequency", "".join(draw(HOMO_SAPIENS) for _ in range(5 * n)))
    )


def mandelbrot_output(n: int) -> bytes:
    def inside(c: complex) -> bool:
        real = imaginary = 0.0
        for _ in range(50):
            real, imaginary = (
                real * real - imaginary * imaginary + c.real,
                2.0 * real * imaginary + c.imag,
            )
            if real * real + imaginary * imaginary > 4.0:
                return False
        return True

    rows = []
    for y in range(n):
        bits = "".join(
            "1" if inside(complex(2.0 * x / n - 1.5, 2.0 * y / n - 1.0)) else "0" for x in range(n)
        )
        padded = bits.ljust((n + 7) // 8 * 8, "0")
        rows.append(
            b"".join(struct.pack("B", int(padded[i : i + 8], 2)) for i in range(0, len(padded), 8))
        )
    return f"P4\n{n} {n}\n".encode() + b"".join(rows)


@needs_racket
@pytest.mark.parametrize("n", [1, 6, 7, 10])
def test_binary_tree(programs: Path, n: int) -> None:
    assert natively(programs, "binary-tree", n).decode() == binary_tree_output(n)


@needs_racket
@pytest.mark.parametrize(
    ("n", "checksum", "largest"),
    [(1, 0, 0), (2, -1, 1), (3, 2, 2), (5, 11, 7), (7, 228, 16), (9, 8629, 30)],
)
def test_fannkuch(programs: Path, n: int, checksum: int, largest: int) -> None:
    assert (
        natively(programs, "fannkuch", n).decode() == f"{checksum}\nPfannkuchen({n}) = {largest}\n"
    )


@needs_racket
@pytest.mark.parametrize("name", ["fasta", "fasta-3"])
@pytest.mark.parametrize("n", [0, 1, 20, 144, 1000, 25_000])
def test_fasta(programs: Path, name: str, n: int) -> None:
    printed = natively(programs, name, n).decode()
    assert printed == fasta_output(n)
    if n >= 20:
        _, _, second = printed.partition("\n>TWO IUB ambiguity codes\n")
        assert second.startswith("cttBtatcatatgctaKggNcataaaSatgtaaaDcDRtBggDtctttataattcBgtcg\n")


@needs_racket
@pytest.mark.parametrize("n", [1, 8, 20, 203])
def test_mandelbrot(programs: Path, n: int) -> None:
    assert natively(programs, "mandelbrot", n) == mandelbrot_output(n)


@needs_racket
def test_n_body(programs: Path) -> None:
    assert natively(programs, "n-body", 1000) == b"-0.169075164\n-0.169087605\n"
    assert natively(programs, "n-body", 0) == b"-0.169075164\n-0.169075164\n"


@needs_racket
def test_spectral_norm(programs: Path) -> None:
    assert natively(programs, "spectral-norm", 100) == b"1.274219991\n"


@needs_racket
@pytest.mark.parametrize("benchmark", racket.BENCHMARKS, ids=lambda benchmark: str(benchmark.name))
def test_sizes_are_sound(benchmark: racket.Benchmark) -> None:
    assert 0 < benchmark.short_size < benchmark.size


@needs_racket
def test_a_program_that_does_not_compile_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RACKET is not None
    monkeypatch.setattr(sources, "read", lambda *_: b"#lang racket/base\n(nonsense)\n")
    with (
        pytest.raises(BenchError, match=r"compile the benchmarks: .*nonsense: unbound identifier"),
        racket.compiled(Path(RACKET), ["fasta"]),
    ):
        pass

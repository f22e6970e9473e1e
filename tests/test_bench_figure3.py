"""Figure 3 whole, and the MPI program: machinery, tables, pages. No test asserts on time."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cffi
import pytest
from rich.console import Console
from test_bench import (
    ALU,
    binary_tree_output,
    error_line,
    fasta_output,
    invoke,
    mandelbrot_output,
    needs_cc,
    needs_racket,
)

from multiverse.bench import figure3_tables, mpi, pages, pairs, programs, results, sources, virtual
from multiverse.bench.errors import BenchError
from multiverse.bench.runner import Timing
from multiverse.core import core_header
from multiverse.observe import read_stats
from multiverse.overrides.sets import sets
from multiverse.testbed import boot

NAMES = [program.name for program in programs.PROGRAMS if program.group == "python"]


# ---- what the Python programs compute ----


def printed(name: str, size: int) -> bytes:
    source = sources.read("python", f"{name}.py")
    command = [sys.executable, "-", str(size)]
    done = subprocess.run(command, input=source, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("n", [1, 6, 9])
def test_binary_tree(n: int) -> None:
    assert printed("binary-tree", n).decode() == binary_tree_output(n)


@pytest.mark.parametrize(("n", "checksum", "largest"), [(1, 0, 0), (3, 2, 2), (7, 228, 16)])
def test_fannkuch(n: int, checksum: int, largest: int) -> None:
    assert printed("fannkuch", n).decode() == f"{checksum}\nPfannkuchen({n}) = {largest}\n"


@pytest.mark.parametrize("name", ["fasta", "fasta-3"])
@pytest.mark.parametrize("n", [0, 1, len(ALU) // 2, 1000, 25_000])
def test_fasta(name: str, n: int) -> None:
    assert printed(name, n).decode() == fasta_output(n)


@pytest.mark.parametrize("n", [1, 8, 20, 101])
def test_mandelbrot(n: int) -> None:
    assert printed("mandelbrot", n) == mandelbrot_output(n)


def test_n_body() -> None:
    assert printed("n-body", 1000) == b"-0.169075164\n-0.169087605\n"


def test_spectral_norm() -> None:
    assert printed("spectral-norm", 100) == b"1.274219991\n"


def churned(rounds: int) -> str:
    """What both churn programs print, by counting: of the pair of seven rounds ago, or of this."""
    total = 0
    for turn in range(rounds):
        old = turn - 7 if turn >= 7 else turn
        pages_of_it = (1 + old * 37 % 24) * 256
        total += pages_of_it * (old % 251 + old)
    return f"{rounds} rounds: {total}\n"


def test_churn_in_python() -> None:
    assert printed("churn", 10).decode() == churned(10)


@needs_racket
def test_churn_in_racket() -> None:
    runtime = programs.find(programs.RACKET, None)
    chosen = [program for program in programs.PROGRAMS if program.name == "racket churn"]
    with runtime.ready(chosen) as directory:
        command = programs.command(runtime, directory, chosen[0], 10)
        done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.decode() == churned(10)


def test_every_program_has_a_source_and_sound_sizes() -> None:
    seen = set()
    for program in programs.PROGRAMS:
        seen.add((program.group, program.name))
        assert 0 < program.quick_size < program.size
        ending = "rkt" if program.runtime == programs.RACKET else "py"
        assert sources.read(program.runtime, f"{program.source}.{ending}")
    assert len(seen) == len(programs.PROGRAMS) == 16
    assert {group for group, _ in seen} == {group for group, _ in programs.GROUPS}


# ---- what follows from samples ----


def timings(*walls: float, faults: int = 1000) -> list[Timing]:
    return [Timing(wall, wall * 0.75, wall * 0.25, faults) for wall in walls]


def row(group: str, name: str, hrt: float = 1.0, overrides: float = 0.5) -> results.Row:
    """Two rounds, of which the second takes twice as long as the first."""
    runs = pairs.Runs(
        {
            "native": timings(1.0, 2.0),
            "huge": timings(0.8, 1.6, faults=10),
            "hrt": timings(hrt, 2 * hrt),
            "overrides": timings(overrides, 2 * overrides, faults=5),
        }
    )
    counts = {"hrt": results.Counts(2000, 20), "overrides": results.Counts(100, 1)}
    return results.Row(group, name, 7, runs, counts)


def sample() -> results.Report:
    machine = {
        "date": "2026-01-01T00:00:00+00:00",
        "processor": "a processor",
        "cores": 2,
        "kernel": "6.1",
        "kvm": {"kind": "software", "ring": "3"},
    }
    rows = [row(program.group, program.name) for program in programs.PROGRAMS]
    samples = {way: [value, value] for way, value in zip(results.TITLES, (4.0, 3.0, 8.0, 0.2))}  # noqa: B905
    figure = results.Figure("map", "map <1> MiB", samples)
    return results.Report(machine, 2, False, ["memory"], rows, [figure], ["a <remark>"])


def test_ratios_are_taken_within_rounds() -> None:
    one = row("racket", "fasta", 1.25, 0.5)
    assert one.ratio("hrt").median == 1.25  # type: ignore[union-attr]
    assert one.processor_ratio("overrides").median == 0.5  # type: ignore[union-attr]
    assert one.seconds("native").median == 1.5  # type: ignore[union-attr]
    assert one.page_faults("overrides") == 5
    assert one.ratio("native").maximum == 1.0  # type: ignore[union-attr]


def test_a_way_that_differed_has_no_ratio() -> None:
    report = sample()
    one = report.rows[0]
    del one.runs.timings["hrt"][1:]
    one.runs.differences["hrt"] = "something"
    assert one.ratio("hrt") is None
    assert not report.identical()
    assert [(where.name, way, text) for where, way, text in report.differences()] == [
        (one.name, "Multiverse", "something")
    ]
    assert report.mean("racket", "hrt") == pytest.approx(1.0)
    assert figure3_tables.DIFFERS in figure3_tables.time_cells(report, one)


def test_means_are_of_a_group() -> None:
    report = sample()
    report.rows[0] = row("racket", report.rows[0].name, hrt=128.0)
    assert report.mean("racket", "hrt") == pytest.approx(2.0)
    assert report.mean("racket", "hrt", processor=True) == pytest.approx(2.0)
    assert report.mean("python", "hrt") == pytest.approx(1.0)
    assert report.mean("none", "hrt") is None


def test_aims_are_judged() -> None:
    report = sample()
    report.rows[3] = row("racket", report.rows[3].name, hrt=1.2)
    aims = {aim.title: (round(aim.measured, 2), aim.reached) for aim in report.aims()}
    assert aims == {
        "Racket's seven, geometric mean": (1.03, True),
        "the slowest of them": (1.2, False),
        "the same with overrides": (0.5, True),
        "CPython's seven with overrides": (0.5, True),
        "racket churn with overrides": (0.5, True),
        "python churn with overrides": (0.5, True),
        "map <1> MiB, with overrides": (0.05, True),
        "Racket's fasta: times fewer legacy events": (20.0, True),
    }


def test_aims_of_a_part_are_not_those_of_the_whole() -> None:
    report = sample()
    report.rows = report.rows[1:2]
    report.figures = []
    assert report.aims() == []


def test_json_is_read_as_it_was_written() -> None:
    report = sample()
    report.rows[1].virtual = virtual.Virtual(True, 7, timings(1.0, 1.0), timings(30.0, 40.0))
    values = json.loads(json.dumps(report.to_json()))
    assert results.Report.from_json(values) == report
    assert values["programs"][1]["ratios"]["overrides"]["median"] == 0.5
    assert values["means"]["churn"]["overrides"] == pytest.approx(0.5)


@pytest.mark.parametrize("values", [{}, [], {"format": results.FORMAT, "machine": {}}])
def test_foreign_json_is_refused(tmp_path: Path, values: Any) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps(values))
    result = invoke("figure3", "--from", file)
    assert result.exit_code == 125
    assert "multiverse-bench-figure3-1" in error_line(result)


# ---- tables and pages ----


def text_of(report: results.Report) -> str:
    file = io.StringIO()
    Console(file=file, width=240).print(figure3_tables.figure3_tables(report))
    return file.getvalue()


def test_tables_have_every_program_and_its_figures() -> None:
    report = sample()
    report.rows[1].virtual = virtual.Virtual(True, 7, timings(1.0), timings(30.0))
    text = text_of(report)
    for _, title, rows in report.groups():
        assert title in text
        for one in rows:
            assert one.name in text
    assert "0.80 (0.80-0.80)" in text
    assert "30.00 (30.00-30.00)" in text
    assert text.count("geometric mean") == 3 + 1  # the last is an aim's
    assert "2,000" in text
    assert "a <remark>" in text


def test_columns_and_cells_agree() -> None:
    report = sample()
    without = sample()
    for one in without.rows:
        del one.runs.timings["overrides"]
        del one.counts["overrides"]
    for which in (report, without):
        for one in which.rows:
            assert len(figure3_tables.time_cells(which, one)) == len(
                figure3_tables.time_columns(which)
            )
            assert len(figure3_tables.event_cells(which, one)) == len(
                figure3_tables.event_columns(which)
            )
        cells = figure3_tables.mean_cells(which, "racket")
        assert len(cells) == len(figure3_tables.time_columns(which))
    assert "with overrides" not in figure3_tables.time_columns(without)


class Page(HTMLParser):
    """What a page is made of, and whether its tags are in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    text = pages.html(sample())
    page = Page(text)
    assert all(source.startswith("#") for source in page.sources)
    assert "url(" not in text
    assert "script" not in page.tags
    assert "prefers-color-scheme: dark" in text
    words = " ".join(page.words)
    assert "a <remark>" in words
    assert "map <1> MiB" in words
    # A bar for each program and way but native.
    assert page.tags.count("rect") == 16 * 3
    assert page.tags.count("table") == 4


def test_a_bar_that_is_too_long_stays_in_the_picture() -> None:
    report = sample()
    report.rows[1].virtual = virtual.Virtual(True, 7, timings(1.0), timings(1000.0))
    widths = [
        float(width) for width in re.findall(r'<rect[^>]* width="([0-9.]+)"', pages.html(report))
    ]
    assert len(widths) == 16 * 3 + 1
    assert max(widths) == 560.0


def test_markdown_tables_are_even() -> None:
    report = sample()
    report.rows[0].runs.differences["hrt"] = "a | b"
    tables: list[list[str]] = [[]]
    for line in pages.markdown(report).splitlines():
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    tables = [table for table in tables if table]
    assert len(tables) == 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1, table[0]
    assert len(tables[0]) == 2 + 3 + 16 + 3


# ---- whole runs ----

#: It runs everything natively, and counts into the file that it is told of as an HRT would.
COUNTING_CORE = """#!{python}
import ctypes, mmap, os, sys
if sys.argv[1] == "probe":
    print("kvm=1\\nkind=software\\nring=3")
    sys.exit()
config = dict(word.split("=") for word in sys.argv[1].split(","))
assert config["require"] == "1"
if "override" in config:
    assert os.fstat(int(config["override"])).st_size > 0
if "stats" in config:
    with open({stats!r}, "rb") as file:
        os.pwrite(int(config["stats"]), file.read(), 0)
{action}
os.execv(sys.argv[2], sys.argv[3:])
"""


def counting_core(directory: Path, action: str = "") -> Path:
    ffi = cffi.FFI()
    ffi.cdef(core_header("stats.h"))
    stats = ffi.new("struct mv_stats *")
    stats.magic, stats.version, stats.hrt, stats.ring = 0x5453564D, 2, 1, 3
    stats.syscalls[0], stats.syscalls[1] = 30, 12
    kinds = ffi.typeof("enum mv_event").relements
    stats.events[kinds["MV_EVENT_EXCEPTION"]], stats.events[kinds["MV_EVENT_MERGE"]] = 3, 4
    data = bytes(ffi.buffer(stats))
    assert read_stats(bytearray(data))["syscalls"] == {"read": 30, "write": 12}
    (directory / "stats").write_bytes(data)
    core = directory / "multiverse-core"
    words = {"python": sys.executable, "stats": str(directory / "stats"), "action": action}
    core.write_text(COUNTING_CORE.format(**words))
    core.chmod(0o755)
    return core


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes for which only starting a process takes time."""
    small = {"binary-tree": 4, "fannkuch": 4, "churn": 1}
    changed = [
        dataclasses.replace(program, quick_size=small.get(program.source, 10))
        for program in programs.PROGRAMS
    ]
    for module in ("multiverse.cli.bench_figure3", "multiverse.bench.results"):
        monkeypatch.setattr(f"{module}.PROGRAMS", tuple(changed))


needs_sets = pytest.mark.skipif(not sets(), reason="no override sets are installed")


@needs_cc
@needs_sets
def test_figure3_writes_tables_json_and_pages(tmp_path: Path, tiny: None) -> None:
    out = {name: tmp_path / f"out.{name}" for name in ("json", "html", "markdown")}
    words = [f"--{name}={path}" for name, path in out.items()]
    core = counting_core(tmp_path)
    result = invoke(
        "figure3", "--quick", "--runs=2", "--only=python", "--override=identity",
        f"--core={core}", *words,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    values = json.loads(out["json"].read_text())
    assert values["quick"] is True
    assert values["sets"] == ["identity"]
    assert [entry["name"] for entry in values["programs"]] == NAMES
    for entry in values["programs"]:
        assert entry["counts"] == {way: {"calls": 42, "faults": 7} for way in ("hrt", "overrides")}
        assert {way: len(runs) for way, runs in entry["timings"].items()} == dict.fromkeys(
            results.TITLES, 2
        )
        assert entry["differences"] == {}
        assert entry["virtual"] is None
        assert entry["name"] in result.stdout
    assert values["figures"] == []
    assert "virtual: not measured" in result.stdout
    Page(out["html"].read_text())
    assert "| fannkuch |" in out["markdown"].read_text()

    again = invoke("figure3", "--from", out["json"], "--markdown", tmp_path / "again")
    assert again.exit_code == 0
    assert again.stdout == result.stdout
    assert (tmp_path / "again").read_bytes() == out["markdown"].read_bytes()


@needs_cc
@needs_sets
def test_figure3_reports_overrides_that_change_what_is_written(tmp_path: Path, tiny: None) -> None:
    action = 'if "override" in config: print("more", flush=True)'
    result = invoke(
        "figure3", "--quick", "--runs=1", "--only=python:n-body", "--override=identity",
        f"--core={counting_core(tmp_path, action)}", f"--json={tmp_path / 'out.json'}",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "run (with overrides): n-body 10: stdout differs" in error_line(result)
    (entry,) = json.loads((tmp_path / "out.json").read_text())["programs"]
    assert entry["ratios"]["overrides"] is None
    assert entry["ratios"]["hrt"]["count"] == 1
    assert "DIFFERS" in result.stdout


@needs_cc
def test_figure3_measures_single_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    racket = tmp_path / "racket"
    racket.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Welcome to Racket v0.0."\nexit 0\n')
    racket.chmod(0o755)
    monkeypatch.setattr("multiverse.overrides.sets.names", list)
    result = invoke(
        "figure3", "--runs=1", "--only=figures", f"--racket={racket}",
        f"--core={counting_core(tmp_path)}", f"--json={tmp_path / 'out.json'}",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    values = json.loads((tmp_path / "out.json").read_text())
    assert [figure["name"] for figure in values["figures"]] == [
        *("map", "getpid", "start_racket", "start_python")
    ]
    for figure in values["figures"]:
        # Without overrides there is no column of them.
        assert list(figure["samples"]) == ["native", "huge", "hrt"]
        assert all(len(samples) == 1 and samples[0] > 0 for samples in figure["samples"].values())
    assert "no override sets are installed" in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--only", "nothing"],
        ["--only", "python:nothing"],
        ["--html", "/nonexistent/x"],
        ["--markdown", "/"],
        ["--virtual", "perhaps"],
    ],
)
def test_wrong_usage_is_exit_2(words: list[str]) -> None:
    assert invoke("figure3", *words).exit_code == 2


def test_a_missing_python_or_set_is_an_error(tmp_path: Path) -> None:
    core = counting_core(tmp_path)
    result = invoke("figure3", "--only=python", "--python=/nonexistent", f"--core={core}")
    assert result.exit_code == 125
    assert "/nonexistent: not found; name an executable" in error_line(result)
    if shutil.which("cc"):
        result = invoke("figure3", "--only=python:fasta", "--override=nothing", f"--core={core}")
        assert result.exit_code == 125
        assert "build the overrides: nothing" in error_line(result)


@needs_cc
def test_huge_pages_are_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "hugepages.c"
    source.write_bytes(sources.read("micro", "hugepages.c"))
    library = tmp_path / "hugepages"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    # What Linux says of the mapping that a mebibyte, and half of one, are in.
    program = """
import ctypes, mmap
for size in (1 << 20, 1 << 19):
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for line in open("/proc/self/smaps"):
        first, *words = line.split()
        if "-" in first:
            begin, end = (int(bound, 16) for bound in first.split("-"))
        elif first == "VmFlags:" and begin <= address < end:
            print(size, "hg" in words)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(1 << 20), "True", str(1 << 19), "False"]


# ---- the virtual machine ----


def test_a_plain_guest_has_no_kvm_of_its_own(tmp_path: Path) -> None:
    tools = boot.Tools(Path("/vng"), Path("/kernel"))
    plain = boot.command_line(tools, boot.Machine(plain=True))
    assert "--disable-kvm" in plain
    assert not any("svm" in word for word in plain)
    hardware = boot.command_line(tools, boot.Machine(plain=True, kvm=True))
    assert "--disable-kvm" not in hardware
    assert "--qemu-opts=-cpu host" in hardware


@pytest.fixture
def no_guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[boot.Machine]]:
    """The guest's part is done here, in a process of its own."""
    machines: list[boot.Machine] = []

    def run(command: list[str], machine: boot.Machine) -> int:
        machines.append(machine)
        environment = {**os.environ, "MULTIVERSE_TEST": "guest"}
        return subprocess.run(command, env=environment, check=False).returncode

    monkeypatch.setattr(boot, "run", run)
    yield machines


def test_programs_run_natively_and_in_the_guest(
    tmp_path: Path, no_guest: list[boot.Machine]
) -> None:
    commands = [["/bin/echo", "7"], ["/bin/sh", "-c", "echo $MULTIVERSE_TEST", "8"]]
    one, two = virtual.measure(commands, [tmp_path], 2, emulated=True)
    assert [len(one.native), len(one.virtual)] == [2, 2]
    assert (one.size, one.difference, one.emulated) == (7, None, True)
    assert one.ratio().count == 2  # type: ignore[union-attr]
    assert "SHA-256" in str(two.difference)
    assert two.ratio() is None
    (machine,) = no_guest
    assert machine.plain
    assert not machine.kvm
    assert tmp_path in machine.writable


def test_a_guest_that_cannot_be_is_an_error_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_tools() -> boot.Tools:
        raise boot.TestbedError("virtme-ng: not found; pip install virtme-ng")

    monkeypatch.setattr(boot, "find_tools", find_tools)
    core = counting_core(tmp_path)
    result = invoke("figure3", "--only=python", "--virtual=on", f"--core={core}")
    assert result.exit_code == 125
    assert "pip install virtme-ng; or leave it out with --virtual off" in error_line(result)


@needs_cc
def test_a_guest_that_does_not_boot_leaves_the_rest(
    tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], machine: boot.Machine) -> int:
        raise boot.TestbedError("/kernel: does not boot")

    monkeypatch.setattr(boot, "run", run)
    monkeypatch.setattr(boot, "find_tools", lambda: None)
    monkeypatch.setattr("multiverse.overrides.sets.names", list)
    result = invoke(
        "figure3", "--only=python:fannkuch", "--quick", "--virtual=on",
        f"--core={counting_core(tmp_path)}",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "/kernel: does not boot" in result.stdout
    assert "virtual: not measured" in result.stdout


def test_a_guest_that_does_not_boot_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], machine: boot.Machine) -> int:
        raise boot.TestbedError("vng: not found; pip install virtme-ng")

    monkeypatch.setattr(boot, "run", run)
    with pytest.raises(BenchError, match="virtme-ng; or leave it out with --virtual off"):
        virtual.measure([["/bin/echo", "1"]], [tmp_path], 1, emulated=True)


# ---- MPI ----

MPIRUN = """#!/bin/sh
[ "$1" = --version ] && { echo "mpirun (Open MPI) 0.0"; exit; }
[ "$1 $2 $3" = "-n 2 -wdir" ] || exit 9
cd "$4"; shift 4
exec "$@"
"""
HPCC = """#!/bin/sh
grep -q '^500 ' hpccinf.txt || exit 8
cat >hpccoutf.txt <<END
Begin of Summary section.
Success=1
HPL_N=500
HPL_time=0.5
HPL_RnormI=1.5e-12
PTRANS_time=0.25
MPIRandomAccess_time=2
MPIFFT_Gflops=4
StarDGEMM_Gflops=8
StarSTREAM_Triad=10
AvgPingPongLatency_usec=0.5
AvgPingPongBandwidth_GBytes=5
END
{more}
"""


def mpi_programs(
    directory: Path, monkeypatch: pytest.MonkeyPatch, more: str = "", core: str = ""
) -> Path:
    """Programs that answer to what is asked of Open MPI and the HPC Challenge."""
    for name, text in (("mpirun", MPIRUN), ("hpcc", HPCC.format(more=more))):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    found = {name: str(directory / name) for name in ("mpirun", "hpcc")}
    monkeypatch.setattr(mpi, "find", found.__getitem__)
    return counting_core(directory, core)


def test_mpi_measures_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = mpi_programs(tmp_path, monkeypatch)
    out = tmp_path / "out.json"
    result = invoke("mpi", "--runs=2", "--size=500", f"--core={core}", f"--json={out}")
    assert result.exit_code == 0, result.output
    values = json.loads(out.read_text())
    assert values["format"] == "multiverse-bench-mpi-1"
    figures = {figure["name"]: figure for figure in values["figures"]}
    assert list(figures) == ["whole", *(name for name, *_ in mpi._FIGURES)]
    for figure in figures.values():
        assert len(figure["native"]) == len(figure["hrt"]) == 2
    assert figures["fft"]["hrt"] == [0.25, 0.25]
    assert figures["latency"]["native"] == [5e-7, 5e-7]
    assert figures["hpl"]["ratio"]["median"] == 1.0


def test_mpi_refuses_other_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = mpi_programs(
        tmp_path,
        monkeypatch,
        more='[ -z "$OTHER" ] || sed -i s/1.5e-12/1.5e-10/ hpccoutf.txt',
        core='os.environ["OTHER"] = "1"',
    )
    result = invoke("mpi", "--runs=1", "--size=500", f"--core={core}")
    assert result.exit_code == 125
    line = error_line(result)
    assert "HPL_RnormI is 1.5e-10, and was 1.5e-12 in the first native run" in line


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("sed -i s/Success=1/Success=0/ hpccoutf.txt", "it did not succeed"),
        ("sed -i /HPL_time/d hpccoutf.txt", "HPL_time is nothing"),
        ("sed -i s/HPL_time=0.5/HPL_time=0/ hpccoutf.txt", "HPL_time is 0.0"),
        ("rm hpccoutf.txt", "hpccoutf.txt: No such file"),
        ("echo no room >&2; exit 3", "no room"),
    ],
)
def test_mpi_that_fails_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, message: str
) -> None:
    core = mpi_programs(tmp_path, monkeypatch, more=more)
    result = invoke("mpi", "--runs=1", "--size=500", f"--core={core}")
    assert result.exit_code == 125
    assert message in error_line(result)


def test_mpi_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = invoke("mpi")
    assert result.exit_code == 125
    assert error_line(result) == (
        "multiverse: find mpirun: not found; apt-get install openmpi-bin hpcc"
    )

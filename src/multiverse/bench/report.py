"""Tables for people."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from multiverse.bench import base, latency, racket
from multiverse.bench.stats import Spread, Summary, spread, summarize

#: Units in which people read a quantity: (name, how many of the base unit), the largest first.
_SCALES = {
    "s": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)),
    "bytes": (("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)),
    "cycles": (("M", 1e6), ("K", 1e3), ("", 1.0)),
}

# What the tables of `bench latency` take with lines between columns.
_LATENCY_WIDTH = 110


def shown(value: float, unit: str) -> str:
    """A quantity with three digits or more and a unit that suits its size: ``12.3 ms``.

    Args:
        value: in the base unit.
        unit: ``s``, ``bytes`` or ``cycles``.
    """
    name, scale = _scale(value, unit)
    return f"{_digits(value / scale)} {name}".rstrip()


def shown_range(low: float, middle: float, high: float, unit: str) -> str:
    """A range in the unit in which ``shown`` shows its middle: ``11.9-13.1``."""
    _, scale = _scale(middle, unit)
    return f"{_digits(low / scale)}-{_digits(high / scale)}"


def _scale(value: float, unit: str) -> tuple[str, float]:
    scales = _SCALES[unit]
    return next((entry for entry in scales if abs(value) >= entry[1]), scales[-1])


def _digits(scaled: float) -> str:
    return f"{scaled:.{2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0}f}"


def racket_table(report: racket.Report) -> RenderableType:
    """The table of the Racket benchmarks."""
    table = Table(title=f"Racket benchmarks: medians of {report.runs} pairs; ratio is HRT/native")
    table.add_column("benchmark", no_wrap=True)
    table.add_column("N", justify="right")
    table.add_column("native s", justify="right")
    table.add_column("HRT s", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("quartiles", justify="right", no_wrap=True)
    table.add_column("output", no_wrap=True)
    for result in report.results:
        output = (
            Text("identical", "green") if result.difference is None else Text("DIFFERS", "bold red")
        )
        if result.native:
            ratio = result.ratio()
            table.add_row(
                result.name,
                str(result.size),
                f"{result.native_seconds().median:.3f}",
                f"{result.hrt_seconds().median:.3f}",
                f"{ratio.median:.2f}",
                _spread(ratio),
                output,
            )
        else:
            table.add_row(result.name, str(result.size), "-", "-", "-", "-", output)
    lines: list[RenderableType] = [table]
    if len([result for result in report.results if result.native]) > 1:
        lines.append(Text(f"geometric mean of the ratios: {report.overall_ratio():.2f}"))
    lines.append(_machine_line(report.machine))
    return Group(*lines)


def kernel_table(report: base.Report) -> RenderableType:
    """The AeroKernel beside Linux."""
    title = f"AeroKernel beside Linux: medians of {report.runs} runs; ratio is HRT/native"
    return _figures(report, title)


def call_table(report: base.Report) -> RenderableType:
    """Calls of the accelerator model."""
    title = f"Functions called in the HRT: medians of {report.runs} runs; native is the yardstick"
    return _figures(report, title)


def mpi_table(report: base.Report) -> RenderableType:
    """An MPI program."""
    title = f"HPC Challenge, each rank an HRT: medians of {report.runs} runs; ratio is HRT/native"
    return _figures(report, title)


def base_table(report: base.Report) -> RenderableType:
    """The table of the base figures."""
    return _figures(report, f"Base figures: medians of {report.runs} runs; ratio is HRT/native")


def _figures(report: base.Report, title: str) -> RenderableType:
    table = Table(title=title)
    table.add_column("figure")
    table.add_column("native", justify="right")
    table.add_column("HRT", justify="right")
    table.add_column("added", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("quartiles", justify="right", no_wrap=True)
    table.add_column("aim")
    for figure in report.figures:
        ratio = figure.ratio()
        table.add_row(
            figure.title,
            shown(summarize(figure.native).median, figure.unit),
            shown(summarize(figure.hrt).median, figure.unit),
            shown(figure.added().median, figure.unit),
            f"{ratio.median:.2f}",
            _spread(ratio),
            figure.aim,
        )
    return Group(table, *(Text(remark) for remark in report.remarks), _machine_line(report.machine))


def latency_table(report: latency.Report, width: int) -> RenderableType:
    """Figure 2 of the paper: the interactions, the yardsticks and their ratios.

    Args:
        report: what was measured.
        width: of the terminal. Where it is small there are no lines between columns.
    """
    table = _latency_frame(
        f"Round trips between ROS and HRT: medians over {shown_rounds(report.runs)}", width
    )
    for heading in ("cycles", "p10-p90", "in batches", "time", "p10-p90", "paper"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in (report.interactions, report.yardsticks):
        for figure in part:
            table.add_row(figure.title, *_latency_cells(report, figure))
        table.add_section()
    ratios = _latency_frame("Ratios of medians, round by round", width)
    for heading in ("one by one", "p10-p90", "in batches", "p10-p90"):
        ratios.add_column(heading, justify="right", no_wrap=True)
    for ratio in report.ratios():
        batched = _ratio_cells(spread(ratio.batch)) if ratio.batch else ("-", "-")
        ratios.add_row(ratio.title, *_ratio_cells(spread(ratio.single)), *batched)
    return Group(
        table,
        Text(latency.PAPER_NOTE),
        ratios,
        *(Text(remark) for remark in report.remarks),
        Text(_latency_conditions(report), "dim"),
        _machine_line(report.machine),
    )


def _latency_frame(title: str, width: int) -> Table:
    """A table with the column of names."""
    table = Table(title=title)
    if width < _LATENCY_WIDTH:
        table.box, table.show_edge, table.padding = box.SIMPLE, False, 0
    table.add_column("", overflow="fold")
    return table


def shown_rounds(count: int) -> str:
    """A number of rounds in words: ``1 round``, ``10 rounds``."""
    return f"{count} round{'' if count == 1 else 's'}"


def _latency_cells(report: latency.Report, figure: latency.Figure) -> tuple[str, ...]:
    paper = "" if figure.paper_cycles is None else f"~{shown(figure.paper_cycles, 'cycles')}"
    if not figure.rounds:
        return "n/a", figure.unavailable or "", "", "n/a", "", paper
    single, batch = figure.single(), figure.batch()
    p10, median, p90 = (report.seconds(value) for value in (single.p10, single.median, single.p90))
    return (
        shown(single.median, "cycles"),
        shown_range(single.p10, single.median, single.p90, "cycles"),
        "-" if batch is None else shown(batch.median, "cycles"),
        shown(median, "s"),
        shown_range(p10, median, p90, "s"),
        paper,
    )


def _latency_conditions(report: latency.Report) -> str:
    place = report.placement
    ends = [f"{end}" for end in (place.other_socket, place.same_socket) if end is not None]
    return (
        f"{report.tsc_hz / 1e9:.2f} GHz time-stamp counter; HRT on processor {place.hrt},"
        f" ROS on {' and '.join(ends) or 'the same'};"
        f" the 100 mappings took {report.merge_windows} memory slots"
    )


def _ratio_cells(ratio: Spread) -> tuple[str, str]:
    return _digits(ratio.median), f"{_digits(ratio.p10)}-{_digits(ratio.p90)}"


def _spread(ratio: Summary) -> str:
    return f"{ratio.lower_quartile:.2f}-{ratio.upper_quartile:.2f}"


def _machine_line(machine: dict[str, object]) -> Text:
    return Text(describe_machine(machine), "dim")


def describe_machine(machine: dict[str, object]) -> str:
    """The machine in a few words, for under a table or a chart.

    Args:
        machine: as ``machine.facts`` gives it.
    """
    kvm = machine["kvm"]
    assert isinstance(kvm, dict)
    cores = machine["cores"]
    return (
        f"{machine['processor']}, {cores} core{'' if cores == 1 else 's'},"
        f" Linux {machine['kernel']},"
        f" {kvm.get('kind', 'unknown')} KVM, ring {kvm.get('ring', 'unknown')}"
    )

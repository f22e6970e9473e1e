"""Tables for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from multiverse.bench import base, racket
from multiverse.bench.stats import Summary, summarize

#: Units in which people read a quantity: (name, how many of the base unit), the largest first.
_SCALES = {
    "s": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)),
    "bytes": (("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)),
}


def shown(value: float, unit: str) -> str:
    """A quantity with three digits or more and a unit that suits its size: ``12.3 ms``.

    Args:
        value: in the base unit.
        unit: ``s`` or ``bytes``.
    """
    scales = _SCALES[unit]
    name, scale = next((entry for entry in scales if abs(value) >= entry[1]), scales[-1])
    scaled = value / scale
    digits = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
    return f"{scaled:.{digits}f} {name}"


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


def base_table(report: base.Report) -> RenderableType:
    """The table of the base figures."""
    table = Table(title=f"Base figures: medians of {report.runs} runs; ratio is HRT/native")
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
    return (
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']},"
        f" {kvm.get('kind', 'unknown')} KVM, ring {kvm.get('ring', 'unknown')}"
    )

"""Figure 3 as tables for a terminal, and the cells that its pages share with them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from multiverse.bench.pairs import NATIVE
from multiverse.bench.report import describe_machine, shown
from multiverse.bench.results import HRT, HUGE, OVERRIDES, TITLES, Aim, Figure, Report, Row
from multiverse.bench.stats import Summary, summarize

#: What stands where there is no figure.
NOTHING = "-"
DIFFERS = "DIFFERS"

#: The heading of what is left of the native time without Linux's.
OUTSIDE_LINUX = "without Linux's"


def number(value: float | None) -> str:
    """A ratio."""
    return NOTHING if value is None else f"{value:.2f}"


def count(value: float | None) -> str:
    """A number of events."""
    return NOTHING if value is None else f"{value:,.0f}"


def quartiles(summary: Summary | None) -> str:
    """A ratio with the quartiles of its pairs."""
    if summary is None:
        return NOTHING
    return f"{summary.median:.2f} ({summary.lower_quartile:.2f}-{summary.upper_quartile:.2f})"


def time_columns(report: Report) -> list[str]:
    """Headings of the table of times."""
    ways = report.ways()
    shown_ways = [TITLES[way] for way in (HUGE, HRT, OVERRIDES) if way in ways]
    processor = [f"CPU: {TITLES[way]}" for way in (HRT, OVERRIDES) if way in ways]
    first, *others = shown_ways
    return ["program", "N", "native s", OUTSIDE_LINUX, first, "virtual", *others, *processor]


def time_cells(report: Report, row: Row) -> list[str]:
    """A program in the table of times: seconds, then ratios to native."""
    seconds = row.seconds(NATIVE)
    ways = report.ways()

    def cell(way: str) -> str:
        return DIFFERS if way in row.runs.differences else quartiles(row.ratio(way))

    def processor(way: str) -> str:
        ratio = row.processor_ratio(way)
        return number(ratio.median if ratio else None)

    if row.virtual is None:
        virtual = NOTHING
    else:
        virtual = DIFFERS if row.virtual.difference else quartiles(row.virtual.ratio())
    return [
        row.name,
        f"{row.size:,}",
        f"{seconds.median:.3f}" if seconds else NOTHING,
        number(row.outside_linux()),
        cell(HUGE),
        virtual,
        *(cell(way) for way in (HRT, OVERRIDES) if way in ways),
        *(processor(way) for way in (HRT, OVERRIDES) if way in ways),
    ]


def mean_cells(report: Report, group: str) -> list[str]:
    """The geometric means below a group of the table of times."""
    hrts = [way for way in (HRT, OVERRIDES) if way in report.ways()]
    return [
        "geometric mean",
        "",
        "",
        number(report.outside_linux(group)),
        number(report.mean(group, HUGE)),
        number(report.virtual_mean(group)),
        *(number(report.mean(group, way)) for way in hrts),
        *(number(report.mean(group, way, processor=True)) for way in hrts),
    ]


def event_columns(report: Report) -> list[str]:
    """Headings of the table of events."""
    if OVERRIDES not in report.ways():
        return ["program", "system calls", "faults", "page faults native", "Multiverse"]
    return [
        "program",
        *("system calls", "with overrides", "faults", "with overrides", "times fewer"),
        *("page faults: native", "huge pages", "Multiverse", "with overrides"),
    ]


def event_cells(report: Report, row: Row) -> list[str]:
    """A program in the table of events: what went to Linux, and Linux's own page faults."""
    before, after = row.counts.get(HRT), row.counts.get(OVERRIDES)
    cells = [row.name]
    with_overrides = OVERRIDES in report.ways()
    for attribute in ("calls", "faults"):
        cells.append(count(getattr(before, attribute, None)))
        if with_overrides:
            cells.append(count(getattr(after, attribute, None)))
    if not with_overrides:
        return [*cells, count(row.page_faults(NATIVE)), count(row.page_faults(HRT))]
    fewer = before.events / max(after.events, 1) if before and after else None
    faults = [count(row.page_faults(way)) for way in (NATIVE, HUGE, HRT, OVERRIDES)]
    return [*cells, number(fewer), *faults]


def figure_columns(report: Report) -> list[str]:
    """Headings of the table of single calls and start-up."""
    return ["", "native", *(TITLES[way] for way in report.ways_of_figures() if way != NATIVE)]


def figure_cells(figure: Figure) -> list[str]:
    """A quantity: natively, then each way's with its ratio."""
    cells = [figure.title, shown(summarize(figure.samples[NATIVE]).median, "s")]
    for way, samples in figure.samples.items():
        if way != NATIVE:
            seconds = shown(summarize(samples).median, "s")
            cells.append(f"{seconds}, {quartiles(figure.ratio(way))}")
    return cells


def aim_cells(aim: Aim) -> list[str]:
    """A figure to reach."""
    bound = f"{'≥' if aim.least else '≤'} {aim.wanted:.2f}"
    return [aim.title, bound, f"{aim.measured:.2f}", "yes" if aim.reached else "no"]


AIM_COLUMNS = ["figure", "aim", "measured", "reached"]


def conditions(report: Report) -> str:
    """A line about how it was measured."""
    sets = ", ".join(report.sets) or "none"
    sizes = ", quick sizes (not for quoting)" if report.quick else ""
    return f"medians of {report.runs} rounds by turns{sizes}; overrides: {sets}"


def figure3_tables(report: Report) -> RenderableType:
    """All tables."""
    parts: list[RenderableType] = []
    if report.rows:
        parts.append(_times(report))
        parts.append(_events(report))
    if report.figures:
        table = _table("Single calls and start-up: time, ratio to native", figure_columns(report))
        for figure in report.figures:
            table.add_row(*figure_cells(figure))
        parts.append(table)
    if aims := report.aims():
        table = _table("Figures to reach", AIM_COLUMNS)
        for aim in aims:
            *cells, reached = aim_cells(aim)
            table.add_row(*cells, Text(reached, "green" if aim.reached else "red"))
        parts.append(table)
    lines = [conditions(report), *report.remarks]
    return Group(*parts, *map(Text, lines), Text(describe_machine(report.machine), "dim"))


def _times(report: Report) -> Table:
    table = _table(
        "Figure 3: native seconds, else ratios to native (quartiles)", time_columns(report)
    )
    for group, title, rows in report.groups():
        table.add_row(Text(title, "bold"))
        for row in rows:
            cells = time_cells(report, row)
            table.add_row(*(Text(c, "bold red") if c == DIFFERS else c for c in cells))
        if len(rows) > 1:
            table.add_row(*mean_cells(report, group), style="bold")
        table.add_section()
    return table


def _events(report: Report) -> Table:
    table = _table("What one run asks of Linux", event_columns(report))
    for _, title, rows in report.groups():
        table.add_row(Text(title, "bold"))
        for row in rows:
            table.add_row(*event_cells(report, row))
        table.add_section()
    return table


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title)
    first, *others = columns
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right")
    return table

"""Figure 3 as a page: self-contained HTML, and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from multiverse import __version__
from multiverse.bench import figure3_tables as tables
from multiverse.bench.pairs import NATIVE
from multiverse.bench.report import describe_machine
from multiverse.bench.results import HRT, HUGE, OVERRIDES, TITLES, Report
from multiverse.bench.stats import Summary

#: The chart's measures, in pixels.
_NAMES, _PLOT, _VALUES, _BAR, _GAP, _AXIS = 130, 560, 50, 12, 14, 26


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of a table under a heading of their own, which may be empty.

    Attributes:
        title: the heading.
        rows: cells.
        total: the cells of a last row that sums up, or none.
    """

    title: str
    rows: list[list[str]]
    total: list[str] | None = None


@dataclass(frozen=True, slots=True)
class _Table:
    """One table.

    Attributes:
        name: for links to it.
        title: in words.
        note: what the cells are.
        columns: headings.
        parts: what it consists of.
    """

    name: str
    title: str
    note: str
    columns: list[str]
    parts: list[_Part]


def html(report: Report) -> str:
    """One file that needs no other, light or dark as its reader likes."""
    charts = [_chart(report, name, title) for name, title, _ in report.groups()]
    return _render("figure3.html.j2", report, charts=charts, legend=_legend(report))


def markdown(report: Report) -> str:
    """The same without the chart."""
    return _render("figure3.md.j2", report)


def _render(template: str, report: Report, **more: Any) -> str:
    loader = jinja2.ChoiceLoader(
        [
            jinja2.PackageLoader("multiverse.bench"),
            # Its style sheet is that of all pages.
            jinja2.PackageLoader("multiverse.profile"),
        ]
    )
    environment = jinja2.Environment(
        loader=loader,
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def asset(name: str) -> Markup:
        return Markup(loader.get_source(environment, name)[0])

    return environment.get_template(template).render(
        asset=asset,
        version=__version__,
        report=report,
        tables=_tables(report),
        conditions=tables.conditions(report),
        machine=describe_machine(report.machine),
        **more,
    )


def _tables(report: Report) -> list[_Table]:
    found = []
    if report.rows:
        times = [
            _Part(
                title,
                [tables.time_cells(report, row) for row in rows],
                tables.mean_cells(report, name) if len(rows) > 1 else None,
            )
            for name, title, rows in report.groups()
        ]
        events = [
            _Part(title, [tables.event_cells(report, row) for row in rows])
            for _, title, rows in report.groups()
        ]
        found += [
            _Table(
                "times",
                "Times",
                "Native seconds, else ratios to native (quartiles of the pairs); CPU: processor"
                " time over native.",
                tables.time_columns(report),
                times,
            ),
            _Table(
                "events",
                "What one run asks of Linux",
                "System calls and faults of the HRT that Linux answered, without and with"
                " overrides; page faults that Linux handled for the process, either way.",
                tables.event_columns(report),
                events,
            ),
        ]
    if report.figures:
        found.append(
            _Table(
                "figures",
                "Single calls and start-up",
                "Time, and the ratio to native.",
                tables.figure_columns(report),
                [_Part("", [tables.figure_cells(figure) for figure in report.figures])],
            )
        )
    if aims := report.aims():
        found.append(
            _Table(
                "aims",
                "Figures to reach",
                "What the project set itself.",
                tables.AIM_COLUMNS,
                [_Part("", [tables.aim_cells(aim) for aim in aims])],
            )
        )
    return found


def _legend(report: Report) -> list[tuple[str, str]]:
    """Names of the chart's bars: class, words."""
    ways = [(way, TITLES[way]) for way in (HUGE, HRT, OVERRIDES) if way in report.ways()]
    virtual = any(row.virtual for row in report.rows)
    return [*ways, ("virtual", "virtual")] if virtual else ways


def _chart(report: Report, group: str, title: str) -> dict[str, Any]:
    """The bars of a group, ready to draw: run time over native. A bar that is too long is cut."""
    rows = [row for row in report.rows if row.group == group]
    legend = _legend(report)

    def ratio(row: Any, way: str) -> Summary | None:
        if way == "virtual":
            return row.virtual.ratio() if row.virtual else None
        return row.ratio(way)  # type: ignore[no-any-return]

    values = {(row.name, way): ratio(row, way) for row in rows for way, _ in legend}
    # An emulator's bars would make all others too short to see.
    longest = max(
        (v.upper_quartile for (_, way), v in values.items() if v and way != "virtual"), default=1.0
    )
    limit = max(1.25, 1.05 * longest)
    scale = _PLOT / limit
    bars, names = [], []
    top = _AXIS
    for row in rows:
        height = _BAR * len(legend)
        names.append({"text": row.name, "y": top + height / 2})
        for place, (way, words) in enumerate(legend):
            value = values[row.name, way]
            if value is None:
                continue
            bars.append(
                {
                    "way": way,
                    "y": top + place * _BAR,
                    "width": min(value.median, limit) * scale,
                    "low": min(value.lower_quartile, limit) * scale,
                    "high": min(value.upper_quartile, limit) * scale,
                    "value": f"{value.median:.2f}",
                    "words": f"{row.name}, {words}: {value.median:.2f} times native",
                }
            )
        top += height + _GAP
    step = 0.25 if limit <= 2 else 0.5 if limit <= 4 else 1.0
    ticks = [step * i for i in range(int(limit / step) + 1)]
    return {
        "title": title,
        "bars": bars,
        "names": names,
        "ticks": [{"x": _NAMES + tick * scale, "text": f"{tick:g}"} for tick in ticks],
        "left": _NAMES,
        "bar": _BAR,
        "one": _NAMES + scale,
        "top": _AXIS,
        "width": _NAMES + _PLOT + _VALUES,
        "height": top,
        "native": TITLES[NATIVE],
    }

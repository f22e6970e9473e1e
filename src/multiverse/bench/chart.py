"""Bar charts: the Racket benchmarks after Figure 3 of the paper, the latencies of its Figure 2."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from multiverse.bench import latency
from multiverse.bench.racket import Report
from multiverse.bench.report import describe_machine, shown_rounds
from multiverse.bench.stats import Summary

# Two colours of Okabe and Ito's palette, which people with any form of colour blindness can tell
# apart.
_NATIVE_COLOUR = "#0072B2"
_HRT_COLOUR = "#E69F00"
_PAPER_COLOUR = "#999999"
_BAR_WIDTH = 0.38


def _style() -> AbstractContextManager[None]:
    """Text stays text in the SVG, and the same report makes the same file."""
    return matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "multiverse", "font.size": 10}
    )


def _frame(width: float, height: float, machine: dict[str, Any]) -> tuple[Figure, Axes]:
    """An empty chart; sizes in inches."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(describe_machine(machine), fontsize=8, color="#555555")
    return figure, axes


def draw(report: Report, prefix: Path) -> list[Path]:
    """Write the chart as ``PREFIX.png`` and ``PREFIX.svg``.

    Benchmarks without a complete pair are left out.

    Args:
        report: what was measured.
        prefix: the path without its ending; the directory must exist.

    Returns:
        the files written.

    Raises:
        OSError: a file cannot be written.
        ValueError: there is nothing to draw.
    """
    results = [result for result in report.results if result.native]
    if not results:
        raise ValueError("there is no complete pair of runs to draw")
    with _style():
        figure, axes = _frame(max(5.0, 1.8 + 1.25 * len(results)), 4.8, report.machine)
        native = [result.native_seconds() for result in results]
        hrt = [result.hrt_seconds() for result in results]
        places = range(len(results))
        for summaries, offset, label, colour in (
            (native, -_BAR_WIDTH / 2, "Native", _NATIVE_COLOUR),
            (hrt, _BAR_WIDTH / 2, "Multiverse (HRT)", _HRT_COLOUR),
        ):
            axes.bar(
                [place + offset for place in places],
                [summary.median for summary in summaries],
                width=_BAR_WIDTH,
                label=label,
                color=colour,
                yerr=[
                    [summary.median - summary.lower_quartile for summary in summaries],
                    [summary.upper_quartile - summary.median for summary in summaries],
                ],
                error_kw={"elinewidth": 1.0, "capsize": 3, "ecolor": "#333333"},
                zorder=2,
            )
        for place, other, result in zip(places, hrt, results, strict=True):
            axes.annotate(
                f"{result.ratio().median:.2f}",
                (place + _BAR_WIDTH / 2, other.upper_quartile),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        axes.set_xticks(
            list(places), [f"{result.name}\nN = {result.size:,}" for result in results], fontsize=9
        )
        axes.set_ylabel("Run time (s)")
        axes.set_ylim(
            0, 1.12 * max(_top(one, other) for one, other in zip(native, hrt, strict=True))
        )
        axes.yaxis.grid(True, color="#dddddd", zorder=0)
        axes.set_title("Racket benchmarks, native and as an HRT", fontsize=12, loc="left", pad=24)
        axes.text(
            0.0,
            1.025,
            f"medians of {report.runs} pairs, error bars: quartiles, above the bars: HRT/native",
            transform=axes.transAxes,
            ha="left",
            va="bottom",
            fontsize=8.5,
            color="#555555",
        )
        axes.legend(
            frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2
        )
        return _save(figure, prefix)


def draw_latency(report: latency.Report, prefix: Path) -> list[Path]:
    """Write the chart of the latencies as ``PREFIX.png`` and ``PREFIX.svg``.

    The paper's cycles stand above ours. What could not be measured has no bar.

    Args:
        report: what was measured.
        prefix: the path without its ending; the directory must exist.

    Returns:
        the files written.

    Raises:
        OSError: a file cannot be written.
    """
    rows = [*report.interactions, *report.yardsticks]
    with _style():
        figure, axes = _frame(9.0, 1.6 + 0.42 * len(rows), report.machine)
        axes.set_xscale("log")
        for place, row in enumerate(rows):
            colour = _HRT_COLOUR if row in report.interactions else _NATIVE_COLOUR
            if row.paper_cycles is None:
                _latency_bar(axes, row, place, colour)
            else:
                _latency_bar(axes, row, place + _BAR_WIDTH / 2, colour)
                above = place - _BAR_WIDTH / 2
                axes.barh(above, row.paper_cycles, _BAR_WIDTH, color=_PAPER_COLOUR, zorder=2)
                _value(axes, row.paper_cycles, above, f"{row.paper_cycles:,}")
        axes.set_yticks(range(len(rows)), [row.title for row in rows], fontsize=9)
        axes.invert_yaxis()
        axes.set_xlabel(
            f"cycles (logarithmic): medians over {shown_rounds(report.runs)},"
            " error bars: 10th to 90th percentile"
        )
        axes.margins(x=0.12, y=0.02)
        axes.xaxis.grid(True, color="#dddddd", zorder=0)
        axes.set_title("Round trips between ROS and HRT", fontsize=12, loc="left", pad=24)
        axes.legend(
            handles=[
                Patch(color=_PAPER_COLOUR, label="paper, Figure 2"),
                Patch(color=_HRT_COLOUR, label="Multiverse"),
                Patch(color=_NATIVE_COLOUR, label="yardstick"),
            ],
            frameon=False,
            ncols=3,
            fontsize=9,
            handlelength=1.2,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            borderaxespad=0.2,
        )
        return _save(figure, prefix)


def _latency_bar(axes: Axes, row: latency.Figure, place: float, colour: str) -> None:
    if not row.rounds:
        axes.annotate(
            f"n/a, {row.unavailable}",
            (0, place),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color="#555555",
        )
        return
    value = row.single()
    axes.barh(
        place,
        value.median,
        _BAR_WIDTH,
        color=colour,
        xerr=[[value.median - value.p10], [value.p90 - value.median]],
        error_kw={"elinewidth": 1.0, "capsize": 2, "ecolor": "#333333"},
        zorder=2,
    )
    _value(axes, value.p90, place, f"{value.median:,.0f}")


def _value(axes: Axes, end: float, place: float, text: str) -> None:
    """Write a bar's value behind its end."""
    axes.annotate(
        text,
        (end, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
    )


def _save(figure: Figure, prefix: Path) -> list[Path]:
    png, svg = (Path(f"{prefix}{ending}") for ending in (".png", ".svg"))
    figure.savefig(png, dpi=160)
    figure.savefig(svg, metadata={"Date": None})
    return [png, svg]


def _top(one: Summary, other: Summary) -> float:
    return max(one.upper_quartile, other.upper_quartile)

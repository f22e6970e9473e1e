"""The bar chart of the Racket benchmarks, after Figure 3 of the paper: native beside HRT."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from multiverse.bench.racket import Report
from multiverse.bench.report import describe_machine
from multiverse.bench.stats import Summary

# Two colours of Okabe and Ito's palette, which people with any form of colour blindness can tell
# apart.
_NATIVE_COLOUR = "#0072B2"
_HRT_COLOUR = "#E69F00"
_BAR_WIDTH = 0.38


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
    # Text stays text in the SVG, and the same report makes the same file.
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "multiverse", "font.size": 10}
    ):
        figure = Figure(figsize=(max(5.0, 1.8 + 1.25 * len(results)), 4.8))
        axes = figure.add_subplot()
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
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
        axes.spines[["top", "right"]].set_visible(False)
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
        figure.supxlabel(describe_machine(report.machine), fontsize=8, color="#555555")
        png, svg = (Path(f"{prefix}{ending}") for ending in (".png", ".svg"))
        figure.savefig(png, dpi=160)
        figure.savefig(svg, metadata={"Date": None})
    return [png, svg]


def _top(one: Summary, other: Summary) -> float:
    return max(one.upper_quartile, other.upper_quartile)

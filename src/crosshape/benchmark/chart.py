"""A chart of outcomes: how many times the rate of the plain form, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crosshape.benchmark.measuring import Outcome


def write_chart(outcomes: Sequence[Outcome], path: Path, title: str) -> None:
    """Bars of ours / plain on a logarithmic axis, the rates beside them, into a PNG or SVG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in outcomes if row.ratio is not None][::-1]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.42 * max(len(rows), 1)), layout="constrained")
    ratios = [row.ratio or 1.0 for row in rows]
    spreads = [(row.ratio or 1.0) * ((row.plain_spread or 0) + (row.ours_spread or 0)) for row in rows]
    axes.barh(range(len(rows)), ratios, color="#3b6ea5", height=0.62)
    axes.errorbar(ratios, range(len(rows)), xerr=spreads, fmt="none", ecolor="#1d2b3a", lw=1, capsize=2)
    axes.axvline(1, color="#999999", lw=1)
    axes.set_xscale("log")
    longest = max((ratio + spread for ratio, spread in zip(ratios, spreads, strict=True)), default=2.0)
    axes.set_xlim(0.7, 0.7 * max(longest / 0.7, 2.0) ** (1 / 0.56))  # the words take the right 44 %
    axes.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [row.case for row in rows], fontsize=8)
    for place, row in enumerate(rows):
        text = f"  {row.ratio:.1f} x   ({_short(row.plain)} to {_short(row.ours)} {row.unit})"
        axes.text(ratios[place] + spreads[place], place, text, va="center", fontsize=8)
    axes.set_xlabel("times the rate of the plain form (bars: spread of both sides)", fontsize=9)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _short(value: float | None) -> str:
    """Three digits, no exponent."""
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

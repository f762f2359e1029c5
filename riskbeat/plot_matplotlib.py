"""SkewReport → a picture (PNG or SVG): which features differ, and how stale answers were."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from pipeline.skew import FeatureSkew, SkewReport

FEATURES_DRAWN: Final = 20
BINS: Final = 40
STALE, DEFECT, INK, QUIET = "#2a6f97", "#c1121f", "#222222", "#8a8a8a"


def draw_skew(report: SkewReport, path: Path) -> None:
    """Draw a report; the file's ending chooses the format.

    Raises:
        OSError: The file cannot be written.
    """
    figure = Figure(figsize=(13, 7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    _draw_features(left, report)
    _draw_staleness(right, report)
    verdict = (
        f"{report.defective:,} vectors are NOT what the log gives at their watermarks"
        if report.defective
        else "every vector is bit for bit what the log gives at its watermarks"
    )
    figure.suptitle(
        f"{report.compared:,} of {report.decisions:,} decisions compared: {verdict}",
        color=DEFECT if report.defective else INK,
        fontsize=12,
    )
    figure.savefig(path, dpi=120)


def _draw_features(axes: Any, report: SkewReport) -> None:
    """Draw the share of vectors in which each feature differs, the most frequent first."""
    remade = {skew.name: skew for skew in report.remade}
    unlike = [s for s in report.fresh if s.unequal or remade[s.name].unequal]
    unlike.sort(key=lambda s: (-remade[s.name].unequal, -s.unequal, s.name))
    shown = unlike[:FEATURES_DRAWN][::-1]
    rows = np.arange(len(shown))
    axes.barh(rows, [_percent(s) for s in shown], color=STALE, label="a fresh store says otherwise")
    if report.defective:
        made = [_percent(remade[s.name]) for s in shown]
        label = "cannot be made again (defect)"
        axes.barh(rows, made, height=0.35, color=DEFECT, label=label)
    axes.set_yticks(rows, [s.name for s in shown], fontsize=8)
    axes.set_xlabel("% of vectors")
    rest = len(unlike) - len(shown)
    more = f", {rest} more not drawn" if rest else ""
    axes.set_title(
        f"{len(unlike)} of {len(report.fresh)} features differ somewhere{more}", fontsize=10
    )
    if shown:
        axes.legend(loc="lower right", fontsize=8, frameon=False)
    else:
        axes.text(0.5, 0.5, "no feature differs", ha="center", transform=axes.transAxes)
    _tidy(axes)


def _draw_staleness(axes: Any, report: SkewReport) -> None:
    """Draw how old the states were, on a logarithmic axis, with its quantiles."""
    known = report.staleness_ms
    axes.set_title(f"staleness of {len(known):,} answers", fontsize=10)
    axes.set_xlabel("ms from the states' completeness to the decision")
    axes.set_ylabel("answers")
    if len(known):
        values = np.maximum(known, 1)
        edges = np.geomspace(values.min() * 0.9, values.max() * 1.1 + 1, BINS)
        axes.hist(values, bins=edges, color=STALE)
        axes.set_xscale("log")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.margins(y=0.15)
        top = axes.get_ylim()[1]
        for n, share in enumerate((0.5, 0.99)):
            at = report.staleness_at(share)
            axes.axvline(max(at, 1), color=INK, linewidth=1, linestyle="--")
            height = top * (0.97 - 0.06 * n)
            text = f" p{100 * share:g}: {at:,.0f} ms"
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.9}
            side = "right" if share > 0.5 else "left"
            axes.text(
                *(max(at, 1), height, f"{text} "),
                fontsize=8,
                color=INK,
                va="top",
                ha=side,
                bbox=box,
            )
    else:
        axes.text(0.5, 0.5, "no answer knows its staleness", ha="center", transform=axes.transAxes)
    _tidy(axes)


def _percent(skew: FeatureSkew) -> float:
    return 100 * skew.share


def _tidy(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=QUIET, labelcolor=INK)

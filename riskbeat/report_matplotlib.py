"""Evaluation → pictures (SVG text): what a report shows, one figure for each question."""

import io
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import matplotlib as mpl
import matplotlib.dates
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from models.evaluation_reliability import EDGES
from pipeline.evaluation import Curve, Evaluation
from pipeline.judged_columns import CHAMPION

INK, QUIET, CHAMPION_INK = "#1a1a1a", "#7a7a7a", "#0b3954"
dates: Any = matplotlib.dates  # half of it has no types
OTHERS: Final = ("#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#6a51a3")
MARK_INK: Final = {"drift": "#c1121f", "freeze": "#3a86ff", "thaw": "#3a86ff"}
OUTCOME_INK: Final = {"decline": "#c1121f", "challenge": "#e07a1f", "review": "#8a6d00"}
VERSIONS_SHOWN: Final = 6
LEAST_P: Final = 1e-4
_GROUP: Final = re.compile(r'<g id="[^"]*"')  # names that nothing refers to, alike in each picture
FALL_IN_COST: Final = 3.0


def draw_all(evaluation: Evaluation) -> dict[str, str]:
    """Return every picture by its name, as `<svg>` elements that may stand in one page."""
    return {name: _svg(name, size, draw, evaluation) for name, (size, draw) in _PICTURES.items()}


def _svg(
    name: str,
    size: tuple[float, float],
    draw: Callable[[Figure, Evaluation], None],
    evaluation: Evaluation,
) -> str:
    options: Any = {
        "svg.hashsalt": name,  # ids of one picture must not name another's parts
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9.5,
        "axes.edgecolor": QUIET,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "legend.fontsize": 8.5,
    }
    with mpl.rc_context(options):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, evaluation)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return _GROUP.sub("<g", text[text.index("<svg") :])


def _inks(evaluation: Evaluation) -> dict[str, str]:
    others = [one.name for one in evaluation.predictors if one.name != CHAMPION]
    inks = {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}
    return inks | {CHAMPION: CHAMPION_INK}


def _width(name: str) -> float:
    return 2.2 if name == CHAMPION else 1.2


def _draw_pr(figure: Figure, evaluation: Evaluation) -> None:
    left, right = figure.subplots(1, 2)
    inks = _inks(evaluation)
    for one in evaluation.predictors[::-1]:
        ap, auc = one.figures.get("average_precision"), one.figures.get("roc_auc")
        if ap is None or not one.pr.x:
            continue
        how = {"color": inks[one.name], "linewidth": _width(one.name)}
        label = f"{one.name}  AP {ap:.3f}"
        left.plot(one.pr.x, one.pr.y, label=label, drawstyle="steps-pre", **how)
        if auc is not None:
            right.plot(*_kept(one.roc, LEAST_P), label=f"{one.name}  AUC {auc:.3f}", **how)
    rate = evaluation.predictors[0].figures.get("fraud_rate", 0.0)
    left.axhline(rate, color=QUIET, linewidth=0.8, linestyle=":")
    left.set(xlabel="recall: share of frauds alerted", ylabel="precision: frauds among alerts")
    left.set(xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall")
    right.set(xlabel="false positive rate", ylabel="recall", title="The corner that matters")
    right.set(xscale="log", xlim=(LEAST_P, 1), ylim=(0, 1.02))
    right.xaxis.set_major_formatter(FuncFormatter(_share))
    for at in (0.001, 0.005, 0.01):
        right.axvline(at, color=QUIET, linewidth=0.6, linestyle=":")
    for axes, place in ((left, "upper right"), (right, "upper left")):
        _legend(axes, place)
        _tidy(axes)


def _draw_reliability(figure: Figure, evaluation: Evaluation) -> None:
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    inks = _inks(evaluation)
    top.plot([LEAST_P, 1], [LEAST_P, 1], color=QUIET, linewidth=0.8, linestyle=":")
    for one in evaluation.predictors[::-1]:
        bins = [b for b in one.bins if b.believed > 0]
        if not bins:
            continue
        x = [max(b.believed, LEAST_P) for b in bins]
        y = [max(b.seen, LEAST_P) for b in bins]
        how = {"color": inks[one.name], "linewidth": _width(one.name), "markersize": 4}
        error = one.figures.get("calibration_error", math.nan)
        label = f"{one.name}  error {error:.4f}"
        if one.name != CHAMPION:
            top.plot(x, y, marker=".", alpha=0.8, label=label, **how)
            continue
        low = [max(b.seen - max(b.low, LEAST_P), 0) if b.seen > LEAST_P else 0 for b in bins]
        high = [max(b.high - max(b.seen, LEAST_P), 0) for b in bins]
        top.errorbar(x, y, yerr=[low, high], marker="o", capsize=2.5, label=label, **how)
        edges = [max(edge, LEAST_P) for edge in EDGES]
        counts = [0] * (len(EDGES) - 1)
        for b in bins:
            place = max(i for i, edge in enumerate(EDGES[:-1]) if edge <= b.believed)
            counts[place] = b.rows
        bottom.stairs(counts, edges, fill=True, color=CHAMPION_INK, alpha=0.35)
    top.set(xscale="log", yscale="log", xlim=(LEAST_P, 1), ylim=(LEAST_P, 1.2))
    top.set(ylabel="share that was fraud", title="What was believed, and what came true")
    bottom.set(yscale="log", ylabel="events", xlabel="probability of fraud that was believed")
    for axis in (top.yaxis, bottom.xaxis):
        axis.set_major_formatter(FuncFormatter(_share))
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    _legend(top, "upper left")
    for axes in (top, bottom):
        _tidy(axes)


def _draw_time(figure: Figure, evaluation: Evaluation) -> None:
    panels = (
        ("average_precision", "average precision"),
        ("recall_at_half_percent_fpr", "recall at 0.5 % FPR"),
        ("card_precision_at_100", "card precision @100"),
        ("brier", "Brier score"),
    )
    axes_of = figure.subplots(len(panels), 1, sharex=True)
    inks = _inks(evaluation)
    days = [day.day for day in evaluation.days]
    for axes, (figure_name, title) in zip(axes_of, panels, strict=True):
        for one in evaluation.predictors[::-1]:
            daily = [day.figures[one.name].get(figure_name, math.nan) for day in evaluation.days]
            rolling = one.rolling.get(figure_name)
            ink, bold = inks[one.name], one.name == CHAMPION
            alone = rolling is None or not rolling.x
            axes.plot(
                *(_noon(days), daily),
                marker="o" if bold else ".",
                markersize=4 if bold else 3,
                linestyle="-" if alone else "",
                linewidth=_width(one.name),
                alpha=1.0 if alone else 0.45,
                color=ink,
                label=one.name if alone else None,
            )
            if rolling is not None and rolling.x:
                at = [datetime.fromtimestamp(x / 1000, UTC) for x in rolling.x]
                axes.plot(at, rolling.y, color=ink, linewidth=_width(one.name), label=one.name)
        axes.set_title(title)
        axes.set_ylim(bottom=0)
        _mark(axes, evaluation)
        _tidy(axes)
    _legend_outside(figure, axes_of[0], "outside upper right", 4)
    _versions(axes_of[0], evaluation)
    _dates(axes_of[-1])


def _mark(axes: Any, evaluation: Evaluation) -> None:
    for mark in evaluation.marks:
        at = datetime.fromtimestamp(mark.at_ms / 1000, UTC)
        ink = MARK_INK.get(mark.kind, QUIET)
        axes.axvline(at, color=ink, linewidth=1, linestyle="-." if mark.kind == "thaw" else "--")


def _versions(axes: Any, evaluation: Evaluation) -> None:
    """Write on top which versions answered on some of the days."""
    step = max(1, math.ceil(len(evaluation.days) / VERSIONS_SHOWN))
    shown = evaluation.days[::step]
    top = axes.secondary_xaxis("top")
    top.set_xticks(_noon([day.day for day in shown]))
    top.set_xticklabels([f"v{day.versions[1]}" for day in shown], fontsize=8, color=QUIET)
    top.tick_params(length=2, color=QUIET)
    top.spines["top"].set_visible(False)
    axes.set_title(axes.get_title(loc="left"), pad=16)


def _draw_cost(figure: Figure, evaluation: Evaluation) -> None:
    axes = figure.subplots()
    inks = _inks(evaluation)
    nothing = evaluation.predictors[0].cost.y[0] * 1000
    for one in evaluation.predictors[::-1]:
        x, y = _kept(one.cost, LEAST_P)
        per_thousand = [1000 * value for value in y]
        axes.plot(x, per_thousand, color=inks[one.name], lw=_width(one.name), label=one.name)
    axes.axhline(nothing, color=QUIET, linewidth=0.8, linestyle=":")
    axes.text(LEAST_P * 1.1, nothing, "nothing is alerted", color=QUIET, fontsize=8, va="bottom")
    lowest = evaluation.predictors[0].figures.get("lowest_cost", 0.0) * 1000
    best = evaluation.predictors[0].figures.get("lowest_cost_threshold")
    if best is not None and best < 1:  # 1: it costs least to alert nothing
        axes.plot([best], [lowest], marker="v", color=CHAMPION_INK, markersize=10, zorder=5)
        text = f"{CHAMPION} costs least from {best:.3g}"
        axes.axvline(best, color=CHAMPION_INK, linewidth=1, label=text)
    for bound in evaluation.bounds:
        ink = OUTCOME_INK.get(bound.outcome, QUIET)
        text = f"policy: {bound.outcome} from {bound.threshold:.3g}"
        axes.axvline(bound.threshold, color=ink, linewidth=1.2, linestyle="--", label=text)
    axes.set(xscale="log", xlim=(LEAST_P, 1), ylim=(0, max(nothing * FALL_IN_COST, 1.0)))
    axes.set(xlabel="alert from this probability of fraud upwards")
    axes.set(ylabel="minor units per 1,000 events", title="What each threshold would have cost")
    axes.xaxis.set_major_formatter(FuncFormatter(_share))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    _legend_outside(figure, axes, "outside right upper", 1)
    _tidy(axes)


def _draw_delays(figure: Figure, evaluation: Evaluation) -> None:
    kinds = list(evaluation.delay_hours)
    axes_of = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    for axes, kind in zip(axes_of, kinds, strict=True):
        curve = evaluation.delay_hours[kind]
        axes.stairs(curve.y, curve.x, fill=True, color=CHAMPION_INK, alpha=0.6)
        told = evaluation.delays[kind]
        text = ", ".join(f"{name} {hours / 24:.1f} d" for name, hours in told.items())
        axes.set_title(f"{kind}: {text}")
        axes.set_ylabel("events")
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        _tidy(axes)
    axes_of[-1].set_xlabel("days of event time from the event to its judgement")


def _draw_counts(figure: Figure, evaluation: Evaluation) -> None:
    top, bottom = figure.subplots(2, 1, sharex=True)
    days = _noon([day.day for day in evaluation.days])
    judged = [day.judged for day in evaluation.days]
    rate = [day.frauds / day.judged for day in evaluation.days]
    top.bar(days, judged, width=0.8, color=CHAMPION_INK, alpha=0.6)
    top.set_title("Events judged, by event day")
    top.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    bottom.plot(days, rate, marker="o", markersize=4, color=MARK_INK["drift"])
    bottom.set_title("Share of frauds among them")
    bottom.set_ylim(bottom=0)
    bottom.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=2))
    for axes in (top, bottom):
        _mark(axes, evaluation)
        _tidy(axes)
    _dates(bottom)


def _kept(curve: Curve, least: float) -> tuple[list[float], list[float]]:
    """Return points for a logarithmic axis: what lies below its end is put there."""
    return [max(x, least) for x in curve.x], curve.y


def _noon(days: Sequence[datetime]) -> list[datetime]:
    return [day.replace(hour=12) for day in days]


def _share(value: float, _: int) -> str:
    return f"{100 * value:g} %"


def _legend(axes: Any, place: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles[::-1], labels[::-1], loc=place)


def _legend_outside(figure: Figure, axes: Any, place: str, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    legend: Any = figure.legend
    legend(handles[::-1], labels[::-1], loc=place, ncols=columns)


def _dates(axes: Any) -> None:
    locator: Any = dates.AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _tidy(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=QUIET, labelcolor=INK)
    axes.grid(True, axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


_PICTURES: Final[dict[str, tuple[tuple[float, float], Callable[[Figure, Evaluation], None]]]] = {
    "pr": ((10.5, 4.2), _draw_pr),
    "time": ((10.5, 8.6), _draw_time),
    "cost": ((10.5, 4.2), _draw_cost),
    "reliability": ((10.5, 5.6), _draw_reliability),
    "counts": ((10.5, 4.2), _draw_counts),
    "delays": ((10.5, 4.6), _draw_delays),
}

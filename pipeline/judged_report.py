"""judged rows → Evaluation: all that a report says, as plain values.

Everything is worked out over rows that were predicted first and judged when their truth was known.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.cost import Costs, cost_curve
from models.evaluation import Scored, card_precision_by_day, figures_of
from models.evaluation_ranking import Ranking, ranking_of
from models.evaluation_reliability import bins_of
from models.policy import Policy
from pipeline.evaluation import Against, Belief, Bound, Counts, Curve, Day, Evaluation
from pipeline.join import SILENCE
from pipeline.judged import Mark
from pipeline.judged_columns import APPROVED, CHAMPION, DAY_MS, Columns
from pipeline.judged_parquet import columns_of_frame

CURVE_POINTS = 400
ROLLING_POINTS = 60
LEAST_P = 1e-6
ROLLING_ROWS_MIN = 500
ROLLING_FIGURES = ("average_precision", "recall_at_half_percent_fpr", "brier")
DELAY_SHARES = (0.5, 0.9, 0.99)


def evaluate(
    frame: pl.DataFrame, marks: Sequence[Mark], costs: Costs, policy: Policy | None
) -> Evaluation:
    """Work everything out.

    Args:
        frame: Rows of `judged_parquet.SCHEMA`, at least one.
        marks: By time.
        costs: What errors cost.
        policy: Whose bounds are shown; None: nobody's.
    """
    columns = columns_of_frame(frame)
    times = frame["event_time"].dt.timestamp("ms").to_numpy()
    window = max(ROLLING_ROWS_MIN, min(20_480, len(frame) // 5))
    days = _days(frame, columns, costs)
    beliefs = [_belief(name, columns, times, costs, window, days) for name in columns.predictors]
    first, last = int(times.min()), int(times.max())
    delays = _delays(frame)
    return Evaluation(
        counts=_counts(frame),
        costs=costs,
        predictors=beliefs,
        days=days,
        marks=[mark for mark in marks if first <= mark.at_ms <= last + DAY_MS],
        bounds=_bounds(policy, columns.champion, costs),
        delays={
            kind: {f"p{100 * s:g}": float(np.quantile(hours, s)) for s in DELAY_SHARES}
            for kind, hours in delays.items()
        },
        delay_hours={kind: _histogram(hours) for kind, hours in delays.items()},
        rolling_rows=window,
    )


def _counts(frame: pl.DataFrame) -> Counts:
    fraud = frame["fraud"] == 1
    passed = (frame["outcome"] == APPROVED) & (frame["propensity"] < 1)
    versions = frame["weights_version"]
    sources = frame.group_by("source").len().sort("len", descending=True)
    return Counts(
        judged=len(frame),
        frauds=int(fraud.sum()),
        fraud_amount=float(frame["amount_minor"].filter(fraud).sum()),
        passed_through=int(passed.sum()),
        passed_through_frauds=int((passed & fraud).sum()),
        passed_through_fraud_amount=float(frame["amount_minor"].filter(passed & fraud).sum()),
        stopped=int((frame["outcome"] == "decline").sum()),
        first_event=_instant(frame["event_time"].dt.timestamp("ms").to_numpy().min()),
        last_event=_instant(frame["event_time"].dt.timestamp("ms").to_numpy().max()),
        versions=_range(versions),
        sources={name: count for name, count in sources.iter_rows()},
    )


def _days(frame: pl.DataFrame, columns: Columns, costs: Costs) -> list[Day]:
    found = []
    day = columns.champion.day
    cards = {name: _card_precision(columns.scored(name)) for name in columns.predictors}
    versions = frame["weights_version"]
    passed = ((frame["outcome"] == APPROVED) & (frame["propensity"] < 1)).to_numpy()
    for today in np.unique(day).tolist():
        rows = np.flatnonzero(day == today)
        figures = {}
        for name in columns.predictors:
            told = figures_of(columns.scored(name).part(rows), costs)
            told.pop("card_precision_at_100", None)
            if today in cards[name]:
                told["card_precision_at_100"] = cards[name][today]
            figures[name] = told
        found.append(
            Day(
                day=_instant(today * DAY_MS),
                judged=len(rows),
                frauds=int(columns.champion.y[rows].sum()),
                passed_through=int(passed[rows].sum()),
                versions=_range(versions.gather(rows)),
                figures=figures,
            )
        )
    return found


def _card_precision(seen: Scored) -> dict[int, float]:
    """Return card precision by day, over the whole range: a card that was found is left out."""
    rows = (seen.card != 0) & ~np.isnan(seen.p)
    return card_precision_by_day(seen.day[rows], seen.card[rows], seen.y[rows], seen.p[rows])


def _belief(
    name: str,
    columns: Columns,
    times: NDArray[np.int64],
    costs: Costs,
    window: int,
    days: Sequence[Day],
) -> Belief:
    seen = columns.scored(name)
    said = ~np.isnan(seen.p)
    known = seen.part(said)
    ranking = ranking_of(known.y, known.p, known.w, known.amount)
    curve = cost_curve(ranking, costs)
    chosen = _thin_by(-np.log10(np.clip(curve.threshold, LEAST_P, 1.0)))
    per_event = 1.0 / (ranking.total or 1.0)
    return Belief(
        name=name,
        figures=figures_of(seen, costs),
        against={} if name == CHAMPION else _against(name, days),
        pr=_pr(ranking),
        roc=_roc(ranking),
        bins=bins_of(known.y, known.p, known.w),
        cost=Curve(
            np.minimum(curve.threshold[chosen], 1.0).tolist(),
            (curve.cost[chosen] * per_event).tolist(),
        ),
        rolling=_rolling(known, times[said], costs, window),
    )


def _against(name: str, days: Sequence[Day]) -> dict[str, Against]:
    found = {}
    for figure in ("average_precision", "recall_at_half_percent_fpr", "card_precision_at_100"):
        gaps = [
            day.figures[name][figure] - day.figures[CHAMPION][figure]
            for day in days
            if figure in day.figures[name] and figure in day.figures[CHAMPION]
        ]
        if len(gaps) > 1:
            mean, sd = float(np.mean(gaps)), float(np.std(gaps, ddof=1))
            found[figure] = Against(days=len(gaps), mean=mean, sd=sd)
    return found


def _pr(ranking: Ranking) -> Curve:
    if not ranking.fraud_total:
        return Curve([], [])
    chosen = _thin_by(ranking.recall)
    return Curve(ranking.recall[chosen].tolist(), ranking.precision[chosen].tolist())


def _roc(ranking: Ranking) -> Curve:
    if not ranking.fraud_total or not ranking.legit_total:
        return Curve([], [])
    chosen = _thin_by(ranking.recall)
    misses = (ranking.alerts - ranking.frauds) / ranking.legit_total
    return Curve(misses[chosen].tolist(), ranking.recall[chosen].tolist())


def _rolling(seen: Scored, times: NDArray[np.int64], costs: Costs, window: int) -> dict[str, Curve]:
    """Return figures of the newest `window` rows at points of time, in the order of judgement."""
    if len(seen) < window:
        return {}
    ends = np.unique(np.linspace(window, len(seen), ROLLING_POINTS).astype(int))
    newest = np.maximum.accumulate(times)
    told = [figures_of(seen.part(slice(end - window, end)), costs) for end in ends]
    at_ms = [float(newest[end - 1]) for end in ends]
    return {
        figure: Curve(
            [at for at, figures in zip(at_ms, told, strict=True) if figure in figures],
            [figures[figure] for figures in told if figure in figures],
        )
        for figure in ROLLING_FIGURES
    }


def _bounds(policy: Policy | None, seen: Scored, costs: Costs) -> list[Bound]:
    """Return the default ladder's bounds as probabilities; a percentile by the rows themselves."""
    if policy is None:
        return []
    ranking = ranking_of(seen.y, seen.p, seen.w, seen.amount)
    curve = cost_curve(ranking, costs)
    found = []
    for band in policy.default.bands:
        lowest = band.probability or 0.0
        if band.percentile is not None:
            lowest = max(lowest, float(np.quantile(seen.p, band.percentile)))
        cost = curve.at(lowest) / (ranking.total or 1.0)
        found.append(Bound(outcome=band.outcome, threshold=lowest, cost_per_event=cost))
    return found


def _delays(frame: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return hours from event to judgement, by the kind of truth."""
    hours = (frame["judged_time"] - frame["event_time"]).dt.total_milliseconds() / 3_600_000
    silent, fraud = frame["source"] == SILENCE, frame["fraud"] == 1
    kinds = {"fraud": fraud, "legit, stated": ~fraud & ~silent, "legit by silence": ~fraud & silent}
    return {kind: hours.filter(rows).to_numpy() for kind, rows in kinds.items() if rows.any()}


def _histogram(hours: NDArray[np.float64]) -> Curve:
    counts, edges = np.histogram(np.maximum(hours, 0) / 24, bins=40)
    return Curve(edges.tolist(), [float(count) for count in counts])


def _thin_by(x: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return places that are spread evenly over a rising curve; its first and last among them."""
    places = np.searchsorted(x, np.linspace(x[0], x[-1], CURVE_POINTS))
    return np.unique(np.concatenate([[0], np.minimum(places, len(x) - 1)]))


def _instant(at_ms: float) -> datetime:
    return datetime.fromtimestamp(int(at_ms) / 1000, UTC)


def _range(versions: pl.Series) -> tuple[int, int]:
    low, high = versions.to_numpy().min(), versions.to_numpy().max()
    return int(low), int(high)

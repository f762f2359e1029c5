"""what the demo knows → the table that a person sees."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from models.decision import DecisionRecord, Reason

REASONS_SHOWN = 2


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one second. Times in milliseconds; NaN where nothing was seen yet."""

    elapsed_s: float
    seconds: float
    events: int
    events_per_s: float
    freshness_p50_ms: float
    freshness_p99_ms: float
    decisions: int
    decisions_per_s: float
    decision_p50_ms: float
    decision_p99_ms: float
    weights_version: int
    weights_age_ms: float
    labels: int
    average_precision: float
    fraud_rate: float
    errors: int
    stage: str


def show(figures: Figures, alerts: Sequence[DecisionRecord]) -> Group:
    """Return the live page: the path from left to right, then the latest alerts."""
    path = Table(expand=True, box=None, pad_edge=False)
    for title in ("events", "features", "decisions", "weights", "quality"):
        path.add_column(title, style="bold", header_style="dim")
    path.add_row(
        f"{figures.events:,}",
        f"{number(figures.freshness_p50_ms)} ms",
        f"{figures.decisions:,}",
        f"v{figures.weights_version}",
        f"AP {number(figures.average_precision, 3)}",
    )
    path.add_row(
        Text(f"{figures.events_per_s:,.0f}/s", style="dim"),
        Text(f"p99 {number(figures.freshness_p99_ms)} ms to Redis", style="dim"),
        Text(
            f"{figures.decisions_per_s:,.0f}/s  p50 {number(figures.decision_p50_ms)} "
            f"p99 {number(figures.decision_p99_ms)} ms",
            style="dim",
        ),
        Text(f"{number(figures.weights_age_ms, 0)} ms old, {figures.labels:,} labels", style="dim"),
        Text(f"fraud rate {figures.fraud_rate:.2%}", style="dim"),
    )
    title = f"riskbeat demo   {figures.stage}   {figures.elapsed_s:.0f} of {figures.seconds:.0f} s"
    trouble = f"   [red]{figures.errors} errors[/red]" if figures.errors else ""
    return Group(Panel(path, title=title + trouble), alerts_table(alerts))


def summary(figures: Mapping[str, Any]) -> Table:
    """Return the last word of a run: one line per figure."""
    quality = figures["average_precision"]
    lines = {
        "events": f"{figures['events']:,} in {figures['seconds']:.0f} s",
        "event → Redis": _pair(figures["freshness_ms"]),
        "decisions": f"{figures['decisions']:,}, {_pair(figures['decision_ms'])}",
        "weights": f"{figures['weights_versions']} versions; "
        f"p99 {number(figures['weights_age_ms']['p99'], 0)} ms old when they answered",
        "average precision": f"first third {number(quality['first_third'], 3)}, "
        f"last third {number(quality['last_third'], 3)} "
        f"(weights frozen after the first third: {number(quality['last_third_frozen'], 3)}; "
        f"chance: {number(figures['fraud_rate'], 3)})",
        "errors": f"{figures['errors']}",
    }
    table = Table(show_header=False, box=None)
    for name, line in lines.items():
        table.add_row(Text(name, style="bold"), line)
    return table


def _pair(quantiles: Mapping[str, float | None]) -> str:
    return f"p50 {number(quantiles['p50'])} ms, p99 {number(quantiles['p99'])} ms"


def alerts_table(alerts: Sequence[DecisionRecord]) -> Panel:
    """Return the latest alerts, newest first, each with its strongest reasons."""
    table = Table(expand=True, box=None, pad_edge=False)
    table.add_column("event", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("because", ratio=1)
    for record in reversed(alerts):
        amount = record.event.amount
        table.add_row(
            record.event_id,
            f"{amount.value / 100:,.2f} {amount.currency}" if amount else "",
            number(math.nan if record.score.value is None else record.score.value, 3),
            record.outcome,
            "; ".join(because(reason) for reason in record.reasons[:REASONS_SHOWN]),
        )
    return Panel(table, title="latest alerts")


def number(value: float | None, digits: int = 1) -> str:
    """Return a figure for a person; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def because(reason: Reason) -> str:
    """Return one reason with its value against what is usual."""
    value = "missing" if reason.value is None else f"{reason.value:,.6g}"
    return f"{reason.feature} {value} (usually {reason.baseline:,.3g})"

"""rollouts → pages for people."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.table import Table

from models.rollout import Rollout, RolloutAct, RolloutState
from models.rollout_counts import ArmCounts, quantile_ms
from models.rollout_rules import contender_of, is_shadow, readings
from models.rollout_signals import Signals

WIDE = 160
HISTORY_SHOWN = 5
HEADS = ("decisions", "failed", "skipped", "degraded", "alerts", "pass p99", "agreed", "|Δ|")
STAGES = {
    "running": "runs",
    "promoted": "was promoted",
    "rolled_back": "was rolled back",
    "aborted": "was aborted",
}


def print_status(state: RolloutState, signals: Signals | None, acts: Sequence[RolloutAct]) -> None:
    """Print what is rolled out, and how it does."""
    rollout = state.rollout
    typer.echo(f"line {state.line} answers")
    if rollout is None or signals is None:
        typer.echo("nothing was ever rolled out: riskbeat rollout start")
        return
    typer.echo(f"rollout {rollout.number} of {rollout.candidate} {STAGES[rollout.stage]}")
    typer.echo(f"started by {rollout.by}, {_ago(rollout.started_ms)}: {rollout.why}")
    if rollout.because:
        typer.echo(f"ended {_ago(rollout.ended_ms)}: {rollout.because}")
    _print_steps(rollout, signals)
    _print_arms(signals)
    if rollout.running:
        _print_readings(rollout, signals)
    table = Table("when", "act", "rollout", "candidate", "share", "by", "why")
    for act in acts[:HISTORY_SHOWN]:
        share = f"{100 * act.share:g} %"
        table.add_row(
            _ago(act.at_ms), act.act, str(act.number), act.candidate, share, act.by, act.why
        )
    _console().print(table)


def selected_text(rollout: Rollout) -> str:
    """Return who takes part, in words."""
    selector = rollout.plan.selector
    parts = [f"by {selector.entity or 'the primary entity'}"]
    if selector.tenants:
        parts.append(f"tenants {', '.join(selector.tenants)}")
    parts += [f"{name} = {value}" for name, value in sorted(selector.attributes.items())]
    return "; ".join(parts)


def _print_steps(rollout: Rollout, signals: Signals) -> None:
    typer.echo(f"{selected_text(rollout)}; {_ending(rollout)}")
    table = Table("step", "share", "bake", "decisions", "")
    for index, step in enumerate(rollout.plan.steps):
        here = index == rollout.step
        seen = contender_of(rollout, signals).decisions if here else None
        least = f"{step.decisions_min:,}"
        counted = least if seen is None else f"{seen:,} of {least}"
        mark = f"since {_ago(rollout.step_since_ms)}" if here and rollout.running else ""
        if index < rollout.step or rollout.stage == "promoted":
            mark = "passed"
        share = "shadow" if step.share == 0 else f"{100 * step.share:g} %"
        table.add_row(str(index + 1), share, f"{step.bake_s:g} s", counted, mark)
    _console().print(table)


def _ending(rollout: Rollout) -> str:
    if rollout.plan.promotes:
        return "it is promoted after the last step"
    return "it stays at the last step until a person promotes or aborts it"


def _print_arms(signals: Signals) -> None:
    typer.echo(f"{signals.ready} of {signals.workers} reporting scorers hold the candidate")
    table = Table("arm")
    for head in HEADS:
        table.add_column(head, justify="right")
    for name, counts in (
        ("stable", signals.stable),
        ("candidate", signals.candidate),
        ("shadow", signals.shadow),
        ("beside the shadow", signals.beside),
    ):
        if counts != ArmCounts():
            table.add_row(name, *_arm_cells(name, counts))
    if table.row_count:
        _console().print(table)


def _arm_cells(name: str, counts: ArmCounts) -> list[str]:
    seen = max(counts.decisions, 1)
    agreed = f"{counts.agreed / seen:.2%}" if name == "shadow" else ""
    apart = f"{counts.apart / seen:.3f}" if name == "shadow" else ""
    return [
        f"{counts.decisions:,}",
        f"{counts.fallbacks:,}",
        f"{counts.skipped:,}",
        f"{counts.degraded:,}",
        f"{counts.alerts / seen:.2%}",
        f"{quantile_ms(counts.model_ms, 0.99):g} ms",
        agreed,
        apart,
    ]


def _print_readings(rollout: Rollout, signals: Signals) -> None:
    ("signal", "candidate", "shadow" if is_shadow(rollout) else "stable", "limit", "")
    contender = "shadow" if is_shadow(rollout) else "candidate"
    table = Table("signal", contender, "stable", "limit", "")
    for one in readings(rollout, signals):
        state = "BREACHED" if one.breached else "" if one.contender is not None else "not yet"
        table.add_row(
            one.signal, _number(one.contender), _number(one.stable), f"{one.limit:g}", state
        )
    _console().print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _ago(at_ms: int) -> str:
    seconds = datetime.now(UTC).timestamp() - at_ms / 1000
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:,.0f} {unit} ago"
    return f"{seconds / 86_400:,.0f} d ago"


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDE)

"""`riskbeat plan`: how many processes and partitions, how much memory and disk, and from what."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from riskbeat.plan import Item, Load, plan
from riskbeat.plan_measured import ASSUMED, EVIDENCE, MEASURED, Assumed, Measured
from riskbeat.settings import Settings
from riskbeat.settings_load import load_settings

WIDE = 160
WHOLE = 1_000
CAVEAT = "Measured on two cores that load, servers and processes shared: rates are per CPU-second."


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="plan")(print_plan)


def print_plan(
    events_per_s: Annotated[float, typer.Option(min=0.001, help="At the busiest hour.")],
    entities: Annotated[int, typer.Option(min=1, help="Remembered at once, of all kinds.")],
    latency_ms: Annotated[
        float | None,
        typer.Option(min=0.001, help="Event → readable feature, at the 99th percentile."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Say what a load needs, by the settings' retention: each figure with its measurement."""
    load = _load(load_settings(servers=False), events_per_s, entities, latency_ms)
    items = plan(load)
    if as_json:
        typer.echo(json.dumps({"plan": [_row(item) for item in items], **_grounds()}))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    console.print(_table(items))
    typer.echo("Measured:")
    for one in MEASURED:
        typer.echo(
            f"  {one.value:,.5g} {one.unit}  {one.row}  [{EVIDENCE}/{one.file}; {one.command}]"
        )
    typer.echo("Assumed:")
    for name, guess in ASSUMED.items():
        typer.echo(f"  {guess.value:,g} {guess.unit}  {name}: {guess.why}")
    typer.echo(CAVEAT)


def _load(settings: Settings, events_per_s: float, entities: int, latency_ms: float | None) -> Load:
    horizon_s = max(settings.label_horizon_s, settings.events_retention_s)
    return Load(
        events_per_s=events_per_s,
        entities=entities,
        latency_ms=latency_ms,
        retention_s={
            "events.v1": settings.events_retention_s,
            "updates.v1": settings.updates_retention_s,
            "decisions.v1": horizon_s,
            "weights.v1": settings.weights_retention_s,
        },
        versions_per_s=1 / settings.publish_interval_s,
        replication=settings.topic_replication,
    )


def _row(item: Item) -> dict[str, object]:
    return {
        "what": item.what,
        "value": item.value,
        "unit": item.unit,
        "note": item.note,
        "measured": [f"{m.file}: {m.row}" for m in item.rests_on if isinstance(m, Measured)],
        "assumed": [a.why for a in item.rests_on if isinstance(a, Assumed)],
    }


def _grounds() -> dict[str, object]:
    return {
        "measured": [one._asdict() for one in MEASURED],
        "assumed": {name: guess._asdict() for name, guess in ASSUMED.items()},
        "caveat": CAVEAT,
    }


def _figure(value: float) -> str:
    """Return four digits that count, never as a power of ten."""
    return f"{value:,.0f}" if value >= WHOLE else f"{value:,.4g}"


def _table(items: list[Item]) -> Table:
    table = Table("what", "needs", "rests on", "note")
    for item in items:
        shown = "—" if item.value is None else f"{_figure(item.value)} {item.unit}"
        files = {m.file for m in item.rests_on if isinstance(m, Measured)}
        guesses = any(isinstance(one, Assumed) for one in item.rests_on)
        rests = ", ".join([*sorted(files), *(["an assumption"] if guesses else [])])
        table.add_row(item.what, shown, rests, item.note)
    return table

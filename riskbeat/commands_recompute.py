"""`riskbeat recompute`: past decisions made again from the log, and held against what was said."""

import asyncio
import importlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from features.event import EventRejected
from models.decision import DecisionRecord
from models.policy_store import PolicyStoreUnavailable
from models.signing import BadKeys
from pipeline.recompute import Recomputed
from pipeline.replay_source import LogUnreadable
from pipeline.skew_log import read_decisions
from pipeline.versions_kafka import LogSilent
from riskbeat.settings import Settings
from riskbeat.settings_load import load_settings

EXIT_DIFFERENT = 1
EXIT_USER_ERROR = 2
SHOWN = 20
ENDINGS = (BadKeys, EventRejected, LogSilent, LogUnreadable, PolicyStoreUnavailable)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(recompute)


def recompute(
    decision: Annotated[str, typer.Argument(help="A decision's id, `dec_…`.")] = "",
    all_of: Annotated[
        Path | None, typer.Option(help="All decision records of a file (.jsonl, .parquet).")
    ] = None,
    last: Annotated[int, typer.Option(min=0, help="The newest decisions, this many.")] = 0,
    policy: Annotated[
        list[Path] | None,
        typer.Option(help="A policy file that the store does not hold; may be given again."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a decision.")] = False,
) -> None:
    """Make past decisions again from the log, spec, weights and policy that they name; compare.

    Ends with code 1 if one is not what follows from these.
    """
    if bool(decision) + (all_of is not None) + bool(last) != 1:
        _end("recompute: name a decision, or give --all-of or --last")
    house: Any = importlib.import_module("riskbeat.recompute")  # torch takes seconds
    settings = load_settings()
    try:
        records = _records(settings, house, decision, all_of, last)
        versions = {record.policy.version for record in records}
        policies = asyncio.run(house.policies_of(settings, policy or [], versions))
        found = asyncio.run(house.recompute_records(settings, records, policies, _progress))
    except ENDINGS as error:
        _end(str(error))
    _tell(found, as_json)
    if any(one.differences for one in found):
        raise typer.Exit(EXIT_DIFFERENT)


def _records(
    settings: Settings, house: Any, decision: str, all_of: Path | None, last: int
) -> list[DecisionRecord]:
    if all_of is not None:
        return read_decisions(all_of)
    records: list[DecisionRecord] = asyncio.run(house.read_decisions_topic(settings))
    if last:
        return records[-last:]
    found = [record for record in records if record.decision_id == decision]
    if not found:
        _end(f"recompute: {decision} is not among the {len(records)} decisions of the topic")
    return found


def _tell(found: list[Recomputed], as_json: bool) -> None:
    if as_json:
        for one in found:
            typer.echo(json.dumps(asdict(one)))
        return
    unlike = [one for one in found if one.differences]
    for one in unlike[:SHOWN]:
        typer.echo(f"{one.decision_id} differs:")
        for difference in one.differences:
            typer.echo(f"  {difference}")
    if len(unlike) > SHOWN:
        typer.echo(f"{len(unlike) - SHOWN} more differ")
    partly = [one for one in found if one.unknown]
    reasons = sorted({why for one in partly for why in one.unknown})
    for why in reasons[:SHOWN]:
        count = sum(why in one.unknown for one in partly)
        typer.echo(f"not made again for {count}: {why}")
    equal = sum(not one.differences and not one.unknown for one in found)
    bits = sum(one.exact and not one.differences and not one.unknown for one in found)
    typer.echo(
        f"{len(found)} decisions: {equal} are what follows from the log ({bits} bit for bit), "
        f"{len(unlike)} differ, {len(partly)} could not be made again whole"
    )


def _progress(done: int) -> None:
    if done % 1_000 == 0:
        typer.echo(f"{done:,} made again", err=True)


def _end(message: str) -> NoReturn:
    typer.echo(f"riskbeat: {message}", err=True)
    raise typer.Exit(EXIT_USER_ERROR)

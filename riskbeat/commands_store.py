"""`riskbeat store list | retire`: which feature specs the store holds, and the end of one."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from features.spec import Spec, SpecError
from features.store import StoreError
from models.registry import RegistryUnavailable
from pipeline.topics_kafka import TopicsUnavailable
from riskbeat.settings import Settings
from riskbeat.settings_load import load_settings
from riskbeat.specs import Listed, list_specs, retire_spec

EXIT_USER_ERROR = 2
SHOWN_CHARACTERS = 12
WIDE = 200

store = typer.Typer(
    help="Which feature specs the store holds, and the end of one.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(store, name="store")


@store.command("list")
def list_store(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those of which only the number is left.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON each.")] = False,
) -> None:
    """List the epochs of the store: whose features they hold, how many, and who uses them."""
    settings = load_settings()
    try:
        found = asyncio.run(list_specs(settings, gone=everything))
    except (StoreError, RegistryUnavailable) as error:
        _end(error)
    ours = _our_digest(settings)
    if as_json:
        for one in found:
            typer.echo(json.dumps(_row_of(one, ours)))
        return
    if not found:
        typer.echo("the store is empty")
        return
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    console.print(_table(found, ours))


@store.command()
def retire(
    digest: Annotated[str, typer.Argument(help="The spec's digest, or its first characters.")],
    force: Annotated[
        bool, typer.Option("--force", help="Even if it is in use, or the only one.")
    ] = False,
) -> None:
    """Delete what is kept for a spec that is no longer used: features, updates topics, weights.

    Stop its scorers, learner and featurize workers first. Decisions and labels stay.
    """
    try:
        done = asyncio.run(retire_spec(load_settings(), digest, force=force))
    except (StoreError, RegistryUnavailable, TopicsUnavailable) as error:
        _end(error)
    epochs = ", ".join(map(str, done.epochs))
    typer.echo(
        f"spec {done.digest[:SHOWN_CHARACTERS]} retired: {done.keys:,} keys of epoch {epochs}"
    )
    for topic in done.topics:
        typer.echo(f"topic {topic} deleted")


def _end(error: Exception) -> NoReturn:
    typer.echo(f"riskbeat: {error}", err=True)
    raise typer.Exit(EXIT_USER_ERROR)


def _our_digest(settings: Settings) -> str:
    """Return the digest of the spec that the settings name; empty if it cannot be read."""
    with contextlib.suppress(SpecError):
        return Spec.load(settings.spec_path).digest
    return ""


def _row_of(one: Listed, ours: str) -> dict[str, object]:
    info, pointer = one.info, one.info.pointer
    return {
        "spec": pointer.digest,
        "ours": pointer.digest == ours,
        "epoch": pointer.epoch,
        "state": info.state,
        "written_s_ago": round(info.idle_s, 1) if info.written_at_s else None,
        "keys": one.size.keys,
        "estimated_bytes": one.size.estimated_bytes,
        "partitions": pointer.partitions,
        "updates_topic": pointer.updates_topic,
        "scorers": list(one.scorers),
    }


def _table(found: Sequence[Listed], ours: str) -> Table:
    table = Table(caption="* the spec that RISKBEAT_SPEC_PATH names", caption_justify="left")
    for name in ("spec", "epoch", "state", "written", "keys", "bytes", "updates topic", "scorers"):
        table.add_column(name, justify="right" if name in ("epoch", "keys", "bytes") else "left")
    for one in found:
        row = _row_of(one, ours)
        mark = " *" if row["ours"] else ""
        ago = row["written_s_ago"]
        table.add_row(
            one.info.pointer.digest[:SHOWN_CHARACTERS] + mark,
            str(row["epoch"]),
            one.info.state,
            "never" if ago is None else f"{ago:,.0f} s ago",
            f"{one.size.keys:,}",
            f"~{one.size.estimated_bytes:,}",
            one.info.pointer.updates_topic,
            ", ".join(one.scorers) or "none",
        )
    return table

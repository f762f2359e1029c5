"""`riskbeat generate` and `riskbeat replay`: a log to show riskbeat on, and a log as a stream.

What a command needs is imported when it runs (`riskbeat.data`).
"""

import importlib
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from features.spec_yaml import read_duration_ms
from riskbeat.replay_request import TOPIC_SCHEME, ReplayRequest
from riskbeat.settings_load import load_settings

EXIT_USER_ERROR = 2
DAY_MS = 86_400_000
START = datetime(2025, 3, 3)  # noqa: DTZ001 (typer's dates have no zone; UTC is added)


class Via(StrEnum):
    """How a replay reaches the system."""

    KAFKA = "kafka"
    HTTP = "http"


def register(app: typer.Typer) -> None:
    """Add the data commands to the command line."""
    app.command(name="generate")(generate_log)
    app.command(name="replay")(replay_log)


def generate_log(
    path: Annotated[Path, typer.Argument(help="Ends in .parquet, .csv, .csv.gz or .jsonl.")],
    events: Annotated[int, typer.Option(min=1, help="How many payments.")] = 200_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same log.")] = 1,
    days: Annotated[float, typer.Option(help="Length of the span.")] = 30.0,
    start: Annotated[datetime, typer.Option(help="First day (UTC).")] = START,
    fraud_rate: Annotated[float, typer.Option(help="Share of payments that are fraud.")] = 0.011,
    customers: Annotated[int, typer.Option(help="0: each pays 0.9 times a day.")] = 0,
    merchants: Annotated[int, typer.Option(help="0: one for five customers.")] = 0,
    label_delay_scale: Annotated[float, typer.Option(help="Multiplies label delays.")] = 1.0,
    drift: Annotated[bool, typer.Option(help="Honest behaviour drifts in the second half.")] = True,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Write a log of payments, with frauds that come and go and labels that come late."""
    options = dict(
        seed=seed,
        events=events,
        start=start.replace(tzinfo=UTC),
        days=days,
        customers=customers,
        merchants=merchants,
        fraud_rate=fraud_rate,
        label_delay_scale=label_delay_scale,
        drift=drift,
    )
    sys.exit(_house().generate_shown(path, options, progress))


def replay_log(
    source: Annotated[
        str, typer.Argument(help="A log (.parquet, .csv, .csv.gz, .jsonl), or kafka:TOPIC[,TOPIC].")
    ],
    mapping: Annotated[
        str, typer.Option(help="generator, handbook, events (as they are), or a .yaml file.")
    ] = "events",
    speed: Annotated[
        float | None, typer.Option(min=1e-6, help="Times as fast as it happened; else flat out.")
    ] = None,
    barrier: Annotated[
        str | None, typer.Option(help="Slices of event time, as in 6h, to be caught up with.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Stop before this time (UTC).")] = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="Stop so many days after the first event.")
    ] = None,
    via: Annotated[
        Via, typer.Option(help="To the topics, or to a scorer's HTTP door.")
    ] = Via.KAFKA,
    url: Annotated[str | None, typer.Option(help="The scorer's address, with --via http.")] = None,
    tail: Annotated[
        bool, typer.Option(help="Also send labels that come after the log's last event.")
    ] = True,
    resume: Annotated[bool, typer.Option(help="Keep progress, and go on from it.")] = True,
    restart: Annotated[bool, typer.Option(help="Forget the progress; send all again.")] = False,
    progress_file: Annotated[Path | None, typer.Option(help="Where progress is kept.")] = None,
    report: Annotated[Path | None, typer.Option(help="Where bad rows are written down.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Send a log again: events when they happened, labels when they became known."""
    alone = via is Via.HTTP and barrier is None and not source.startswith(TOPIC_SCHEME)
    settings = load_settings(servers=not alone)
    try:
        request = ReplayRequest(
            source=source,
            mapping=mapping,
            speed=speed,
            barrier_ms=read_duration_ms(barrier) if barrier is not None else None,
            limit_events=limit,
            until_ms=_ms_of(until),
            span_ms=round(days * DAY_MS) if days is not None else None,
            http_url=(url or f"http://{settings.http_host}:{settings.http_port}")
            if via is Via.HTTP
            else None,
            tail=tail,
            resume=resume,
            restart=restart,
            progress_file=progress_file,
            report=report,
        )
    except ValueError as error:
        typer.echo(f"riskbeat: --barrier: {error}", err=True)
        sys.exit(EXIT_USER_ERROR)
    sys.exit(_house().replay_shown(settings, request, progress))


def _house() -> Any:
    return importlib.import_module("riskbeat.data")


def _ms_of(instant: datetime | None) -> int | None:
    return round(instant.replace(tzinfo=UTC).timestamp() * 1000) if instant is not None else None

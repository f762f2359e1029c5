"""`riskbeat backfill` and `riskbeat skew`: vectors of a log, and vectors held against a log.

What a command needs is imported when it runs (`riskbeat.backfill`, `riskbeat.skew`).
"""

import importlib
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from features.spec_yaml import read_duration_ms
from riskbeat.offline_request import BackfillRequest, SkewRequest
from riskbeat.settings_load import load_settings

EXIT_USER_ERROR = 2
FOREVER_MS = 2**62


class Order(StrEnum):
    """In which order a log is taken."""

    TIME = "time"
    ARRIVAL = "arrival"


def register(app: typer.Typer) -> None:
    """Add the offline commands to the command line."""
    app.command(name="backfill")(backfill_log)
    app.command(name="skew")(compare_vectors)


def backfill_log(
    source: Annotated[
        str, typer.Argument(help="A log (.parquet, .csv, .csv.gz, .jsonl), or kafka:TOPIC[,TOPIC].")
    ],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    mapping: Annotated[
        str, typer.Option(help="generator, handbook, events (as they are), or a .yaml file.")
    ] = "events",
    spec: Annotated[
        Path | None, typer.Option(help="The features' declaration; else RISKBEAT_SPEC_PATH.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Processes; 0: one for each core.")
    ] = 0,
    order: Annotated[
        Order, typer.Option(help="By event time, as replay sends it, or as the log's lines stand.")
    ] = Order.TIME,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Write from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Write up to this time (UTC).")] = None,
    legit_after: Annotated[
        str | None,
        typer.Option(
            help="Silence that means legit, as in 7d; 0s: never. Else the learner's setting."
        ),
    ] = None,
    temporary: Annotated[Path | None, typer.Option(help="Where temporary files go.")] = None,
    report: Annotated[Path | None, typer.Option(help="Where bad rows are written down.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Write the vector of each event of a log, as it would have been scored then."""
    from_topics = source.startswith("kafka:")
    settings = load_settings(servers=from_topics)
    legit_after_ms = round(settings.legit_after_s * 1000)
    if legit_after is not None:
        try:
            legit_after_ms = 0 if legit_after in ("0", "0s") else read_duration_ms(legit_after)
        except ValueError as error:
            _refuse(f"--legit-after: {error}")
    if out.suffix != ".parquet":
        _refuse(f"--out: {out}: expected a name that ends in .parquet")
    request = BackfillRequest(
        source=source,
        mapping=mapping,
        out=out,
        workers=workers or len(os.sched_getaffinity(0)),
        spec_path=spec or settings.spec_path,
        updates_partitions=settings.updates_partitions,
        legit_after_ms=legit_after_ms,
        data_dir=settings.data_dir,
        by_arrival=order is Order.ARRIVAL,
        limit_events=limit,
        since_ms=_ms_of(since, 0),
        until_ms=_ms_of(until, FOREVER_MS),
        temporary=temporary,
        report=report,
    )
    house: Any = importlib.import_module("riskbeat.backfill")
    sys.exit(house.backfill_shown(request, settings.kafka_options, progress))


def compare_vectors(
    decisions: Annotated[
        Path | None,
        typer.Option(help="Decision records (.jsonl, .parquet); else the decisions topic."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="Events and label updates with their places (.parquet, .jsonl), as "
            "--save writes them; else the topics."
        ),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="The features' declaration; else RISKBEAT_SPEC_PATH.")
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="Decided from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Decided up to this time (UTC).")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Keep what the topics held in this folder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the report: .png or .svg (extra `plot`).")
    ] = None,
) -> None:
    """Hold scored vectors against the log: made as named, and how far from the freshest.

    Exit code 1 when a vector cannot be made again bit for bit from what its decision names.
    """
    settings = load_settings(servers=decisions is None or log is None)
    request = SkewRequest(
        spec_path=spec or settings.spec_path,
        updates_partitions=settings.updates_partitions,
        decisions=decisions,
        log=log,
        since_ms=_ms_of(since, 0),
        until_ms=_ms_of(until, FOREVER_MS),
        save=save,
        out=out,
        plot=plot,
    )
    house: Any = importlib.import_module("riskbeat.skew")
    sys.exit(house.skew_shown(settings, request))


def _ms_of(instant: datetime | None, default_ms: int) -> int:
    if instant is None:
        return default_ms
    return round(instant.replace(tzinfo=UTC).timestamp() * 1000)


def _refuse(words: str) -> None:
    typer.echo(f"riskbeat: {words}", err=True)
    sys.exit(EXIT_USER_ERROR)

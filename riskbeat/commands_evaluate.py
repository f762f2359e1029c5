"""`riskbeat evaluate`: how well predictions came true, as a table, JSON and an HTML report.

What the command needs is imported when it runs (`riskbeat.evaluate`).
"""

import importlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from features.spec_yaml import read_duration_ms
from riskbeat.offline_request import EvaluateRequest
from riskbeat.settings_load import load_settings

EXIT_USER_ERROR = 2
FOREVER_MS = 2**62
REPORT = Path("evaluation.html")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="evaluate")(evaluate_predictions)


def evaluate_predictions(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Parquet files of judged predictions; else those of the learner."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The learner's data; else RISKBEAT_DATA_DIR.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option("--from", help="Events from this time on (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", help="Events before this time (UTC).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help=f"The report to write (.html); else {REPORT}.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; a report only with --out.")
    ] = False,
    topics: Annotated[
        bool,
        typer.Option("--topics", help="Judge the decisions topic anew, by the labels topic."),
    ] = False,
    mature_after: Annotated[
        str | None,
        typer.Option(help="With --topics: event time until the truth is known; else 7d, as set."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Whose bounds are shown; else RISKBEAT_POLICY_PATH.")
    ] = None,
    false_alarm_cost: Annotated[
        float | None, typer.Option(min=0, help="Minor units; else RISKBEAT_COST_FALSE_ALARM.")
    ] = None,
    review_cost: Annotated[
        float | None, typer.Option(min=0, help="Minor units; else RISKBEAT_COST_REVIEW.")
    ] = None,
) -> None:
    """Say how well predictions came true: figures, curves over time, costs, challengers.

    Each prediction was made when its event was decided, and is judged when its truth is known.
    """
    settings = load_settings(servers=topics)
    mature_ms = round(settings.legit_after_s * 1000)
    try:
        mature_ms = read_duration_ms(mature_after) if mature_after is not None else mature_ms
    except ValueError as error:
        _refuse(f"--mature-after: {error}")
    if topics and files:
        _refuse("--topics: expected no files beside it")
    if topics and not mature_ms:
        _refuse("--mature-after: needed with --topics, since RISKBEAT_LEGIT_AFTER_S is 0")
    request = EvaluateRequest(
        files=tuple(files or ()),
        topics=topics,
        mature_ms=mature_ms,
        data_dir=data_dir or settings.data_dir,
        since_ms=_ms_of(since, 0),
        until_ms=_ms_of(until, FOREVER_MS),
        out=out if as_json else out or REPORT,
        as_json=as_json,
        policy=policy or (settings.policy_path if settings.policy_path.exists() else None),
        false_alarm=settings.cost_false_alarm if false_alarm_cost is None else false_alarm_cost,
        review=settings.cost_review if review_cost is None else review_cost,
    )
    house: Any = importlib.import_module("riskbeat.evaluate")
    sys.exit(house.evaluate_shown(settings, request))


def _refuse(words: str) -> None:
    typer.echo(f"riskbeat: {words}", err=True)
    sys.exit(EXIT_USER_ERROR)


def _ms_of(instant: datetime | None, default_ms: int) -> int:
    if instant is None:
        return default_ms
    return round(instant.replace(tzinfo=UTC).timestamp() * 1000)

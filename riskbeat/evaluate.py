"""a request → judged rows read, worked out, and shown: a table, JSON, an HTML report."""

import asyncio
import importlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from features.event import EventRejected
from features.spec import Spec
from models.cost import Costs
from models.policy import load_policy
from pipeline.decided import PlacedLabel, parse_decided, parse_placed_label
from pipeline.evaluation import Evaluation
from pipeline.join import JoinRow, place_of
from pipeline.judged import Mark
from pipeline.judged_columns import CHAMPION, DAY_MS
from pipeline.judged_log import judge_log
from pipeline.judged_parquet import ROWS_FOLDER, JudgedUnreadable, read_marks, read_rows
from pipeline.judged_report import evaluate
from pipeline.records_kafka import read_topics
from pipeline.replay_source import LogUnreadable
from riskbeat.judging import evaluation_folder
from riskbeat.offline_request import EvaluateRequest
from riskbeat.report_html import page_of
from riskbeat.settings import Settings

EXIT_USER_ERROR: Final = 2
SHOWN: Final = (
    ("average_precision", "AP", 3),
    ("roc_auc", "AUC", 3),
    ("card_precision_at_100", "CP@100", 3),
    ("recall_at_half_percent_fpr", "R@0.5%", 3),
    ("value_detection_at_half_percent", "value", 3),
    ("brier", "Brier", 5),
    ("lowest_cost_threshold", "best from", 4),
)


class NothingJudged(ValueError):
    """There are no judged predictions, or none of that time."""


class ReportMissing(ValueError):
    """The report cannot be drawn here, or not under that name."""


def evaluate_shown(settings: Settings, request: EvaluateRequest) -> int:
    """Evaluate and show; return the exit code: 0 done, 2 cannot be.

    Raises:
        PolicyError: The policy cannot be read.
        SpecError: The feature spec cannot, which the topics are read by.
    """
    try:
        draw = _drawer(request.out) if request.out is not None else None
        frame, marks, source = _read(settings, request)
        policy = load_policy(request.policy) if request.policy is not None else None
        costs = Costs(request.false_alarm, request.review)
        evaluation = evaluate(frame, marks, costs, policy)
        if draw is not None and request.out is not None:
            request.out.write_text(page_of(evaluation, draw(evaluation), source))
    except (JudgedUnreadable, LogUnreadable, NothingJudged, ReportMissing, OSError) as error:
        typer.echo(f"riskbeat: {error}", err=True)
        return EXIT_USER_ERROR
    if request.as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(evaluation)).decode())
    else:
        _tell(evaluation)
    if request.out is not None:
        typer.echo(f"report: {request.out}", err=request.as_json)
    return 0


def _read(settings: Settings, request: EvaluateRequest) -> tuple[pl.DataFrame, list[Mark], str]:
    """Return rows, marks, and where they came from.

    Raises:
        NothingJudged: There are none.
    """
    marks: list[Mark] = []
    if request.topics:
        frame, source = _judge_topics(settings, request.mature_ms)
    else:
        frame, marks, source = _read_files(request)
    at_ms = pl.col("event_time").dt.timestamp("ms")
    chosen = frame.filter((at_ms >= request.since_ms) & (at_ms < request.until_ms))
    if not len(chosen):
        [first, last] = frame.select(at_ms.min(), at_ms.max().alias("last")).row(0)
        raise NothingJudged(
            f"no judged predictions on events of that time: there are some from {_text(first)} "
            f"to {_text(last)}"
        )
    return chosen, marks, source


def _judge_topics(settings: Settings, mature_ms: int) -> tuple[pl.DataFrame, str]:
    spec = Spec.load(settings.spec_path)
    names = settings.topics
    records = asyncio.run(read_topics(settings.kafka_options(), [names.decisions, names.labels]))
    decisions: list[JoinRow] = []
    labels: list[PlacedLabel] = []
    rejects = 0
    rules, currencies = spec.event_rules, spec.currencies
    for record in records:
        place = place_of(record.partition, record.offset)
        try:
            if record.topic == names.labels:
                labels.append(parse_placed_label(record.value, place, rules, record.timestamp_ms))
            else:
                digest, size = spec.digest, spec.n_features
                row = parse_decided(record.value, place, digest, size, rules, currencies)
                decisions.append(row)
        except EventRejected:
            rejects += 1
    frame = judge_log(decisions, labels, mature_ms)
    days = f"{mature_ms / DAY_MS:g} d"
    if not len(frame):
        raise NothingJudged(
            f"{names.decisions}: none of {len(decisions):,} decisions can be judged: none was "
            f"scored for this feature spec, or none is {days} older than the newest one "
            "(--mature-after)"
        )
    unread = f" {rejects:,} records could not be read." if rejects else ""
    return frame, f"From {names.decisions} and {names.labels}, known after {days}.{unread}"


def _read_files(request: EvaluateRequest) -> tuple[pl.DataFrame, list[Mark], str]:
    folder = evaluation_folder(request.data_dir)
    if request.files:
        absent = [path for path in request.files if not path.is_file()]
        if absent:
            raise NothingJudged(f"{absent[0]}: no such file")
        paths = list(request.files)
        marks: list[Mark] = []
        source = "From " + ", ".join(path.name for path in paths) + "."
    else:
        paths = sorted((folder / ROWS_FOLDER).glob("day=*/*.parquet"))
        if not paths:
            raise NothingJudged(
                f"{folder}: no judged predictions yet: a prediction is judged once its event's "
                "truth is known, at the latest RISKBEAT_LEGIT_AFTER_S of event time later (is "
                "`riskbeat learn` running with this data directory?)"
            )
        marks, source = read_marks(folder), ""
    frame = read_rows(paths)
    if not len(frame):
        raise NothingJudged(f"{paths[0]}: holds no judged predictions")
    return frame, marks, source


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _drawer(out: Path) -> Callable[[Evaluation], dict[str, str]]:
    if out.suffix != ".html":
        raise ReportMissing(f"--out: {out}: expected a name that ends in .html")
    if not out.absolute().parent.is_dir():
        raise ReportMissing(f"--out: {out}: no such folder")
    try:
        house: Any = importlib.import_module("riskbeat.report_matplotlib")
    except ModuleNotFoundError as error:
        raise ReportMissing(
            f"the report needs {error.name}: install the extra, as in pip install "
            "'riskbeat[plot]', or ask for --json"
        ) from error
    draw: Callable[[Evaluation], dict[str, str]] = house.draw_all
    return draw


def _tell(evaluation: Evaluation) -> None:
    counts = evaluation.counts
    typer.echo(
        f"{counts.judged:,} predictions judged ({counts.frauds:,} frauds), events of "
        f"{counts.first_event:%Y-%m-%d} to {counts.last_event:%Y-%m-%d}, "
        f"versions {counts.versions[0]} to {counts.versions[1]}"
    )
    if counts.passed_through:
        typer.echo(
            f"{counts.passed_through:,} were let through by chance; "
            f"{counts.passed_through_frauds:,} of them were fraud"
        )
    table = Table("predictor", *(head for _, head, _ in SHOWN), box=box.SIMPLE_HEAD, padding=0)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for one in evaluation.predictors:
        figures = one.figures
        cells = [
            f"{figures[name]:.{digits}f}" if name in figures else "-" for name, _, digits in SHOWN
        ]
        style = "bold" if one.name == CHAMPION else ""
        table.add_row(one.name, *cells, style=style)
    console = Console()
    console.print(table, soft_wrap=not console.is_terminal)

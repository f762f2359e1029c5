"""a request → decisions and log read, compared, and shown: a summary, a table, a file, a plot."""

import asyncio
import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from features.spec import Spec
from models.decision import DecisionRecord
from models.decision_codec import decode_record
from pipeline.records_kafka import read_topics
from pipeline.replay_source import LogUnreadable
from pipeline.skew import FeatureSkew, SkewReport, compare
from pipeline.skew_index import index_log
from pipeline.skew_log import Placed, read_decisions, read_log, write_decisions, write_log
from riskbeat.offline_request import SkewRequest
from riskbeat.settings import Settings

EXIT_DEFECT: Final = 1
EXIT_USER_ERROR: Final = 2
FEATURES_SHOWN: Final = 20
SHARES: Final = (0.5, 0.9, 0.99, 1.0)


class PlotMissing(ValueError):
    """The plot was asked for, and its library is not installed."""


def skew_shown(settings: Settings, request: SkewRequest) -> int:
    """Compare; return the exit code: 0 as it should be, 1 a vector is not, 2 cannot be."""
    try:
        draw = _drawer(request.plot) if request.plot is not None else None
        spec = Spec.load(request.spec_path)
        decisions = _decisions(settings, request)  # before the log, which then holds their states
        index = index_log(spec, request.updates_partitions, _log(settings, request))
        report = compare(spec, index, request.updates_partitions, decisions)
        _tell(report)
        if request.out is not None:
            request.out.write_bytes(msgspec.json.format(msgspec.json.encode(document_of(report))))
        if draw is not None and request.plot is not None:
            draw(report, request.plot)
            typer.echo(f"drawn in {request.plot}")
    except (LogUnreadable, PlotMissing, OSError) as error:
        typer.echo(f"riskbeat: {error}", err=True)
        return EXIT_USER_ERROR
    return EXIT_DEFECT if report.defective else 0


def document_of(report: SkewReport) -> dict[str, object]:
    """Return a report as JSON has it."""
    return {
        "decisions": report.decisions,
        "compared": report.compared,
        "left_out": dict(report.left_out),
        "defective": report.defective,
        "defects": list(report.defects),
        "stale": report.stale,
        "staleness_ms": {
            "known": len(report.staleness_ms),
            **{f"p{100 * share:g}": report.staleness_at(share) for share in SHARES},
        },
        "remade": [asdict(feature) for feature in report.remade],
        "fresh": [asdict(feature) for feature in report.fresh],
    }


def _decisions(settings: Settings, request: SkewRequest) -> list[DecisionRecord]:
    if request.decisions is not None:
        found = read_decisions(request.decisions)
    else:
        topic = settings.topics.decisions
        bodies = [r.value for r in asyncio.run(read_topics(settings.kafka_options(), [topic]))]
        if request.save is not None:
            request.save.mkdir(parents=True, exist_ok=True)
            write_decisions(request.save / "decisions.parquet", bodies)
        found = [decode_record(body) for body in bodies]
    return [r for r in found if request.since_ms <= r.decided_at_ms < request.until_ms]


def _log(settings: Settings, request: SkewRequest) -> list[Placed]:
    if request.log is not None:
        return read_log(request.log)
    topics = settings.topics
    wanted = [topics.events, topics.label_updates]
    read = asyncio.run(read_topics(settings.kafka_options(), wanted, topics.events))
    placed = [
        Placed("events" if record.topic == topics.events else "label_updates", *record[1:])
        for record in read
    ]
    if request.save is not None:
        request.save.mkdir(parents=True, exist_ok=True)
        write_log(request.save / "log.parquet", placed)
    return placed


def _drawer(plot: Path) -> Callable[[SkewReport, Path], None]:
    if plot.suffix not in (".png", ".svg"):
        raise PlotMissing(f"--plot: {plot}: expected a name that ends in .png or .svg")
    try:
        house: Any = importlib.import_module("riskbeat.plot_matplotlib")
    except ModuleNotFoundError as error:
        raise PlotMissing(
            f"--plot needs {error.name}: install the extra, as in pip install 'riskbeat[plot]'"
        ) from error
    draw: Callable[[SkewReport, Path], None] = house.draw_skew
    return draw


def _tell(report: SkewReport) -> None:
    typer.echo(f"{report.decisions:,} decisions, {report.compared:,} compared")
    for reason, count in report.left_out.items():
        typer.echo(f"  {count:,} left out: {reason}")
    if not report.compared:
        return
    if report.defective:
        typer.echo(
            f"DEFECT: {report.defective:,} vectors are not what the log gives at the watermarks"
            f" that their decisions name; the first: {', '.join(report.defects)}"
        )
        _show("logged against made again", report.remade, report.compared)
    else:
        typer.echo("Every vector is bit for bit what the log gives at the watermarks it names.")
    told = ", ".join(f"p{100 * s:g} {report.staleness_at(s):,.0f} ms" for s in SHARES[:-1])
    known = len(report.staleness_ms)
    if known:
        typer.echo(f"staleness of {known:,} answers: {told}, max {report.staleness_ms[-1]:,} ms")
    typer.echo(
        f"{report.stale:,} vectors ({report.stale / report.compared:.1%}) differ from those of a"
        " perfectly fresh store"
    )
    if report.stale:
        _show("logged against a perfectly fresh store", report.fresh, report.compared)


def _show(title: str, skews: Sequence[FeatureSkew], compared: int) -> None:
    unlike = sorted((s for s in skews if s.unequal), key=lambda s: (-s.unequal, s.name))
    table = Table(
        *("feature", "differs", "share", "largest", "mean", "one missing"),
        title=f"{title} ({compared:,} vectors)",
        title_justify="left",
    )
    table.columns[0].overflow = "fold"  # a name that is cut defines nothing
    for column in table.columns[1:]:
        column.justify = "right"
    for skew in unlike[:FEATURES_SHOWN]:
        table.add_row(
            skew.name,
            f"{skew.unequal:,}",
            f"{skew.share:.2%}",
            f"{skew.largest:.6g}",
            f"{skew.mean:.4g}",
            f"{skew.missing:,}",
        )
    Console().print(table)
    rest = len(unlike) - FEATURES_SHOWN
    same = len(skews) - len(unlike)
    more = f"{rest} more features differ less often; " if rest > 0 else ""
    typer.echo(f"{more}{same} features never differ")

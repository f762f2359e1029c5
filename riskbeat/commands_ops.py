"""`riskbeat prepare` and its parts: what is done once, before the processes start."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from api import overlay, placing
from features.read import warm_up_reads
from features.spec import Spec
from features.window import warm_up
from models import walk
from pipeline import dedup
from pipeline.pieces import PIECE_BYTES
from pipeline.topics_kafka import TopicPlan, ensure_topics
from riskbeat.commands_keys import make_signing_keys
from riskbeat.dashboards import write_dashboards
from riskbeat.documented_metrics import PROCESSES, documented, metrics_page
from riskbeat.logs import configure_logs
from riskbeat.settings import Settings
from riskbeat.settings_load import load_settings, settings_page, settings_rows

WEIGHTS_MAX_MESSAGE_BYTES = PIECE_BYTES + 64 * 1024  # the record around the bytes


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(prepare)
    app.command()(topics)
    app.command()(warm)
    app.command("settings")(show_settings)
    app.command("metrics")(show_metrics)
    app.command()(dashboards)


def prepare() -> None:
    """Make topics and keys where there are none, and compile the kernels: all that comes first."""
    topics()
    make_signing_keys()
    warm()


def topics() -> None:
    """Make the topics that are absent, and check the partitions of all."""
    settings = load_settings()
    configure_logs(settings, "topics")
    plans = [*plan_topics(settings), plan_weights(settings, Spec.load(settings.spec_path))]
    asyncio.run(
        ensure_topics(settings.kafka_options(), plans, replication=settings.topic_replication)
    )
    for plan in plans:
        typer.echo(f"{plan.name}: {plan.partitions} partitions")


def warm(
    spec_path: Annotated[Path | None, typer.Option("--spec", help="The feature spec.")] = None,
) -> None:
    """Compile the window kernels into numba's cache, so that no process has to at its start."""
    spec = Spec.load(spec_path or load_settings().spec_path)
    started = time.monotonic()
    warm_up(spec)
    warm_up_reads(spec)
    dedup.warm_up()
    walk.warm_up()
    overlay.warm_up(spec)
    placing.warm_up()
    typer.echo(f"kernels compiled or loaded in {time.monotonic() - started:.1f} s")


def show_settings(
    markdown: Annotated[bool, typer.Option(help="As the page docs/settings.md.")] = False,
) -> None:
    """List every setting with its default and meaning; values are not shown."""
    if markdown:
        typer.echo(settings_page(), nl=False)
        return
    console = Console()
    for title, rows in settings_rows():
        table = Table("key", "default", "meaning", title=title, title_justify="left")
        for row in rows:
            table.add_row(*(cell.replace("`", "").replace("**", "") for cell in row))
        console.print(table)


def show_metrics(
    markdown: Annotated[bool, typer.Option(help="As the page docs/metrics.md.")] = False,
) -> None:
    """List every metric of every process with its type, labels and meaning."""
    if markdown:
        typer.echo(metrics_page(), nl=False)
        return
    console = Console()
    for process in PROCESSES:
        table = Table("name", "type", "labels", "meaning", title=process, title_justify="left")
        for metric in documented(process):
            table.add_row(metric.name, metric.kind, ", ".join(metric.labels), metric.meaning)
        console.print(table)


def dashboards(
    out: Annotated[Path, typer.Option(help="Folder of the files.")] = Path(
        "deploy/grafana/dashboards"
    ),
) -> None:
    """Write the Grafana dashboards: the path for who is on call, and one for the fraud analyst."""
    for path in write_dashboards(out):
        typer.echo(str(path))


def plan_topics(settings: Settings) -> list[TopicPlan]:
    """Return the topics that a deployment has whatever its feature spec, as the settings want."""
    names = settings.topics
    events_ms = round(settings.events_retention_s * 1000)
    horizon_ms = round(max(settings.label_horizon_s, settings.events_retention_s) * 1000)
    updates_ms = round(settings.updates_retention_s * 1000)
    dead_ms = round(settings.dead_retention_s * 1000)
    return [
        TopicPlan(names.events, settings.events_partitions, events_ms),
        TopicPlan(names.label_updates, settings.labels_partitions, events_ms),
        TopicPlan(names.updates, settings.updates_partitions, updates_ms),
        TopicPlan(names.decisions, settings.decisions_partitions, horizon_ms),
        TopicPlan(names.labels, settings.labels_partitions, horizon_ms),
        TopicPlan(names.dead, 1, dead_ms),
        TopicPlan(names.audit, 1, round(settings.audit_retention_s * 1000)),
    ]


def plan_weights(settings: Settings, spec: Spec) -> TopicPlan:
    """Return the topic of the versions that are learned for a feature spec."""
    weights_ms = round(settings.weights_retention_s * 1000)
    name = settings.topics.weights(spec.digest)
    return TopicPlan(name, 1, weights_ms, WEIGHTS_MAX_MESSAGE_BYTES)

"""generate and replay as they are seen: a bar with rate and time left, one line at the end."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.generate import BadGenerateConfig, GenerateConfig, generate
from pipeline.generate_write import write_log
from pipeline.replay_barrier import BarrierTimeout
from pipeline.replay_ports import TargetFailed, Told
from pipeline.replay_progress import ReplayRefused
from pipeline.replay_source import LogUnreadable
from pipeline.topics_kafka import TopicMismatch, TopicsUnavailable
from riskbeat.replay import run_replay
from riskbeat.replay_request import ReplayRequest
from riskbeat.settings import Settings

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
USER_ERRORS = (LogUnreadable, ReplayRefused, TopicMismatch)
WORLD_ERRORS = (TargetFailed, BarrierTimeout, TopicsUnavailable)


def generate_shown(path: Path, options: Mapping[str, Any], shown: bool) -> int:
    """Write a log; return the exit code.

    Args:
        path: Its name's end chooses the format.
        options: Fields of `GenerateConfig`.
        shown: Whether to draw the bar.
    """
    try:
        config = GenerateConfig(**options)
        with bar_of(shown) as bar:
            task = bar.add_task("generating", total=config.events, told="")

            def show(rows: int) -> None:
                elapsed_s = bar.tasks[0].elapsed or 1e-9
                bar.update(task, completed=rows, told=f"{rows / elapsed_s:,.0f} events/s")

            rows = write_log(path, generate(config), show)
    except (BadGenerateConfig, OSError) as error:
        return _fail(str(error), EXIT_USER_ERROR)
    typer.echo(f"{path}: {rows:,} events, {path.stat().st_size:,} bytes")
    return 0


def replay_shown(settings: Settings, request: ReplayRequest, shown: bool) -> int:
    """Replay a log; return the exit code: 0 all sent, 1 try again, 2 cannot be, 130 interrupted."""
    with bar_of(shown) as bar:
        task = bar.add_task("reading", total=1.0, told="")

        def show(told: Told) -> None:
            bar.update(
                task,
                completed=told.fraction,
                description="catching up" if told.waiting else "replaying",
                told=_words(told),
            )

        try:
            outcome = asyncio.run(run_replay(settings, request, show))
        except USER_ERRORS as error:
            return _fail(str(error), EXIT_USER_ERROR)
        except WORLD_ERRORS as error:
            return _fail(f"{error}\nRun the same command again to go on from there.", EXIT_FAILED)
        except (KeyboardInterrupt, asyncio.CancelledError):
            return _fail("interrupted; the same command goes on from there", EXIT_INTERRUPTED)
    typer.echo(_words(outcome.told))
    if outcome.told.bad_rows:
        typer.echo(f"bad rows are written down in {outcome.report}")
    if outcome.refused:
        typer.echo(f"{outcome.refused:,} items were refused by the service")
    return 0


def bar_of(shown: bool) -> Progress:
    """Return the one line in which a long command tells how far it is."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
        console=Console(stderr=True),
        disable=not shown,
    )


def _words(told: Told) -> str:
    words = [
        f"{told.events:,} events",
        f"{told.labels:,} labels",
        f"{told.items_per_s:,.0f}/s",
    ]
    if told.skipped:
        words.append(f"{told.skipped:,} sent before")
    if told.bad_rows:
        words.append(f"{told.bad_rows:,} bad rows")
    if told.event_time_ms:
        until = datetime.fromtimestamp(told.event_time_ms / 1000, UTC)
        words.append(f"up to {until:%Y-%m-%d %H:%M}")
    return ", ".join(words)


def _fail(words: str, code: int) -> int:
    typer.echo(f"riskbeat: {words}", err=True)
    return code

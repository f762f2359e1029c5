"""a request → a backfill with its log open and its workers started; as it is seen."""

import asyncio
import importlib.metadata
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
import xxhash

from features.event import EventRules
from features.spec import Spec
from pipeline.backfill import Backfill, BackfillLimits, InProcess, OnTold, buckets_for
from pipeline.backfill_job import BackfillJob
from pipeline.backfill_judge import Judged
from pipeline.backfill_order import as_written
from pipeline.mapping import LogMapping, find_mapping
from pipeline.mapping_events import EventMapping
from pipeline.mapping_rows import ColumnMapping
from pipeline.replay_order import in_order, look_at
from pipeline.replay_progress import BadRows
from pipeline.replay_rows import RowMapping
from pipeline.replay_source import LogUnreadable, open_log
from pipeline.spool_kafka import spool_topics
from riskbeat.data import bar_of
from riskbeat.offline_request import BackfillRequest
from riskbeat.replay_request import AS_THEY_ARE, TOPIC_SCHEME

WORKER_ROWS_MIN = 50_000  # for fewer it does not pay to start another process
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
KafkaOptions = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a backfill ended.

    Attributes:
        bad_rows: Rows that were left out.
        report: Where they are written down.
    """

    judged: Judged
    bad_rows: int
    report: Path


def run_backfill(
    request: BackfillRequest, kafka_options: KafkaOptions, on_told: OnTold | None = None
) -> Outcome:
    """Compute the vectors of a log, and write them.

    Raises:
        LogUnreadable: No such log.
        SpecError: The feature spec, the mapping, or the log's columns are not what they should be.
        OSError: A file cannot be written.
    """
    spec = Spec.load(request.spec_path)
    if not request.out.parent.is_dir():
        raise FileNotFoundError(f"{request.out}: no such folder: {request.out.parent}")
    now_ms = time.time_ns() // 1_000_000
    mapping = _mapping_of(request.mapping, spec.event_rules, now_ms)
    with TemporaryDirectory(prefix="riskbeat-backfill-", dir=request.temporary) as folder:
        path = Path(request.source)
        if request.source.startswith(TOPIC_SCHEME):
            path = Path(folder) / "topics.jsonl"
            topics = request.source.removeprefix(TOPIC_SCHEME).split(",")
            asyncio.run(spool_topics(kafka_options(), topics, path))
        log = open_log(path, raw=mapping.wants_raw)
        facts = look_at(log, mapping)
        rows = min(facts.rows, request.limit_events or facts.rows)
        workers = min(request.workers, 1 + rows // WORKER_ROWS_MIN)
        entity_buckets, join_buckets = buckets_for(rows, len(spec.entities), workers)
        job = BackfillJob(
            spec_path=request.spec_path,
            folder=Path(folder),
            now_ms=now_ms,
            updates_partitions=request.updates_partitions,
            entity_buckets=entity_buckets,
            join_buckets=join_buckets,
            legit_after_ms=request.legit_after_ms,
            since_ms=request.since_ms,
            until_ms=request.until_ms,
        )
        name = xxhash.xxh3_64_hexdigest(request.source.encode())
        report = request.report or request.data_dir / "backfill" / f"{name}-bad-rows.jsonl"
        pieces = as_written(log, mapping) if request.by_arrival else in_order(log, mapping, facts)
        limits = BackfillLimits(workers, request.limit_events)
        with BadRows(report, request.source) as bad_rows:
            pool = _pool(workers)
            try:
                judged = Backfill(job, pool, limits, bad_rows, on_told).run(
                    pieces, request.out, _metadata(spec, request)
                )
            finally:
                pool.shutdown(cancel_futures=True)
        return Outcome(judged, bad_rows.count, report)


def backfill_shown(request: BackfillRequest, kafka_options: KafkaOptions, shown: bool) -> int:
    """Compute and write vectors; return the exit code: 0 written, 1 try again, 2 cannot be."""
    began_s = time.monotonic()
    with bar_of(shown) as bar:
        task = bar.add_task("looking", total=1.0, told="")

        def show(step: str, fraction: float, judged: Judged) -> None:
            told = f"{judged.events:,} events, {judged.labels:,} labels"
            bar.update(task, completed=fraction, description=step, told=told)

        try:
            outcome = run_backfill(request, kafka_options, show)
        except (LogUnreadable, OSError) as error:
            return _fail(str(error), EXIT_USER_ERROR)
        except BrokenProcessPool:
            return _fail("a worker process died (was memory short?)", EXIT_FAILED)
        except KeyboardInterrupt:
            return _fail("interrupted; nothing was written", EXIT_INTERRUPTED)
    seconds = time.monotonic() - began_s
    typer.echo(f"{request.out}: {_words(outcome)}, {seconds:.1f} s")
    if outcome.bad_rows:
        typer.echo(f"bad rows are written down in {outcome.report}")
    return 0


def _mapping_of(name: str, rules: EventRules, now_ms: int) -> RowMapping:
    if name == AS_THEY_ARE:
        return EventMapping(rules, lambda: now_ms)
    return ColumnMapping(LogMapping.load(find_mapping(name)))


def _pool(workers: int) -> Executor:
    if workers == 1:
        return InProcess()
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _metadata(spec: Spec, request: BackfillRequest) -> dict[str, str]:
    return {
        "riskbeat.spec_digest": spec.digest,
        "riskbeat.code_version": importlib.metadata.version("riskbeat"),
        "riskbeat.source": request.source,
        "riskbeat.mapping": request.mapping,
        "riskbeat.order": "arrival" if request.by_arrival else "event time",
        "riskbeat.updates_partitions": str(request.updates_partitions),
        "riskbeat.legit_after_ms": str(request.legit_after_ms),
    }


def _words(outcome: Outcome) -> str:
    judged = outcome.judged
    words = [f"{judged.written:,} vectors of {judged.events:,} events"]
    for count, what in (
        (judged.labels, "labels"),
        (judged.late, "late (not counted)"),
        (judged.repeats, "repeats (left out)"),
        (judged.outside, "outside the span (counted, not written)"),
        (outcome.bad_rows, "bad rows"),
    ):
        if count:
            words.append(f"{count:,} {what}")
    return ", ".join(words)


def _fail(words: str, code: int) -> int:
    typer.echo(f"riskbeat: {words}", err=True)
    return code

"""settings and a request → a replay with its doors open: log, target, barrier, progress."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import xxhash

from features.spec import Spec
from models.registry_redis import RedisWeightsRegistry
from pipeline.log_view_kafka import KafkaLogView
from pipeline.mapping import LogMapping, find_mapping
from pipeline.mapping_events import EventMapping
from pipeline.mapping_rows import ColumnMapping
from pipeline.replay import Replay
from pipeline.replay_barrier import PathBarrier
from pipeline.replay_http import HttpTarget
from pipeline.replay_kafka import KafkaTarget
from pipeline.replay_order import in_order, look_at
from pipeline.replay_ports import OnTold, ReplayOptions, Told
from pipeline.replay_progress import BadRows, ProgressFile, fingerprint
from pipeline.replay_rows import RowMapping
from pipeline.replay_source import open_log
from pipeline.spool_kafka import spool_topics
from pipeline.topics_kafka import ensure_topics
from riskbeat.commands_ops import plan_topics
from riskbeat.replay_request import AS_THEY_ARE, TOPIC_SCHEME, ReplayRequest
from riskbeat.settings import Settings
from riskbeat.store import feature_store, redis_client


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a replay ended.

    Attributes:
        report: Where the bad rows are, if there were any.
        refused: Items that the HTTP door answered with 4xx.
    """

    told: Told
    report: Path
    refused: int


async def run_replay(settings: Settings, request: ReplayRequest, on_told: OnTold) -> Outcome:
    """Replay a log; SIGTERM ends it as Ctrl-C does, with its progress saved."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    mapping = _mapping(settings, request)
    folder = settings.data_dir / "replay"
    name = xxhash.xxh3_64_hexdigest(
        f"{request.source}\0{settings.topics.events}\0{request.http_url}".encode()
    )
    progress = ProgressFile(request.progress_file or folder / f"{name}.json")
    if request.restart or not request.resume:
        progress.forget()
    path = Path(request.source)
    spool = folder / f"{name}.jsonl" if request.source.startswith(TOPIC_SCHEME) else None
    if spool is not None:
        path = spool
        await _fill(settings, request, spool)
    log = open_log(path, raw=mapping.wants_raw)
    facts = await asyncio.to_thread(look_at, log, mapping)
    until_ms = [request.until_ms] if request.until_ms is not None else []
    if request.span_ms is not None:
        until_ms.append(facts.first_ms + request.span_ms)
    options = ReplayOptions(
        speed=request.speed,
        barrier_ms=request.barrier_ms,
        limit_events=request.limit_events,
        until_ms=min(until_ms, default=None),
        tail=request.tail,
    )
    cut = f"{options.limit_events} {options.until_ms} {options.tail}"
    report = request.report or folder / f"{name}-bad-rows.jsonl"
    async with AsyncExitStack() as doors:
        target = await doors.enter_async_context(_target(settings, request))
        barrier = None
        if request.barrier_ms is not None:
            barrier = await doors.enter_async_context(_barrier(settings))
        with BadRows(report, request.source) as bad_rows:
            replay = Replay(
                facts,
                target,
                options,
                bad_rows=bad_rows,
                source=fingerprint(path, request.mapping, _text_of(request), cut),
                progress=progress if request.resume else None,
                barrier=barrier,
                on_told=on_told,
            )
            told = await replay.run(in_order(log, mapping, facts))
    if spool is not None:
        await asyncio.to_thread(spool.unlink, missing_ok=True)
    return Outcome(told, report, target.refused if isinstance(target, HttpTarget) else 0)


def _mapping(settings: Settings, request: ReplayRequest) -> RowMapping:
    if request.mapping == AS_THEY_ARE:
        rules = Spec.load(settings.spec_path).event_rules
        return EventMapping(rules, lambda: time.time_ns() // 1_000_000)
    return ColumnMapping(LogMapping.load(find_mapping(request.mapping)))


def _text_of(request: ReplayRequest) -> str:
    """Return what the mapping says, so that another one is another replay."""
    return "" if request.mapping == AS_THEY_ARE else find_mapping(request.mapping).read_text()


async def _fill(settings: Settings, request: ReplayRequest, spool: Path) -> None:
    """Copy the source's topics to a file that outlives interruptions, unless it is there."""
    if request.restart or not request.resume:
        await asyncio.to_thread(spool.unlink, missing_ok=True)
    if not await asyncio.to_thread(spool.exists):
        await asyncio.to_thread(spool.parent.mkdir, parents=True, exist_ok=True)
        topics = request.source.removeprefix(TOPIC_SCHEME).split(",")
        await spool_topics(settings.kafka_options(), topics, spool)


@asynccontextmanager
async def _target(
    settings: Settings, request: ReplayRequest
) -> AsyncIterator[KafkaTarget | HttpTarget]:
    target: KafkaTarget | HttpTarget
    if request.http_url is not None:
        target = HttpTarget(request.http_url)
    else:
        await ensure_topics(
            settings.kafka_options(),
            plan_topics(settings),
            replication=settings.topic_replication,
        )
        names = settings.topics
        target = KafkaTarget(settings.kafka_options(), names.events, names.labels)
    try:
        await target.start()
        yield target
    finally:
        await target.stop()


@asynccontextmanager
async def _barrier(settings: Settings) -> AsyncIterator[PathBarrier]:
    spec = Spec.load(settings.spec_path)
    log = KafkaLogView(settings.kafka_options())
    client = redis_client(settings)
    store = feature_store(settings, spec, client)
    try:
        await log.start()
        yield PathBarrier(
            log,
            RedisWeightsRegistry(client, settings.redis_prefix, spec.digest),
            store,
            topics=settings.topics,
            decide_group=f"{settings.topic_prefix}decide",
            updates_partitions=settings.updates_partitions,
        )
    finally:
        await log.stop()
        await client.aclose()

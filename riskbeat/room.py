"""what the learner's page says of lag, join store, disk and Redis, kept up to date."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from features.client_redis import Client
from features.memory_redis import read_memory
from features.store import StoreUnavailable
from pipeline.held_metrics import HeldMetrics, Holding
from pipeline.learn_kafka import KafkaLearnLog
from pipeline.learn_metrics import LearnMetrics
from riskbeat.room_metrics import DiskMetrics, StoreMetrics
from riskbeat.settings import Settings

LOOK_EVERY_S = 5.0


@contextlib.asynccontextmanager
async def measuring(
    settings: Settings,
    metrics: LearnMetrics,
    journal: KafkaLearnLog,
    store: Holding,
    client: Client,
) -> AsyncIterator[None]:
    """Show how full everything is that a learner fills, while the block runs."""
    held = HeldMetrics(metrics.registry)
    held.watch_log(journal.behind)
    held.watch_store(store, settings.join_max_bytes)
    disk, memory = DiskMetrics(metrics.registry), StoreMetrics(metrics.registry)
    task = asyncio.create_task(_look(settings.data_dir, client, disk, memory))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _look(folder: Path, client: Client, disk: DiskMetrics, memory: StoreMetrics) -> None:
    while True:
        disk.look(folder)
        try:
            memory.seen(await read_memory(client))
        except StoreUnavailable:
            memory.unknown()
        await asyncio.sleep(LOOK_EVERY_S)

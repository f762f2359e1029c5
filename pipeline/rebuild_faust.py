"""the whole log → a new epoch of the store, which then lives: after a loss, or for a new spec.

The old epoch serves until the new one holds everything; then one pointer flips. Readers follow
with their next read, and running workers of the old epoch stop by name, to be started again by
their supervisor in the new one.
"""

import asyncio
import re
from dataclasses import replace

import structlog

from features.store import Pointer
from pipeline.featurize_config import FeaturizeConfig, plan_topics
from pipeline.featurize_faust import EXIT_FAILED, FeaturizeWorker
from pipeline.topics_kafka import TopicPlan, ensure_topics, list_topics

log = structlog.get_logger("rebuild")


def next_epoch(updates_topic: str, topics: set[str], alive: Pointer | None) -> int:
    """Return an epoch that was never written: beyond every updates topic, and the living one.

    Args:
        updates_topic: Name of the updates topic of epoch 0.
        topics: Every topic of the broker.
        alive: What the store's pointer says.
    """
    suffix = re.compile(re.escape(updates_topic) + r"\.e(\d+)")
    written = [int(found.group(1)) for name in topics if (found := suffix.fullmatch(name))]
    return 1 + max([0, *written, alive.epoch if alive else 0])


async def _rebuild(config: FeaturizeConfig) -> int:
    old = await config.store.read_pointer()
    base = config.topics.updates
    epoch = next_epoch(base, await list_topics(config.kafka_options), old)
    new = Pointer(epoch, f"{base}.e{epoch}", config.updates_partitions, config.spec.digest)
    plans = [TopicPlan(*plan) for plan in plan_topics(config, new.updates_topic)]
    await ensure_topics(config.kafka_options, plans, replication=config.replication)
    store = config.store.in_epoch(epoch, new.updates_topic)
    log.info("rebuild.started", epoch=epoch, updates=new.updates_topic)

    async def flip() -> None:
        await store.flip_pointer(old, new)
        log.info("rebuild.flipped", epoch=epoch)

    status = await FeaturizeWorker(replace(config, store=store), new, flip).run()
    alive = await store.read_pointer()
    if status or alive != new:
        log.error("rebuild.unfinished", epoch=epoch)
        return status or EXIT_FAILED
    if old is not None:
        log.info("epoch.dropped", epoch=old.epoch, keys=await store.drop_epoch(old.epoch))
    return 0


def run_rebuild(config: FeaturizeConfig) -> int:
    """Rebuild the store from the start of the log, and let it live.

    Returns:
        The exit status: 0 when the new epoch lives, 1 otherwise (the old one still does).
    """
    try:
        return asyncio.run(_rebuild(config))
    except Exception as error:
        log.error("rebuild.failed", error=type(error).__name__, detail=str(error), exc_info=error)
        return EXIT_FAILED

"""the whole log → a new epoch of the store, which then lives: after a loss, or for a new spec.

What lives serves until the new epoch holds everything; then the pointer of its spec flips. Readers
follow with their next read, and running workers of the epoch that lived *for the same spec* stop
by name, to be started again by their supervisor. Other specs go on undisturbed.
"""

import asyncio
import re
from dataclasses import replace

import structlog
import uvloop

from features.epochs import EpochInfo, Epochs
from features.store import Pointer
from pipeline.featurize_config import FeaturizeConfig, plan_topics
from pipeline.featurize_faust import EXIT_FAILED, FeaturizeWorker
from pipeline.step_maker import warm_up
from pipeline.topics_kafka import TopicPlan, ensure_topics, list_topics

BATCH_RECORDS = 20_000
RECORD_ROWS = 4_096
FETCH_BYTES = 4 * 1024 * 1024

log = structlog.get_logger("rebuild")


def in_large_steps(config: FeaturizeConfig) -> FeaturizeConfig:
    """Return how a rebuild works: nobody waits for a single event to be readable.

    What comes together reads, makes and writes the state of an entity once; of 200 000 payments by
    Zipf's law 0.34 states a row are written by batches of 5 000, and 0.21 by those of 20 000.
    Commits stay as small as a worker's: who reads the store meanwhile waits for each.
    """
    limits = config.limits
    limits = replace(
        limits,
        route_max_records=max(BATCH_RECORDS, limits.route_max_records),
        update_record_max_rows=max(RECORD_ROWS, limits.update_record_max_rows),
    )
    fetch_max_bytes = max(FETCH_BYTES, config.fetch_max_bytes)
    return replace(config, limits=limits, fetch_max_bytes=fetch_max_bytes)


def lowest_epoch(updates_topic: str, topics: set[str]) -> int:
    """Return an epoch beyond every updates topic: an emptied store has forgotten its numbers.

    Args:
        updates_topic: Name of the updates topic of epoch 0.
        topics: Every topic of the broker.
    """
    suffix = re.compile(re.escape(updates_topic) + r"\.e(\d+)")
    return 1 + max([0, *(int(m.group(1)) for name in topics if (m := suffix.fullmatch(name)))])


async def _rebuild(config: FeaturizeConfig) -> int:
    warm_up(config.spec)
    epochs, digest = config.store.epochs, config.spec.digest
    old = await config.store.read_pointer()
    base = config.topics.updates
    lowest = lowest_epoch(base, await list_topics(config.kafka_options))
    new = await epochs.allocate(lowest, base, config.updates_partitions, digest)
    plans = [TopicPlan(*plan) for plan in plan_topics(config, new.updates_topic)]
    await ensure_topics(config.kafka_options, plans, replication=config.replication)
    store = config.store.in_epoch(new.epoch, new.updates_topic)
    log.info("rebuild.started", spec=digest[:12], epoch=new.epoch, updates=new.updates_topic)

    async def flip() -> None:
        await epochs.flip(old, new)
        log.info("rebuild.flipped", spec=digest[:12], epoch=new.epoch)

    status = await FeaturizeWorker(replace(in_large_steps(config), store=store), new, flip).run()
    alive = await store.read_pointer()
    if alive != new:
        log.error("rebuild.unfinished", epoch=new.epoch)
        await _drop(epochs, new)
        return status or EXIT_FAILED
    for info in await epochs.list_epochs():
        if info.pointer == old or (_is_left_by(new, info) and not info.being_written):
            await _drop(epochs, info.pointer)
    return 0


def _is_left_by(new: Pointer, info: EpochInfo) -> bool:
    """Return whether an epoch is what an earlier rebuild left behind, done or not."""
    same = info.pointer.digest == new.digest and info.pointer.epoch < new.epoch
    return same and info.state != "gone"


async def _drop(epochs: Epochs, pointer: Pointer) -> None:
    log.info("epoch.dropped", epoch=pointer.epoch, keys=await epochs.drop(pointer))


def run_rebuild(config: FeaturizeConfig) -> int:
    """Rebuild the store from the start of the log, and let it live.

    Returns:
        The exit status: 0 when the new epoch lives, 1 otherwise (what lived still does).
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_rebuild(config))
    except Exception as error:
        log.error("rebuild.failed", error=type(error).__name__, detail=str(error), exc_info=error)
        return EXIT_FAILED

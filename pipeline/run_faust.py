"""A featurize worker's process: compile, attach to the store, make the topics, run, exit."""

import asyncio

import structlog
import uvloop

from pipeline.featurize_config import FeaturizeConfig, plan_topics
from pipeline.featurize_faust import EXIT_FAILED, FeaturizeWorker
from pipeline.step_maker import warm_up
from pipeline.topics_kafka import TopicPlan, ensure_topics

log = structlog.get_logger("featurize")


async def _run(config: FeaturizeConfig) -> int:
    warm_up(config.spec)
    pointer = await config.store.attach()
    plans = [TopicPlan(*plan) for plan in plan_topics(config, pointer.updates_topic)]
    await ensure_topics(config.kafka_options, plans, replication=config.replication)
    return await FeaturizeWorker(config, pointer).run()


def run_worker(config: FeaturizeConfig) -> int:
    """Run one featurize worker until SIGTERM or SIGINT.

    Returns:
        The exit status: 0 after a signal, 1 after a failure (which was logged).
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(_run(config))
    except Exception as error:
        log.error("worker.failed", error=type(error).__name__, detail=str(error), exc_info=error)
        status = EXIT_FAILED
    return status

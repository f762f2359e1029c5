"""A Faust app of two agents, each fed with whole batches, that reads from where our store says."""

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from faust.types import StreamT

from pipeline.batch_faust import (
    HEARTBEATS_PER_SESSION,
    Assign,
    BatchApp,
    ConsumerOptions,
    Fetched,
)
from pipeline.featurize import Layout
from pipeline.featurize_config import FeaturizeConfig

ROUTE, AGGREGATE = "route", "aggregate"
BATCHES_WAITING = 1  # fetched batches that may wait for a step

Step = Callable[[Fetched], Awaitable[None]]


def make_app(
    config: FeaturizeConfig,
    group: str,
    layout: Layout,
    *,
    assign: Assign,
    route: Step,
    aggregate: Step,
) -> BatchApp:
    """Return an app that calls the steps, one batch at a time each, once it is started.

    Args:
        config: Of the worker.
        group: Consumer group, and Faust's app id.
        layout: Which topics belong to which step.
        assign: Names the offset at which to read each assigned partition.
        route: Takes batches of the sources; must let no exception out.
        aggregate: Takes batches of the updates topic; must let no exception out.
    """
    servers = config.kafka_options["bootstrap_servers"]
    first = servers.split(",")[0] if isinstance(servers, str) else servers[0]
    folder = config.data_dir or Path(tempfile.mkdtemp(prefix="riskbeat-featurize-"))
    folder.mkdir(parents=True, exist_ok=True)
    app = BatchApp(
        group,
        broker=f"kafka://{first}",  # named only: the consumer is made from kafka_options
        store="memory://",
        datadir=str(folder),
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_buffer_maxsize=BATCHES_WAITING,
        broker_session_timeout=config.session_timeout_s,
        broker_heartbeat_interval=config.session_timeout_s / HEARTBEATS_PER_SESSION,
    )
    app.step_of_topic = lambda topic: AGGREGATE if topic == layout.updates else ROUTE
    app.assign_partitions = assign
    app.consumer_options = ConsumerOptions(
        kafka_options=config.kafka_options,
        group=group,
        instance_id=config.instance_id,
        session_timeout_s=config.session_timeout_s,
        max_poll_interval_s=config.max_poll_interval_s,
        max_records=config.limits.route_max_records,
        fetch_max_wait_s=config.fetch_max_wait_s,
        fetch_max_bytes=config.fetch_max_bytes,
    )
    _add_agent(app, ROUTE, list(layout.sources), route)
    _add_agent(app, AGGREGATE, [layout.updates], aggregate)
    return app


def _add_agent(app: BatchApp, name: str, topics: list[str], step: Step) -> None:
    channel = app.topic(*topics, acks=False, value_serializer="raw")

    async def run(stream: StreamT[Fetched]) -> None:
        async for fetched in stream:
            await step(fetched)

    app.agent(channel, name=name, concurrency=1)(run)

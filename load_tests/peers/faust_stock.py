"""Stock Faust: a hopping table for each entity and window size, one value of five aggregates each.

Hops are a sixtieth of the window (1 s at least), so an event is written into sixty of them. Events
are regrouped by entity with `group_by`, as its documentation asks. Results go to Redis in batches.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

import faust
import sink as ours

HOPS = 60
FLUSH_RESULTS = 200


def add(old, cents):
    """Take one amount into [count, sum, min, max]."""
    count, total, low, high = old or (0, 0, cents, cents)
    return [count + 1, total + cents, min(low, cents), max(high, cents)]


def happened_s(value):
    """Return event time in seconds since 1970."""
    return datetime.fromisoformat(value["event_time"]).timestamp()


def make_app(told):
    """Return the app with its tables and agents."""
    sink = ours.Sink(told.redis, told.prefix, FLUSH_RESULTS)
    name = told.group
    app = faust.App(
        name,
        broker=f"kafka://{told.kafka}",
        store="memory://",
        datadir=told.folder,
        topic_partitions=1,
        topic_replication_factor=1,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    topic = app.topic(told.topic, value_serializer="json")

    def handle(entity):
        tables = {
            window: app.Table(f"{entity}_{window}", default=list, partitions=1)
            .hopping(seconds, max(1.0, seconds / HOPS), expires=timedelta(seconds=seconds))
            .relative_to(lambda event: happened_s(event.value))
            for window, seconds in ours.WINDOWS_S.items()
        }

        async def keep(stream):
            by = stream.group_by(lambda v: v["entities"][entity], name=f"{name}-{entity}")
            async for value in by:
                who, cents = value["entities"][entity], value["amount"]["value"]
                for window, table in tables.items():
                    windows = table[who]
                    windows.apply(add, cents)
                    count, total, low, high = windows.value()
                    sink.put(entity, who, window, count, total, total / count, low, high)

        app.agent(topic, name=f"{name}-{entity}-agent")(keep)

    for entity in ours.ENTITIES:
        handle(entity)
    return app


if __name__ == "__main__":
    told = ours.arguments()
    app = make_app(told)
    Path(told.folder).mkdir(parents=True, exist_ok=True)
    sys.argv = [sys.argv[0], "worker", "-l", "warn", "--without-web"]
    app.main()

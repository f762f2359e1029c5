"""Quix Streams: one sliding window for each entity and window size, five aggregates in each.

Events are regrouped by entity through topics of the broker (`group_by`), as its documentation asks;
the card is the log's key already. Results go to Redis from `apply`, in batches.
"""

from datetime import datetime, timedelta

import sink as ours
from quixstreams import Application
from quixstreams.dataframe.windows.aggregations import Count, Max, Mean, Min, Sum

GRACE = timedelta(seconds=1)
FLUSH_RESULTS = 240
COMMIT_S = 5.0


def event_ms(value, headers, timestamp, kind):
    """Take event time from the payload."""
    return int(datetime.fromisoformat(value["event_time"]).timestamp() * 1000)


def narrow(value):
    """Keep what the windows need."""
    return {"cents": value["amount"]["value"], **value["entities"]}


def main():
    """Run until stopped."""
    told = ours.arguments()
    sink = ours.Sink(told.redis, told.prefix, FLUSH_RESULTS)
    app = Application(
        broker_address=told.kafka,
        consumer_group=told.group,
        auto_offset_reset="earliest",
        state_dir=told.folder,
        commit_interval=COMMIT_S,
        loglevel="WARNING",
    )
    topic = app.topic(told.topic, value_deserializer="json", timestamp_extractor=event_ms)
    payments = app.dataframe(topic).apply(narrow)
    for entity in ours.ENTITIES:
        keyed = payments.group_by(entity, name=f"{entity}")
        for name, seconds in ours.WINDOWS_S.items():
            windows = keyed.sliding_window(
                timedelta(seconds=seconds), grace_ms=GRACE, name=f"{entity}-{name}"
            ).agg(
                n=Count(),
                total=Sum("cents"),
                mean=Mean("cents"),
                low=Min("cents"),
                high=Max("cents"),
            )

            def keep(value, key, timestamp, headers, entity=entity, name=name):
                who = key.decode() if isinstance(key, bytes) else key
                sink.put(
                    entity, who, name,
                    value["n"], value["total"], value["mean"], value["low"], value["high"],
                )  # fmt: skip

            windows.current().update(keep, metadata=True)
    app.run()


if __name__ == "__main__":
    main()

"""`python -m load_tests.sizes`: what an event, a decision and an entity weigh, at rest.

Generated payments go through the whole path; then the records of each topic are weighed, and the
keys of each kind of entity in Redis, by `MEMORY USAGE`. Sizes do not depend on the machine.
"""

import asyncio
import statistics
from collections.abc import Sequence

import redis

from features.event import SEPARATOR
from features.spec import Spec
from features.topics import Topics
from load_tests.deployment import KAFKA, REDIS, deployed
from load_tests.path import Log, replay
from load_tests.report import ROOT, Row, main
from pipeline.records_kafka import TopicRecord, read_topics

EVENTS, QUICK_EVENTS = 20_000, 3_000
DAYS = 30.0
SAMPLED_KEYS = 2_000


def measure(quick: bool) -> Sequence[Row]:
    """Replay a log, then weigh what is left of it."""
    events = QUICK_EVENTS if quick else EVENTS
    with deployed({"RISKBEAT_SPEC_PATH": str(ROOT / "features.yaml")}) as deployment:
        path = deployment.folder / "generated.parquet"
        deployment.run(
            *("generate", str(path), "--events", str(events), "--days", str(DAYS)), "--no-progress"
        )
        replay(deployment, Log(path, "generator", "event_time", DAYS + 1, 0.0), DAYS + 1)
        env = dict(deployment.processes.env)
        topics = Topics(env["RISKBEAT_TOPIC_PREFIX"])
        digest = Spec.load(ROOT / "features.yaml").digest
        of_topic = {
            "events.v1": topics.events,
            "updates.v1": topics.updates,
            "decisions.v1": topics.decisions,
            "weights.v1": topics.weights(digest),
        }
        options = {"bootstrap_servers": env[KAFKA]}
        records = asyncio.run(read_topics(options, list(of_topic.values())))
        rows = _rows_of_topics(records, of_topic, events)
        return rows + _rows_of_keys(env[REDIS], env["RISKBEAT_REDIS_PREFIX"], events)


def _rows_of_topics(
    records: Sequence[TopicRecord], of_topic: dict[str, str], events: int
) -> list[Row]:
    rows = []
    for name, topic in of_topic.items():
        sizes = [len(record.value) for record in records if record.topic == topic]
        note = f"{len(sizes)} records for {events} events; values alone, uncompressed"
        if name == "weights.v1":
            row = Row("bytes of a version", statistics.mean(sizes), "B", better="lower", note=note)
        else:
            row = Row(
                f"{name}: bytes per event", sum(sizes) / events, "B", better="lower", note=note
            )
        rows.append(row)
    return rows


def _rows_of_keys(url: str, prefix: str, events: int) -> list[Row]:
    found: dict[str, list[int]] = {}
    beside: list[int] = []
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"{prefix}0:*", count=1000):
            kind, _, rest = key.partition(b"}:")[2].partition(b":")
            if kind != b"s":
                continue
            sizes = found.setdefault(rest.decode().split(SEPARATOR)[1], [])
            if len(sizes) < SAMPLED_KEYS:
                size_bytes = int(client.memory_usage(key) or 0)
                sizes.append(size_bytes)
                beside.append(size_bytes - client.strlen(key))
    of_log = f"{events} generated payments, {DAYS:g} days"
    rows = [
        Row(
            f"Redis: bytes of a {entity}",
            statistics.mean(sizes),
            "B",
            better="lower",
            note=f"MEMORY USAGE, mean of {len(sizes)} keys; {of_log}",
        )
        for entity, sizes in sorted(found.items())
    ]
    note = f"MEMORY USAGE less the state's length, mean of {len(beside)} keys: name, expiry, slot"
    what = "Redis: bytes of a key beside its state"
    return [*rows, Row(what, statistics.mean(beside), "B", better="lower", note=note)]


if __name__ == "__main__":
    main("sizes", measure)

"""What a stack in containers has decided, learned and kept, seen from outside."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from features.client_redis import connect_redis
from features.event import entity_key
from features.spec import Spec
from features.store_redis import RedisFeatureStore
from features.topics import Topics
from models.registry_redis import RedisWeightsRegistry
from tests.live.compose_stack import ROOT, Stack
from tests.live.servers import wait_until

TOPICS = Topics()
LEARNED_TIMEOUT_S = 120.0
PARTITIONS = 4
UPDATES_PARTITIONS = 8


def replay_generated(stack: Stack, folder: Path, events: int) -> None:
    """Replay generated payments in a container, and wait until each is decided.

    Args:
        stack: That is up.
        folder: Which it sees as `/logs`.
        events: How many.
    """
    log = folder / "log.jsonl"
    options = ["--events", str(events), "--days", "30", "--seed", "11", "--no-progress"]
    subprocess.run([sys.executable, "-m", "riskbeat", "generate", str(log), *options], check=True)
    log.chmod(0o644)  # the containers' user is another
    stack.compose("run", "--rm", "replay", "/logs/log.jsonl", "--mapping", "generator")
    wait_until(lambda: decisions_of(stack) >= events, "every event is decided", LEARNED_TIMEOUT_S)


def version_of(stack: Stack) -> int:
    """The version that answers now; 0 for none."""
    active = httpx.get(f"{stack.http_url}/v1/model", timeout=10, **stack.asking).json()["active"]
    return int(active["version"]) if active else 0


def settled(stack: Stack) -> bool:
    """Whether all there is was learned, then applied by every partition, and decided."""
    if not asyncio.run(learned(stack)):
        return False
    state = asyncio.run(state_of(stack))
    events, labels = state["ends"][TOPICS.events], state["ends"][TOPICS.label_updates]
    applied = [
        [max(offset, 0) for offset in offsets[source]] == ends
        for offsets in state["applied"]
        for source, ends in (("e", events), ("l", labels))
    ]
    return all(applied) and state["decided"] == events


async def ends_of(stack: Stack, topic: str) -> list[int]:
    """How many records each partition of a topic got."""
    async with AIOKafkaConsumer(bootstrap_servers=stack.kafka) as consumer:
        partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
        ends = await consumer.end_offsets(partitions)
        return [ends[partition] for partition in partitions]


def decisions_of(stack: Stack) -> int:
    return sum(asyncio.run(ends_of(stack, TOPICS.decisions)))


async def learned(stack: Stack) -> bool:
    """Whether the learner has taken in every decision and label, and sent what follows."""
    client = connect_redis(stack.redis_url)
    progress = await RedisWeightsRegistry(
        client, "riskbeat:", Spec.load(ROOT / "features.yaml").digest
    ).progress()
    await client.aclose()
    assert progress is not None
    for topic in (TOPICS.decisions, TOPICS.labels):
        for partition, end in enumerate(await ends_of(stack, topic)):
            if progress.offsets.get(f"{topic}:{partition}", 0) < end:
                return False
    return True


async def state_of(stack: Stack) -> dict[str, Any]:
    """What must survive `down` and `up`: states, what they hold of the log, and the log's ends."""
    spec = Spec.load(ROOT / "features.yaml")
    client = connect_redis(stack.redis_url)
    store = RedisFeatureStore(
        client,
        prefix="riskbeat:",
        partitions=UPDATES_PARTITIONS,
        spec_digest=spec.digest,
        ttl_s=spec.ttl_s,
        updates_topic=TOPICS.updates,
    )
    cards = ["tok_a", "tok_b", *(f"card_{number}" for number in range(200))]
    reads = await store.read_many([entity_key("default", "card", card) for card in cards])
    await client.aclose()
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    group = await admin.list_consumer_group_offsets("riskbeat.decide")
    await admin.close()
    committed = {at.partition: kept.offset for at, kept in group.items()}
    return {
        "blobs": reads.blobs,
        "applied": [reads.watermarks[p].next_offsets() for p in range(UPDATES_PARTITIONS)],
        "decided": [committed.get(p, 0) for p in range(PARTITIONS)],
        "ends": {
            topic: await ends_of(stack, topic) for topic in (TOPICS.events, TOPICS.label_updates)
        },
    }

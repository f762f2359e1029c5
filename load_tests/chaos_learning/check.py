"""What the log says in the end of versions, labels, and a learner that nobody killed."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from features.client_redis import connect_redis
from features.event import identity
from features.topics import Topics
from features.update import LabelTransition
from load_tests.chaos_learning.load import Told
from load_tests.deployment import KAFKA
from load_tests.label_serving import read_all
from load_tests.processes import CommandFailed, run_riskbeat
from models.registry_redis import RedisWeightsRegistry
from models.weights import manifest_of, sha256_of

VERIFY_TIMEOUT_S = 1_200.0


@dataclass(frozen=True)
class Verdict:
    """What the log says in the end; each count should be 0.

    Attributes:
        versions: Published.
        gaps: Numbers missing, or with two contents, or with the wrong parent.
        wrong_labels: Events whose transitions do not add up to what their labels say.
        wrong_numbers: Transitions that do not follow the one before.
        unequal: Versions that an uninterrupted learner makes otherwise; its words otherwise.
    """

    versions: int
    gaps: int
    wrong_labels: int
    wrong_numbers: int
    unequal: int
    words: str


def judge(env: Mapping[str, str], topics: Topics, digest: str, told: Told) -> Verdict:
    """Read the log and the registry."""
    kafka = env[KAFKA]
    count, wrong = check_chain(asyncio.run(read_all(kafka, topics.weights(digest))))
    wrong_numbers, wrong_labels = check_transitions(
        asyncio.run(read_all(kafka, topics.label_updates)), told
    )
    unequal, words = verify(env, count)
    return Verdict(count, len(wrong), wrong_labels, wrong_numbers, unequal, words)


async def caught_up(
    kafka: str, redis: str, prefix: str, topics: Topics, digest: str, partitions: int
) -> bool:
    """Whether the learner has taken all that the log holds of decisions and labels.

    Args:
        kafka: Where the log is.
        redis: URL of the store.
        prefix: Of the deployment's keys.
        digest: Of its feature spec.
        partitions: Of each of the two topics.
    """
    client = connect_redis(redis)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        progress = await RedisWeightsRegistry(client, prefix, digest).progress()
        ends = await consumer.end_offsets(
            [
                TopicPartition(topic, partition)
                for topic in (topics.decisions, topics.labels)
                for partition in range(partitions)
            ]
        )
    finally:
        await consumer.stop()
        await client.aclose()
    held = {} if progress is None else progress.offsets
    return all(held.get(f"{tp.topic}:{tp.partition}", 0) >= end for tp, end in ends.items())


def check_chain(records: Sequence[ConsumerRecord]) -> tuple[int, list[str]]:
    """Return how many versions a topic holds, and what is missing, doubled or does not follow."""
    bodies: dict[int, bytes] = {}
    wrong: list[str] = []
    for record in records:
        number = manifest_of(record.value).version
        if bodies.setdefault(number, record.value) != record.value:
            wrong.append(f"version {number} has two contents")
    parent = ""
    for number in range(1, max(bodies, default=0) + 1):
        body = bodies.get(number)
        if body is None or manifest_of(body).parent_sha256 != parent:
            wrong.append(f"version {number} does not follow")
        parent = "" if body is None else sha256_of(body)
    return len(bodies), wrong


def check_transitions(records: Sequence[ConsumerRecord], told: Told) -> tuple[int, int]:
    """Return (numbers out of turn, events whose transitions are not their labels)."""
    newest: dict[int, int] = {}
    sums: dict[str, dict[str, int]] = {}
    wrong = 0
    for record in records:
        transition = msgspec.json.decode(record.value, type=LabelTransition)
        partition = record.partition
        if transition.seq <= newest.get(partition, 0):
            continue  # sent twice, and known by its number
        wrong += transition.seq != newest.get(partition, 0) + 1
        newest[partition] = transition.seq
        name = identity(transition.tenant, transition.event_type, transition.event_id)
        held = sums.setdefault(name, {})
        held[transition.label] = held.get(transition.label, 0) + transition.sign
    expected = {name: {"fraud" if fraud else "legit": 1} for name, fraud in told.net.items()}
    found = {name: {k: v for k, v in held.items() if v} for name, held in sums.items()}
    names = expected.keys() | found.keys()
    return wrong, sum(expected.get(name) != found.get(name) for name in names)


def verify(env: Mapping[str, str], last: int) -> tuple[int, str]:
    """Let a learner that nobody kills make every version again; return how many differ."""
    words, why = ("model", "verify", "--from", "0", "--to", str(last), "--json"), ""
    try:
        printed = run_riskbeat(env, *words, timeout_s=VERIFY_TIMEOUT_S)
    except CommandFailed as error:  # as it does when any differs
        printed, why = error.printed, str(error)
    try:
        told = json.loads(printed)
        return int(told["different"]), f"{told['compared']} versions made again"
    except (json.JSONDecodeError, KeyError):
        return last, (why or printed)[-300:].strip()

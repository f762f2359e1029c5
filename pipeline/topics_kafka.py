"""The topics as the design wants them: made if absent, checked if there."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
TOPICS_TIMEOUT_S = 30.0
TOPICS_POLL_S = 0.2


class TopicMismatch(RuntimeError):
    """A topic has another number of partitions than the settings say."""


class TopicsUnavailable(RuntimeError):
    """The broker did not make, or did not show, a topic in time."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How one topic must be.

    Attributes:
        retention_ms: How long the log keeps a record.
    """

    name: str
    partitions: int
    retention_ms: int
    max_message_bytes: int = MAX_MESSAGE_BYTES


def _settings(plan: TopicPlan) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(plan.retention_ms),
        "max.message.bytes": str(plan.max_message_bytes),
    }


async def ensure_topics(
    kafka_options: Mapping[str, Any], plans: list[TopicPlan], *, replication: int = 1
) -> None:
    """Make the topics that are absent and check the partition counts of all.

    Any number of processes may do so at once. A broker that does not know a setting (an embedded
    one) is asked again without settings.

    Raises:
        TopicMismatch: A topic has another number of partitions.
        TopicsUnavailable: The broker refused, or showed no topic within `TOPICS_TIMEOUT_S`.
    """
    admin = AIOKafkaAdminClient(**kafka_options)
    try:
        await admin.start()
        wanted = {plan.name: plan for plan in plans}
        missing = [p for n, p in wanted.items() if n not in await _count_partitions(admin, plans)]
        if missing:
            await _create(admin, missing, replication)
        await _verify(admin, plans)
    except KafkaError as error:
        raise TopicsUnavailable(f"{type(error).__name__}: {error}") from error
    finally:
        await admin.close()


async def list_topics(kafka_options: Mapping[str, Any]) -> set[str]:
    """Return the names of all topics.

    Raises:
        TopicsUnavailable: The broker did not answer.
    """
    admin = AIOKafkaAdminClient(**kafka_options)
    try:
        await admin.start()
        return set(await admin.list_topics())
    except KafkaError as error:
        raise TopicsUnavailable(f"{type(error).__name__}: {error}") from error
    finally:
        await admin.close()


async def drop_topics(kafka_options: Mapping[str, Any], names: Sequence[str]) -> None:
    """Delete topics with all that is in them; absent ones are no error.

    Raises:
        TopicsUnavailable: The broker refused, or did not answer.
    """
    admin = AIOKafkaAdminClient(**kafka_options)
    try:
        await admin.start()
        there = sorted(set(await admin.list_topics()).intersection(names))
        if not there:
            return
        answer = await admin.delete_topics(there)
        codes = {row[0]: for_code(row[1]) for row in answer.topic_error_codes}
        gone = (0, UnknownTopicOrPartitionError.errno)
        bad = {name: code.__name__ for name, code in codes.items() if code.errno not in gone}
        if bad:
            raise TopicsUnavailable(f"the broker did not delete {bad}")
    except KafkaError as error:
        raise TopicsUnavailable(f"{type(error).__name__}: {error}") from error
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, plans: list[TopicPlan], replication: int) -> None:
    for with_settings in (True, False):
        topics = [
            NewTopic(p.name, p.partitions, replication,
                     topic_configs=_settings(p) if with_settings else {})
            for p in plans
        ]  # fmt: skip
        try:
            answer = await admin.create_topics(topics)
        except TopicAlreadyExistsError:
            return
        codes = {row[0]: for_code(row[1]) for row in answer.topic_errors}
        bad = {
            name: code.__name__
            for name, code in codes.items()
            if code.errno not in (0, TopicAlreadyExistsError.errno)
        }
        if not bad:
            return
        plans = [plan for plan in plans if plan.name in bad]
    raise TopicsUnavailable(f"the broker made no {bad}")


async def _count_partitions(admin: AIOKafkaAdminClient, plans: list[TopicPlan]) -> dict[str, int]:
    described = await admin.describe_topics()  # all: naming an absent one might create it
    wanted = {plan.name for plan in plans}
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in described
        if topic["topic"] in wanted and not topic["error_code"]
    }


async def _verify(admin: AIOKafkaAdminClient, plans: list[TopicPlan]) -> None:
    deadline = asyncio.get_running_loop().time() + TOPICS_TIMEOUT_S
    while True:
        counts = await _count_partitions(admin, plans)
        absent = [plan.name for plan in plans if plan.name not in counts]
        if not absent:
            break
        if asyncio.get_running_loop().time() > deadline:
            raise TopicsUnavailable(f"the broker does not show {', '.join(absent)}")
        await asyncio.sleep(TOPICS_POLL_S)
    for plan in plans:
        if counts[plan.name] != plan.partitions:
            raise TopicMismatch(
                f"{plan.name} has {counts[plan.name]} partitions, the settings say "
                f"{plan.partitions}"
            )

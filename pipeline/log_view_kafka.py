"""a Kafka log → where it ends and how far its readers are, for the barrier."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient


class KafkaLogView:
    """Reads ends and committed offsets (a `replay_barrier.LogView`)."""

    def __init__(self, kafka_options: Mapping[str, Any]) -> None:
        """Hold options; nothing is connected before `start`."""
        self._options = dict(kafka_options)
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None

    async def start(self) -> None:
        """Connect."""
        consumer = AIOKafkaConsumer(**self._options, enable_auto_commit=False)
        self._consumer = consumer
        await consumer.start()
        admin = AIOKafkaAdminClient(**self._options)
        self._admin = admin
        await admin.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await self._consumer.stop()
        if self._admin is not None:
            await self._admin.close()

    async def end_offsets(self, topics: Sequence[str]) -> Mapping[str, int]:
        """Return the next offset to be written of every partition of these topics."""
        assert self._consumer is not None
        places = await self._places(topics)
        ends = await self._consumer.end_offsets(places)
        return {f"{place.topic}:{place.partition}": end for place, end in ends.items()}

    async def _places(self, topics: Sequence[str]) -> list[TopicPartition]:
        assert self._admin is not None
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await self._admin.describe_topics(list(topics))
            for partition in topic["partitions"]
        ]

    async def committed(self, group: str, topic: str) -> Mapping[str, int]:
        """Return a consumer group's next offsets; partitions without one are absent."""
        assert self._admin is not None
        found = await self._admin.list_consumer_group_offsets(group)
        return {
            f"{place.topic}:{place.partition}": told.offset
            for place, told in found.items()
            if place.topic == topic and told.offset >= 0
        }

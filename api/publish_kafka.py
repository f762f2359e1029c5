"""Facts into Kafka: one request for each broker and call, all acks.

Not through the library's producer, which keeps a future, a queue and a task for each record: two
records of a decision took more of its time than features and model together. What is used of the
library is its client: connections, versions, metadata.

Not idempotent on purpose: an idempotent producer that gives up a batch is broken until it is
made anew, and this one must survive a broker's absence. What it may send twice is counted once
by its identity.
"""

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from api.placing import hashes_of
from api.publish import UNKNOWN_POSITION, LogUnavailable, Outgoing, Position

BATCH_MAX_BYTES = 1_048_576
AGAIN_AFTER_S = 0.02
"""Pause before what a broker refused for now is sent again."""
ALL_ACKS = -1


@dataclass(slots=True)
class _Batch:
    """Records of one partition, encoded.

    Attributes:
        indices: Which of the call's records they are.
        doubtful: Whether it was sent before, and may have been taken then.
    """

    place: TopicPartition
    builder: Any
    indices: list[int] = field(default_factory=list)
    built: bytes = b""
    doubtful: bool = False

    def add(self, index: int, record: Outgoing, now_ms: int) -> bool:
        """Append a record; return whether it still fits."""
        headers = list(record.headers)
        count = len(self.indices)
        if self.builder.append(count, now_ms, record.key, record.value, headers) is None:
            return False
        self.indices.append(index)
        return True

    def write_down(self, positions: list[Position], partition: int, offset: int) -> None:
        """Note where the log put the records, the first of them at `offset`."""
        if not self.doubtful:
            for count, index in enumerate(self.indices):
                positions[index] = Position(partition, offset + count)

    def data(self) -> bytes:
        """Return it as it goes over the wire; nothing can be added any more."""
        self.built = self.built or bytes(self.builder.build())
        return self.built


class KafkaPublisher:
    """The way into the log for the HTTP door."""

    def __init__(self, kafka_options: Mapping[str, Any], client_id: str) -> None:
        """Keep the options; nothing connects before `start`.

        Args:
            kafka_options: Addresses and security, as aiokafka's clients take them.
            client_id: Name that the broker's logs show.
        """
        self._options = dict(kafka_options)
        self._client_id = client_id
        self._client: Any = None
        self._turn = itertools.count()

    async def start(self) -> None:
        """Connect; see `publish.Publisher`."""
        client = AIOKafkaClient(**self._options, client_id=self._client_id)
        try:
            await client.bootstrap()
        except (KafkaError, OSError) as error:
            await client.close()
            raise LogUnavailable(str(error) or type(error).__name__) from error
        self._client = client

    async def publish_many(self, records: Sequence[Outgoing], timeout_s: float) -> list[Position]:
        """Send all and wait for their acks; see `publish.Publisher`."""
        assert self._client is not None, "start comes first"
        positions = [UNKNOWN_POSITION] * len(records)
        try:
            async with asyncio.timeout(timeout_s):
                batches = await self._batches_of(records)
                while batches:
                    batches = await self._send(batches, timeout_s, positions)
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogUnavailable(str(error) or type(error).__name__) from error
        return positions

    async def stop(self) -> None:
        """Disconnect; see `publish.Publisher`."""
        if self._client is not None:
            await self._client.close()

    async def _batches_of(self, records: Sequence[Outgoing]) -> list[_Batch]:
        """Return the records by partition, as they go over the wire."""
        counts = {topic: await self._count(topic) for topic in {r.topic for r in records}}
        hashes = hashes_of([record.key or b"" for record in records]).tolist()
        now_ms = time.time_ns() // 1_000_000
        batches: list[_Batch] = []
        filling: dict[tuple[str, int], _Batch] = {}
        for index, record in enumerate(records):
            hashed = next(self._turn) if record.key is None else hashes[index]
            partition = hashed % counts[record.topic]
            batch = filling.get((record.topic, partition))
            if batch is None or not batch.add(index, record, now_ms):
                batch = _Batch(TopicPartition(record.topic, partition), _builder())
                filling[record.topic, partition] = batch
                batches.append(batch)
                assert batch.add(index, record, now_ms), "the first record always fits"
        return batches

    async def _count(self, topic: str) -> int:
        found = self._client.cluster.partitions_for_topic(topic)
        return len(found or await self._client._wait_on_metadata(topic))

    async def _send(
        self, batches: Sequence[_Batch], timeout_s: float, positions: list[Position]
    ) -> list[_Batch]:
        """Send one batch of each partition, to all leaders at once; return what is not taken."""
        ready: dict[int, dict[TopicPartition, _Batch]] = {}
        later: list[_Batch] = []
        sent: set[TopicPartition] = set()
        lost = False
        for batch in batches:
            leader = self._client.cluster.leader_for_partition(batch.place)
            lost |= leader in (None, -1)
            if leader in (None, -1) or batch.place in sent:
                later.append(batch)
                continue
            sent.add(batch.place)
            ready.setdefault(leader, {})[batch.place] = batch
        refused = [
            batch
            for batches in await _together(
                [self._produce(node, mine, timeout_s, positions) for node, mine in ready.items()]
            )
            for batch in batches
        ]
        for batch in refused:
            batch.doubtful = True
        if refused or lost:
            self._client.force_metadata_update()
            await asyncio.sleep(AGAIN_AFTER_S)
            await self._client._maybe_wait_metadata()
        return refused + later

    async def _produce(
        self,
        node: int,
        batches: Mapping[TopicPartition, _Batch],
        timeout_s: float,
        positions: list[Position],
    ) -> list[_Batch]:
        """Send one request; write down the places of what was taken, return what was refused."""
        topics: dict[str, list[tuple[int, bytes]]] = {}
        for place, batch in batches.items():
            topics.setdefault(place.topic, []).append((place.partition, batch.data()))
        request = ProduceRequest(
            transactional_id=None,
            required_acks=ALL_ACKS,
            timeout=int(timeout_s * 1000),
            topics=list(topics.items()),
        )
        try:
            response = await self._client.send(node, request)
        except KafkaError as error:
            if not getattr(error, "retriable", False):
                raise
            return list(batches.values())
        refused: list[_Batch] = []
        for topic, partitions in response.topics:
            for partition, code, offset, *_ in partitions:
                batch = batches[TopicPartition(topic, partition)]
                if code == 0:
                    batch.write_down(positions, partition, offset)
                elif getattr(for_code(code), "retriable", False):
                    refused.append(batch)
                else:
                    raise for_code(code)(f"{topic}[{partition}]")
        return refused


def _builder() -> Any:
    return DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=BATCH_MAX_BYTES,
    )


async def _together(calls: Sequence[Any]) -> Iterable[list[_Batch]]:
    """Await calls at once; a lone one without a task of its own."""
    if len(calls) == 1:
        return [await calls[0]]
    found: list[list[_Batch]] = await asyncio.gather(*calls)
    return found

"""replay → events and labels topics: each record once, even when the sender is killed.

Every record carries the header `riskbeat-replay: RUN:NUMBER`. A resumed replay reads the records
after its saved positions, and so knows per partition the highest number that the log took. A
partition takes numbers in ascending order, so whatever is missing lies above that.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata

from pipeline.replay_ports import Batch, TargetFailed
from pipeline.replay_rows import EVENT

HEADER: Final = "riskbeat-replay"
BATCH_BYTES: Final = 512 * 1024
REQUEST_BYTES: Final = 2 * 1024 * 1024
FLIGHTS_MAX: Final = 16  # batches that wait for their acknowledgement
PLACED_KEYS_MAX: Final = 200_000
SETTLE_S: Final = 1.0  # a killed sender's last request is in the log by then, or never
TAIL_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch on its way: the first number after it, and the answers for its parts."""

    end: int
    parts: list[tuple[TopicPartition, int, asyncio.Future[RecordMetadata]]]


class KafkaTarget:
    """Sends a replay to the events and the labels topic (a `ReplayTarget`)."""

    def __init__(self, kafka_options: Mapping[str, Any], events: str, labels: str) -> None:
        """Hold what is needed; nothing is connected before `start`."""
        self._options = dict(kafka_options)
        self._topics = (events, labels)
        self._partitioner = DefaultPartitioner()
        self._partitions: tuple[list[int], list[int]] = ([], [])
        self._placed: dict[bytes, int] = {}
        self._producer: AIOKafkaProducer | None = None
        self._run_id = ""
        self._sent: dict[TopicPartition, int] = {}  # highest number found in the log on resumption
        self._flights: deque[_Flight] = deque()
        self._acked = 0
        self._positions: dict[str, int] = {}

    async def start(self) -> None:
        """Connect, and look up the partitions.

        Raises:
            TargetFailed: No broker, or a topic is not there.
        """
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES,
        )
        self._producer = producer
        try:
            await producer.start()
            for topic, partitions in zip(self._topics, self._partitions, strict=True):
                partitions.extend(sorted(await producer.partitions_for(topic)))
        except KafkaError as error:
            raise TargetFailed(f"Kafka: {type(error).__name__}: {error}") from error

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def begin(self, run_id: str, positions: dict[str, int] | None) -> dict[str, int]:
        """Note the ends of both topics; on resumption, find what the earlier run sent."""
        self._run_id = run_id
        consumer = AIOKafkaConsumer(
            **self._options, enable_auto_commit=False, auto_offset_reset="none"
        )
        places = [
            TopicPartition(topic, partition)
            for topic, partitions in zip(self._topics, self._partitions, strict=True)
            for partition in partitions
        ]
        try:
            await consumer.start()
            if positions is None:
                ends = await consumer.end_offsets(places)
            else:
                await asyncio.sleep(SETTLE_S)
                ends = await consumer.end_offsets(places)
                async with asyncio.timeout(TAIL_TIMEOUT_S):
                    await self._find_sent(consumer, positions, ends)
        except (KafkaError, TimeoutError) as error:
            raise TargetFailed(f"Kafka: {type(error).__name__}: {error}") from error
        finally:
            await consumer.stop()
        self._positions = positions or {_name(place): end for place, end in ends.items()}
        return dict(self._positions)

    async def _find_sent(
        self,
        consumer: AIOKafkaConsumer,
        positions: Mapping[str, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Read from the saved positions to the ends; note the highest number per partition."""
        begins = await consumer.beginning_offsets(list(ends))
        from_offset = {place: positions.get(_name(place), begins[place]) for place in ends}
        unread = {place for place, end in ends.items() if from_offset[place] < end}
        if not unread:
            return
        consumer.assign(sorted(unread))
        for place in unread:
            consumer.seek(place, max(from_offset[place], begins[place]))
        mark = f"{self._run_id}:".encode()
        while unread:
            for place, records in (await consumer.getmany(timeout_ms=200)).items():
                for record in records:
                    for name, value in record.headers:
                        if name == HEADER and value.startswith(mark):
                            number = int(value[len(mark) :])
                            self._sent[place] = max(self._sent.get(place, -1), number)
            for place in list(unread):
                if await consumer.position(place) >= ends[place]:
                    unread.discard(place)

    async def send_many(self, batch: Batch) -> None:
        """Hand the items to the producer, each partition's in order."""
        assert self._producer is not None
        parts: dict[TopicPartition, list[int]] = {}
        for row, (kind, key) in enumerate(zip(batch.kinds, batch.keys, strict=True)):
            place = self._place_of(kind, key)
            if batch.first + row > self._sent.get(place, -1):
                parts.setdefault(place, []).append(row)
        flight = _Flight(batch.first + len(batch), [])
        try:
            sends = (self._send_part(batch, place, rows) for place, rows in parts.items())
            for sent in await asyncio.gather(*sends):
                flight.parts.extend(sent)
        except KafkaError as error:
            raise TargetFailed(f"Kafka: {type(error).__name__}: {error}") from error
        self._flights.append(flight)
        while len(self._flights) > FLIGHTS_MAX:
            await self._land()
        while self._flights and all(answer.done() for *_, answer in self._flights[0].parts):
            await self._land()

    async def _send_part(
        self, batch: Batch, place: TopicPartition, rows: Sequence[int]
    ) -> list[tuple[TopicPartition, int, asyncio.Future[RecordMetadata]]]:
        """Send rows to one partition; a record set that is full leaves, and another is begun."""
        assert self._producer is not None
        sent = []
        builder = self._producer.create_batch()
        for row in rows:
            headers = [(HEADER, b"%s:%d" % (self._run_id.encode(), batch.first + row))]
            record = {"key": batch.keys[row], "value": batch.bodies[row], "headers": headers}
            if builder.append(timestamp=None, **record) is None:
                sent.append((place, builder.record_count(), await self._submit(builder, place)))
                builder = self._producer.create_batch()
                if builder.append(timestamp=None, **record) is None:
                    raise TargetFailed(f"item {batch.first + row} is larger than {BATCH_BYTES}")
        sent.append((place, builder.record_count(), await self._submit(builder, place)))
        return sent

    async def _submit(self, builder: Any, place: TopicPartition) -> asyncio.Future[RecordMetadata]:
        assert self._producer is not None
        answer: asyncio.Future[RecordMetadata] = await self._producer.send_batch(
            builder, place.topic, partition=place.partition
        )
        return answer

    def _place_of(self, kind: int, key: bytes) -> TopicPartition:
        """Choose the partition as any producer with Kafka's default partitioner does."""
        which = 0 if kind == EVENT else 1
        partitions = self._partitions[which]
        if kind != EVENT:  # each label's key is new
            return TopicPartition(self._topics[1], self._partitioner(key, partitions, partitions))
        partition = self._placed.get(key)
        if partition is None:
            if len(self._placed) >= PLACED_KEYS_MAX:
                self._placed.clear()
            partition = self._placed[key] = self._partitioner(key, partitions, partitions)
        return TopicPartition(self._topics[0], partition)

    async def _land(self) -> None:
        """Wait for the oldest flight; positions never run ahead of the acknowledged number."""
        flight = self._flights[0]
        landed: dict[str, int] = {}
        try:
            for place, records, answer in flight.parts:
                metadata = await answer
                landed[_name(place)] = metadata.offset + records
        except KafkaError as error:
            raise TargetFailed(f"Kafka: {type(error).__name__}: {error}") from error
        self._positions.update(landed)
        self._flights.popleft()
        self._acked = flight.end

    async def flush(self) -> None:
        """Wait until everything is acknowledged."""
        while self._flights:
            await self._land()

    def acked(self) -> tuple[int, dict[str, int]]:
        """Return the number below which all items are acknowledged, and the positions then."""
        return self._acked, dict(self._positions)


def _name(place: TopicPartition) -> str:
    return f"{place.topic}:{place.partition}"

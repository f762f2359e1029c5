"""Faust's transport, one message per fetched batch instead of one per record.

Faust's own path costs 60 µs a message; a batch of records as one message costs them once. Offsets
are ours: on assignment the worker says where to read, and Faust commits and acknowledges nothing.
The consumer is made here with the broker options of all our clients, so that TLS and SASL mean the
same everywhere.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiokafka
import faust
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError, NoOffsetForPartitionError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.app.base import BootStrategy as FaustBoot
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from pipeline.featurize import Place
from pipeline.mailbox import Batch

HEARTBEATS_PER_SESSION = 12  # the living hear of a death by their next one

Assign = Callable[[list[Place]], Awaitable[Mapping[Place, int]]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """One step's records of one fetch, and which reading of the log they belong to."""

    reading: int
    batch: Batch


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How the consumer talks to the broker.

    Attributes:
        kafka_options: As every aiokafka client takes them (servers, TLS, SASL).
        group: Consumer group.
        instance_id: Static membership, if given.
        session_timeout_s: After so long without a heartbeat a dead worker's partitions move.
        max_poll_interval_s: After so long without a fetch this worker is taken for dead.
        max_records: Of one batch, over all partitions.
        fetch_max_wait_s: How long the broker may hold a fetch when nothing is there.
        fetch_max_bytes: Of one partition in one fetch.
    """

    kafka_options: Mapping[str, Any]
    group: str
    instance_id: str | None
    session_timeout_s: float
    max_poll_interval_s: float
    max_records: int
    fetch_max_wait_s: float
    fetch_max_bytes: int


class BatchApp(faust.App):
    """A Faust app that is fed with batches, from where our store says.

    Attributes:
        step_of_topic: Names the step that takes a topic's records.
        assign_partitions: Names the offset at which to read each assigned partition.
    """

    consumer_options: ConsumerOptions
    step_of_topic: Callable[[str], str]
    assign_partitions: Assign

    class BootStrategy(FaustBoot):
        """Starts no producer of Faust's: ours is idempotent, and its failures end the process."""

        enable_kafka_producer = False
        enable_web = False

    def _new_transport(self) -> "BatchTransport":
        return BatchTransport(self.conf.broker_consumer, self)


class _ConsumerHere(driver.AIOKafkaConsumerThread):
    """What Faust runs in a thread of its own, in the worker's own loop, with our options.

    Two threads hand one interpreter lock to and fro: each batch cost two hops of up to 5 ms under
    load. What the thread was for, heartbeats while a step computes, needs no thread here: no step
    holds the loop for long, and `LoopGuard` ends a worker whose loop does not turn.
    """

    def __init__(self, consumer: "BatchConsumer", **kwargs: Any) -> None:
        """Make Faust's consumer service over the loop that runs now."""
        super().__init__(consumer, thread_loop=asyncio.get_running_loop(), **kwargs)

    async def start(self) -> None:
        """Run as a task of this loop; returns when the consumer has started."""
        self._thread_started.set()
        started = self._thread_running = asyncio.get_running_loop().create_future()
        self._serving = asyncio.create_task(self._serve())
        try:
            await started
        finally:
            self._thread_running = None

    async def _gather_remaining_tasks(self) -> None:
        """Leave the tasks of the loop alone: they are not only ours."""

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 (Faust's signature)
        """Return what was fetched, without a queue between: there is no other thread."""
        consumer = self._ensure_consumer()
        return await self._fetch_records(
            consumer,
            active_partitions or set(),
            timeout=timeout,
            max_records=consumer._max_poll_records,
        )

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        options = cast(BatchApp, self.app).consumer_options
        self._assignor = RoundRobinPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            **options.kafka_options,
            group_id=options.group,
            group_instance_id=options.instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_poll_records=options.max_records,
            max_poll_interval_ms=int(options.max_poll_interval_s * 1000),
            session_timeout_ms=int(options.session_timeout_s * 1000),
            heartbeat_interval_ms=int(options.session_timeout_s * 1000 / HEARTBEATS_PER_SESSION),
            rebalance_timeout_ms=int(options.session_timeout_s * 1000),
            fetch_max_wait_ms=int(options.fetch_max_wait_s * 1000),
            max_partition_fetch_bytes=options.fetch_max_bytes,
        )


class BatchConsumer(driver.Consumer):
    """Yields a `Fetched` per message, and reads where the worker says.

    Attributes:
        reading: Number of the reading; None while it begins, and before the first.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make Faust's consumer, which has not read yet."""
        super().__init__(*args, **kwargs)
        self.reading: int | None = None
        self._readings = 0
        self._beginning = asyncio.Lock()

    def _new_consumer_thread(self) -> _ConsumerHere:
        return _ConsumerHere(self, loop=self.loop, beacon=self.beacon)

    def on_buffer_full(self, tp: TP) -> None:
        """Leave the partition in the fetch: the full queue holds the whole loop back."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing was taken out of the fetch."""

    async def perform_seek(self) -> None:
        """Begin another reading: seek every partition to the offset that the worker names.

        What was fetched in an earlier one, or while this one was beginning, must not be used: its
        records need not follow on the offsets that were named.
        """
        async with self._beginning:
            self.reading = None
            self._readings += 1
            assigned = [Place(*tp) for tp in sorted(self.assignment())]
            offsets = await cast(BatchApp, self.app).assign_partitions(assigned)
            for place, offset in offsets.items():
                await self.seek_place(place, offset)
            self.reading = self._readings

    async def seek_place(self, place: Place, offset: int) -> None:
        """Read a partition on from an offset, dropping what was fetched of it."""
        await self._thread.call_thread(self._seek_in_thread, TopicPartition(*place), offset)
        self._read_offset.pop(TP(*place), None)

    async def follow(self, offsets: Mapping[Place, int], *, fetch: bool) -> None:
        """Fetch these partitions from their offsets on, or leave them out of the fetches."""
        marks = {TopicPartition(*place): offset for place, offset in offsets.items()}
        await self._thread.call_thread(self._follow_in_thread, marks, fetch)

    async def _follow_in_thread(self, marks: Mapping[TopicPartition, int], fetch: bool) -> None:
        consumer = self._thread._ensure_consumer()
        for partition in consumer.assignment() & marks.keys():
            if fetch:
                consumer.seek(partition, marks[partition])
                consumer.resume(partition)
            else:
                consumer.pause(partition)

    async def _seek_in_thread(self, partition: TopicPartition, offset: int) -> None:
        consumer = self._thread._ensure_consumer()
        if partition in consumer.assignment():
            consumer.seek(partition, offset)

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 (Faust's signature)
    ) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield one message for the records of each step's topics."""
        generation_id, reading = self.app.consumer_generation_id, self.reading
        try:
            records, active = await self._wait_next_records(timeout)
        except NoOffsetForPartitionError:  # just assigned: where to read is named in a moment
            return
        if not records or self.should_stop:
            return
        if not self.flow_active or reading is None or reading != self.reading:
            await self.perform_seek()  # these are lost to us, and the client has gone on
            return
        for batch in self._by_step(records, active or set()):
            if not self.flow_active or reading != self.reading:
                return
            place, first = batch[0]
            tp = TP(*place)
            self._read_offset.pop(tp, None)  # offsets are ours: nothing is skipped by Faust's
            yield (
                tp,
                ConsumerMessage(
                    *place,
                    first[0].offset,
                    first[0].timestamp / 1000,
                    first[0].timestamp_type,
                    None,
                    None,
                    cast(Any, Fetched(reading, batch)),
                    None,
                    0,
                    0,
                    tp,
                    generation_id=generation_id,
                ),
            )

    def _by_step(self, records: Mapping[TP, Sequence[Any]], active: set[TP]) -> Iterator[Batch]:
        step_of_topic = cast(BatchApp, self.app).step_of_topic
        steps: dict[str, Batch] = {}
        for tp, batch in records.items():
            if batch and tp in active:
                step = step_of_topic(tp.topic)
                steps.setdefault(step, []).append((Place(tp.topic, tp.partition), batch))
        yield from steps.values()

    async def bounds(self, places: Sequence[Place]) -> Mapping[Place, tuple[int, int]]:
        """Ask the broker where partitions begin and end."""
        partitions = [TopicPartition(*place) for place in places]
        return await self._thread.call_thread(self._bounds_in_thread, partitions)  # type: ignore[no-any-return]

    async def _bounds_in_thread(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[Place, tuple[int, int]]:
        consumer = self._thread._ensure_consumer()
        begins, ends = await asyncio.gather(
            consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        )
        return {Place(*tp): (begins[tp], ends[tp]) for tp in partitions}

    def drained_until_ms(self, place: Place, next_offset: int) -> int | None:
        """Return when the last fetch saw the partition end at `next_offset`, in UTC ms."""
        partition = TopicPartition(*place)
        consumer = self._thread._ensure_consumer()
        if partition not in consumer.assignment():
            return None
        end = consumer.highwater(partition)
        polled_ms = consumer.last_poll_timestamp(partition)
        return int(polled_ms) if end is not None and polled_ms and end <= next_offset else None

    async def commit_for_tools(self, offsets: Mapping[Place, int]) -> str | None:
        """Commit offsets where lag tools look; return what went wrong, which hurts nobody."""
        marks = {TopicPartition(*place): OffsetAndMetadata(o, "") for place, o in offsets.items()}
        try:
            await self._thread.call_thread(self._commit_in_thread, marks)
        except KafkaError as error:
            return f"{type(error).__name__}: {error}"
        return None

    async def _commit_in_thread(self, marks: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        consumer = self._thread._ensure_consumer()
        owned = {tp: mark for tp, mark in marks.items() if tp in consumer.assignment()}
        if owned:
            await consumer.commit(owned)


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with the batch consumer."""

    Consumer = BatchConsumer

"""events.v1 → decisions.v1: the stream door to the same step.

The loop: 1 poll · 2 parse, count what cannot be read (its dead letter is the featurize router's) ·
3 decide · 4 record · 5 commit, once every decision of the batch is acknowledged.
A crash between 4 and 5 decides events again under the same decision ids; of several records of
one id the lowest offset counts. One batch is recorded while the next is decided.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.structs import ConsumerRecord

from api.answer import DECIDED_HEADER
from api.decide import Decider
from api.metrics import ServeMetrics
from api.publish import LogUnavailable
from api.seen import Asked
from api.stop_kafka import stop_consumer
from api.trace import trace_decided
from features.cloud_event import plain_of_record
from features.event import EventRejected, EventRules, parse_event
from features.topics import Topics
from features.trace import NO_TRACE, Headers, OpenSpan, Tracer, draw, trace_in
from models.decision import DecisionRecord, Source
from models.decision_cloud import Stamp
from models.decision_codec import encode_record

POLL_S = 0.2
PRODUCE_BATCH_BYTES = 512 * 1024
RECORD_MAX_BYTES = 1_048_576
DOOR: Literal["stream"] = "stream"


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of the stream door.

    Attributes:
        batch_max: Events decided together.
        features_timeout_s: Longest wait for the store; after it decisions are degraded.
        ack_timeout_s: Longest wait for the acks of one batch; after it the process stops.
        session_timeout_s: Silence after which the group gives our partitions away.
    """

    batch_max: int
    features_timeout_s: float
    ack_timeout_s: float
    session_timeout_s: float


class _Taken(NamedTuple):
    """One event to decide.

    Attributes:
        appended_ms: When the log took it.
        trace: The trace context of its decision's record.
        begun: Its span, if it is traced.
    """

    asked: Asked
    appended_ms: int
    trace: Headers
    begun: OpenSpan | None


class StreamDoor:
    """One member of the group that decides the events topic."""

    def __init__(
        self,
        kafka_options: Mapping[str, Any],
        topics: Topics,
        group: str,
        rules: EventRules,
        decider: Decider,
        metrics: ServeMetrics,
        limits: StreamLimits,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.perf_counter,
        stamp: Stamp | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Keep the parts; nothing connects before `run`.

        Args:
            kafka_options: Addresses and security, as aiokafka's clients take them.
            topics: Names of the log.
            group: Whose committed offsets say what is decided: `{prefix}decide`.
            rules: What the spec allows.
            decider: The step, shared with the HTTP door.
            metrics: Where decisions are counted.
            limits: Bounds.
            now_ms: Wall clock, milliseconds since 1970.
            clock: Monotonic seconds.
            stamp: Makes CloudEvents of the decisions; None: they are plain.
            tracer: Takes spans; none where nothing is traced.
        """
        self._options = dict(kafka_options)
        self._topics = topics
        self._group = group
        self._rules = rules
        self._decider = decider
        self._metrics = metrics
        self._limits = limits
        self._now_ms = now_ms
        self._clock = clock
        self._stamp = stamp
        self._tracer = tracer
        self._recording: asyncio.Task[None] | None = None
        self._next: dict[TopicPartition, int] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Decide events until told to stop; what was fetched is decided and committed first.

        Raises:
            LogUnavailable: The log failed, or did not acknowledge a batch in time; what was not
                committed is decided again by whoever comes next.
        """
        try:
            await self._run(stopping)
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogUnavailable(str(error) or type(error).__name__) from error

    async def _run(self, stopping: asyncio.Event) -> None:
        producer = AIOKafkaProducer(
            **self._options,
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            max_batch_size=PRODUCE_BATCH_BYTES,
            max_request_size=RECORD_MAX_BYTES,
        )
        consumer = AIOKafkaConsumer(
            **self._options,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._limits.session_timeout_s * 1000),
            max_poll_records=self._limits.batch_max,
        )
        consumer.subscribe([self._topics.events], listener=_Handover(self._recorded))
        try:
            await producer.start()
            await consumer.start()
            while not stopping.is_set():
                await self._step(consumer, producer)
            await self._recorded()
        finally:
            if self._recording is not None:
                self._recording.cancel()
            await stop_consumer(consumer)
            await producer.stop()

    async def _step(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        fetched = await consumer.getmany(
            timeout_ms=int(POLL_S * 1000), max_records=self._limits.batch_max
        )
        self._tell_lag(consumer, {part: taken[-1].offset + 1 for part, taken in fetched.items()})
        if not fetched:
            await self._recorded()
            return
        began = self._clock()
        taken = [one for records in fetched.values() for one in self._parse(records)]
        records: list[DecisionRecord] = []
        if taken:
            events = [one.asked for one in taken]
            records = await self._decider.decide_many(events, self._limits.features_timeout_s)
            self._metrics.observe_batch(records, DOOR, self._clock() - began)
        await self._recorded()
        offsets = {part: batch[-1].offset + 1 for part, batch in fetched.items()}
        self._recording = asyncio.create_task(
            self._record(consumer, producer, records, taken, offsets)
        )

    def _tell_lag(self, consumer: AIOKafkaConsumer, taken: Mapping[TopicPartition, int]) -> None:
        """Show what the broker told of and was not taken; of what was never fetched, nothing."""
        owned = consumer.assignment()
        self._next = {part: at for part, at in {**self._next, **taken}.items() if part in owned}
        behind = ((consumer.highwater(part) or 0) - at for part, at in self._next.items())
        self._metrics.backlog.stream_lag.set(sum(max(0, records) for records in behind))

    def _parse(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[_Taken]:
        """Return what is to be decided."""
        taken: list[_Taken] = []
        drawn: dict[int, str] = {}
        if self._tracer is not None:
            drawn = _drawn(records, self._tracer.share)
        for record in records:
            if any(name == DECIDED_HEADER[0] for name, _ in record.headers):
                self._metrics.skipped.inc()
                continue
            try:
                body = record.value or b""
                if record.headers:
                    body = plain_of_record(record.headers, body)
                event = parse_event(body, self._rules, record.timestamp)
            except EventRejected as error:
                self._metrics.rejected.labels(error.code).inc()
                continue
            source = Source(
                door=DOOR, topic=record.topic, partition=record.partition, offset=record.offset
            )
            trace, begun = trace_in(record.headers) if record.headers else NO_TRACE, None
            if self._tracer is not None and (trace or record.offset in drawn):
                begun = self._tracer.begin(trace, drawn.get(record.offset, ""))
                if begun is not None:
                    begun = begun._replace(began_ns=record.timestamp * 1_000_000)
                    trace = begun.headers
            taken.append(_Taken(Asked(event, source), record.timestamp, trace, begun))
        return taken

    async def _record(
        self,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
        records: Sequence[DecisionRecord],
        taken: Sequence[_Taken],
        offsets: Mapping[TopicPartition, int],
    ) -> None:
        """Send the decisions, wait for their acks, and commit the events' offsets."""
        async with asyncio.timeout(self._limits.ack_timeout_s):
            if records:
                await self._send(producer, records, [one.trace for one in taken])
                self._observe(records, taken)
            try:
                await consumer.commit(dict(offsets))
            except (CommitFailedError, IllegalStateError):
                return  # the partitions are somebody else's now, who decides them again

    def _observe(self, records: Sequence[DecisionRecord], taken: Sequence[_Taken]) -> None:
        """Measure, and trace, decisions that are recorded."""
        now_ms = self._now_ms()
        took = self._metrics.decision_seconds.labels(DOOR)
        for one in taken:
            example = None if one.begun is None else {"trace_id": one.begun.trace_id}
            took.observe(max(0, now_ms - one.appended_ms) / 1000, example)
        if self._tracer is not None:
            trace_decided(self._tracer, [one.begun for one in taken], records, DOOR)

    async def _send(
        self,
        producer: AIOKafkaProducer,
        records: Sequence[DecisionRecord],
        traces: Sequence[Headers],
    ) -> None:
        topic = self._topics.decisions
        partitions = await producer.partitions_for(topic)
        count = len(partitions)
        acks: list[asyncio.Future[Any]] = []
        builders: dict[int, Any] = {}
        for record, trace in zip(records, traces, strict=True):
            key, value = record.decision_id.encode(), encode_record(record)
            partition = (murmur2(key) & 0x7FFFFFFF) % count  # as every Kafka client places a key
            builder = builders.get(partition)
            if builder is None:
                builder = builders[partition] = producer.create_batch()
            headers = list(trace)
            if self._stamp is not None:
                headers = [*self._stamp.headers_of(record), *headers]
            if builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
                acks.append(await producer.send_batch(builder, topic, partition=partition))
                builder = builders[partition] = producer.create_batch()
                again = builder.append(key=key, value=value, timestamp=None, headers=headers)
                assert again is not None
        for partition, builder in builders.items():
            acks.append(await producer.send_batch(builder, topic, partition=partition))
        await asyncio.gather(*acks)

    async def _recorded(self) -> None:
        """Wait until the batch before is acknowledged and committed; raise what stopped it."""
        recording, self._recording = self._recording, None
        if recording is not None:
            await recording


def _drawn(records: Sequence[ConsumerRecord[bytes, bytes]], share: float) -> dict[int, str]:
    """Return the contexts that events of one partition have if they came without one, by offset."""
    offsets = [record.offset for record in records]
    return draw(records[0].topic, records[0].partition, offsets, share)


class _Handover(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Finishes the batch in flight before partitions go to another member."""

    def __init__(self, recorded: Callable[[], Any]) -> None:
        self._recorded = recorded

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._recorded()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        return

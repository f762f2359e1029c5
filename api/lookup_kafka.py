"""decisions.v1 → the index of decisions: one process of a machine.

The loop: 1 poll · 2 parse · 3 write rows and positions in one transaction. Nothing is committed in
Kafka: the positions stand beside the rows that they speak of.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from api.lookup import key_of
from api.lookup_sqlite import Row, SqliteWriter
from api.publish import LogUnavailable
from features.event_wire import UNREADABLE
from models.decision import Decision
from models.decision_codec import encode_decision

FETCH_MAX_RECORDS: Final = 2_000
FETCH_MIN_BYTES: Final = 1 << 20
"""The broker waits for so much, `GATHER_S` at most."""
POLL_S: Final = 0.5
GATHER_S: Final = 0.1
"""Pause between two polls: a poll and a transaction cost much more than what they bring each."""
HEARTBEAT_S: Final = 1.0
"""An index with nothing to do says that it is up to date so often."""


class _Recorded(Decision, frozen=True, kw_only=True):
    """A record of `decisions.v1`, of which the vector and its like are not decoded."""

    tenant: str
    decided_at_ms: int


_records = msgspec.json.Decoder(_Recorded)
_NAMES: Final = Decision.__struct_fields__


class Told(Protocol):
    """Who hears of the index, for the log."""

    def indexed(self, rows: int, unreadable: int) -> None:
        """Records were read; so many were none of ours."""

    def index_begun(self, why: str) -> None:
        """The index does not go on where it stood; says why."""


class IndexFeeder:
    """Keeps the index up with the topic."""

    def __init__(
        self,
        kafka_options: Mapping[str, Any],
        topic: str,
        writer: SqliteWriter,
        horizon_s: float,
        told: Told,
        now_ms: Callable[[], int],
    ) -> None:
        """Keep the parts; nothing connects before `run`."""
        self._options = dict(kafka_options)
        self._topic = topic
        self._writer = writer
        self._horizon_ms = int(horizon_s * 1000)
        self._told = told
        self._now_ms = now_ms
        self._newest_ms: dict[int, int] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Index until told to stop.

        Raises:
            LogUnavailable: The log failed; what was not written is read again.
        """
        consumer = AIOKafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_min_bytes=FETCH_MIN_BYTES,
            fetch_max_wait_ms=int(GATHER_S * 1000),
        )
        try:
            await consumer.start()
            await self._run(consumer, stopping)
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogUnavailable(str(error) or type(error).__name__) from error
        finally:
            await consumer.stop()

    async def _run(self, consumer: AIOKafkaConsumer, stopping: asyncio.Event) -> None:
        partitions = await _partitions_of(self._options, self._topic, stopping)
        if stopping.is_set():
            return
        consumer.assign(partitions)
        await self._seek(consumer, partitions)
        as_of_ms, looked_at = 0, float("-inf")
        while not stopping.is_set():
            fetched = await consumer.getmany(
                timeout_ms=int(POLL_S * 1000), max_records=FETCH_MAX_RECORDS
            )
            rows, positions = self._parse(fetched)
            due = time.monotonic() - looked_at >= HEARTBEAT_S
            if due:
                as_of_ms, looked_at = await self._as_of(consumer, partitions), time.monotonic()
            if rows or positions or due:
                await asyncio.to_thread(
                    self._writer.commit, rows, positions, as_of_ms, self._now_ms()
                )
            if rows:
                await _pause(stopping)

    async def _seek(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        """Go on where the index stands; where the log does not have that, begin within the horizon.

        A position beyond the log's end means that it is another log: then all begins anew.
        """
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        stood = self._writer.positions()
        if any(stood.get(tp.partition, 0) > ends[tp] for tp in partitions):
            self._told.index_begun("the log ends before the index does: it is another log")
            self._writer.begin_anew()
            stood = {}
        since = self._now_ms() - self._horizon_ms
        firsts = await consumer.offsets_for_times(dict.fromkeys(partitions, since))
        for tp in partitions:
            first = firsts.get(tp)
            fresh = ends[tp] if first is None else max(first.offset, begins[tp])
            consumer.seek(tp, max(stood.get(tp.partition, fresh), begins[tp]))

    def _parse(
        self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]]
    ) -> tuple[list[Row], dict[int, int]]:
        rows: list[Row] = []
        positions: dict[int, int] = {}
        unreadable = 0
        for tp, records in fetched.items():
            for record in records:
                row = row_of(record.value or b"", tp.partition, record.offset)
                if row is None:
                    unreadable += 1
                else:
                    rows.append(row)
            positions[tp.partition] = records[-1].offset + 1
            self._newest_ms[tp.partition] = records[-1].timestamp
        if positions:
            self._told.indexed(len(rows), unreadable)
        return rows, positions

    async def _as_of(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> int:
        """Return up to when every record of the log is read."""
        asked_ms = self._now_ms()
        ends = await consumer.end_offsets(partitions)
        oldest_ms = asked_ms
        for tp in partitions:
            if await consumer.position(tp) < ends[tp]:
                oldest_ms = min(oldest_ms, self._newest_ms.get(tp.partition, 0))
        return oldest_ms


def row_of(value: bytes, partition: int, offset: int) -> Row | None:
    """Return a record of `decisions.v1` as a row; None if it is none of ours."""
    try:
        record = _records.decode(value)
    except UNREADABLE:
        return None
    key = key_of(record.decision_id)
    if key is None:
        return None
    answer = Decision(**{name: getattr(record, name) for name in _NAMES})
    body = encode_decision(answer)
    return Row(key, partition, offset, record.decided_at_ms, record.tenant, body)


async def _pause(stopping: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GATHER_S):
            await stopping.wait()


async def _partitions_of(
    options: Mapping[str, Any], topic: str, stopping: asyncio.Event
) -> list[TopicPartition]:
    """Return the partitions; a topic that is not there yet is waited for."""
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        while not stopping.is_set():
            [described] = await admin.describe_topics([topic])
            numbers = [partition["partition"] for partition in described["partitions"]]
            if numbers:
                return [TopicPartition(topic, number) for number in sorted(numbers)]
            await asyncio.sleep(POLL_S)
        return []
    finally:
        await admin.close()

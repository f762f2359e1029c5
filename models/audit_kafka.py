"""The audit log as a Kafka topic of one partition: appended to by whoever acts, never rewritten.

Acts are rare, so each opens its own connections, and a process holds none for them.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from models.audit import AuditUnavailable, Entry, Kept, decode_entry, encode_entry
from models.audit_chain import Claim, Link, claim_at_end

APPEND_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
TAIL_RECORDS = 64
"""Read before an entry is added; the whole topic only if these hold nothing to go on from."""
POLL_TIMEOUT_MS = 500


class KafkaAuditLog:
    """`audit.AuditLog` on a topic."""

    def __init__(self, kafka_options: Mapping[str, Any], topic: str) -> None:
        """Hold what clients are made with; nothing connects before it is needed."""
        self._options = dict(kafka_options)
        self._topic = topic
        self._partition = TopicPartition(topic, 0)

    async def append(self, entry: Entry) -> None:
        """Add an entry with a claim; see the port."""
        async with self._asking(APPEND_TIMEOUT_S):
            claim = await self._claim()
            data = encode_entry(msgspec.structs.replace(entry, claim=claim))
            producer = AIOKafkaProducer(**self._options, acks="all", enable_idempotence=True)
            await producer.start()
            try:
                key = entry.act.subject.encode()
                await producer.send_and_wait(self._topic, data, key=key, partition=0)
            finally:
                await producer.stop()

    async def read(self) -> list[Kept]:
        """Return all that the log holds; see the port."""
        async with self._asking(READ_TIMEOUT_S), self._consumer() as consumer:
            begin, end = await self._bounds(consumer)
            return await self._read(consumer, begin, end)

    async def _claim(self) -> Claim | None:
        async with self._consumer() as consumer:
            begin, end = await self._bounds(consumer)
            first = max(begin, end - TAIL_RECORDS)
            tail = await self._read(consumer, first, end)
            claim = claim_at_end(_links(tail), first, end)
            if claim is None and first > begin:
                whole = await self._read(consumer, begin, end)
                claim = claim_at_end(_links(whole), begin, end)
            return claim

    async def _bounds(self, consumer: AIOKafkaConsumer) -> tuple[int, int]:
        place = self._partition
        begin = (await consumer.beginning_offsets([place]))[place]
        return begin, (await consumer.end_offsets([place]))[place]

    async def _read(self, consumer: AIOKafkaConsumer, first: int, end: int) -> list[Kept]:
        place = self._partition
        consumer.seek(place, first)
        found: list[Kept] = []
        while await consumer.position(place) < end:
            batch = (await consumer.getmany(place, timeout_ms=POLL_TIMEOUT_MS)).get(place, [])
            found += [
                Kept(r.offset, r.timestamp, r.value or b"", decode_entry(r.value or b"", r.offset))
                for r in batch
                if r.offset < end
            ]
        return found

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **self._options, group_id=None, enable_auto_commit=False, auto_offset_reset="none"
        )
        try:
            await consumer.start()
            if self._topic not in await consumer.topics():
                raise AuditUnavailable(f"no topic {self._topic}: `riskbeat topics` makes it")
            consumer.assign([self._partition])
            yield consumer
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def _asking(self, timeout_s: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except (KafkaError, OSError, TimeoutError) as error:
            if isinstance(error, AuditUnavailable):
                raise
            detail = str(error) or f"no answer within {timeout_s:g} s"
            raise AuditUnavailable(f"the audit log {self._topic} is away: {detail}") from error


def _links(rows: Sequence[Kept]) -> list[Link]:
    return [Link(row.offset, row.data, row.entry.claim) for row in rows]

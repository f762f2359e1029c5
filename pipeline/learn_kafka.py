"""The learner's log in Kafka: partitions assigned by hand, offsets its own, every send awaited."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from features.event import EventRejected
from features.topics import Topics
from features.trace import sampled_in
from pipeline.dead import dead_letter
from pipeline.join import Outgoing
from pipeline.learn_ports import Polled, Taken
from pipeline.merge import Merge
from pipeline.pieces import CUTS_HEADER, chain_of, pieces_of, reach_back_to
from pipeline.source_records import Reject
from pipeline.versions_kafka import KafkaVersions, LogSilent

POLL_MAX_RECORDS = 2_000
FETCH_MAX_WAIT_MS = 500
MERGE_PATIENCE_S = 2.0  # a partition whose end shows and does not come holds others up so long
METADATA_TIMEOUT_S = 30.0
METADATA_RETRY_S = 0.2
SEND_TIMEOUT_S = 30.0
MAX_REQUEST_BYTES = 9 * 1024 * 1024

Letter = tuple[str, int | None, bytes | None, bytes, Sequence[tuple[str, bytes]]]


class LogMoved(RuntimeError):
    """The log no longer holds what the checkpoint wants to read next."""


class KafkaLearnLog:
    """`learn_loop.LearnLog` on Kafka. One event loop, one owner."""

    def __init__(
        self,
        kafka_options: Mapping[str, Any],
        topics: Topics,
        spec_digest: str,
        model: str,
        now_ms: Callable[[], int],
        poll_max_records: int = POLL_MAX_RECORDS,
        *,
        traced: bool = False,
    ) -> None:
        """Hold what clients are made with; nothing is connected before `start`.

        Unless it is `traced`, contexts beside records are not looked at.
        """
        self._options = dict(kafka_options)
        self._topics = topics
        self._model = model
        self._now_ms = now_ms
        self._max_records = poll_max_records
        self._traced = traced
        self._read = (topics.decisions, topics.labels)
        self._weights = TopicPartition(topics.weights(spec_digest), 0)
        self._next: dict[TopicPartition, int] = {}
        self._clients: list[AIOKafkaConsumer | AIOKafkaProducer] = []

    async def start(self) -> None:
        """Connect.

        Raises:
            LogSilent: No broker answers, or a topic is missing.
        """
        consumer = AIOKafkaConsumer(
            **self._options,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        )
        producer = AIOKafkaProducer(
            **self._options | {"request_timeout_ms": int(SEND_TIMEOUT_S * 1000)},
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_request_size=MAX_REQUEST_BYTES,
        )
        self._consumer, self._producer = consumer, producer
        self._clients = [consumer, producer]
        try:
            for client in self._clients:
                await client.start()
        except KafkaError as error:
            raise LogSilent(f"{type(error).__name__}: {error}") from error

    async def stop(self) -> None:
        """Disconnect; without effect before `start`."""
        for client in self._clients:
            await client.stop()

    async def start_at(self, offsets: dict[str, int]) -> None:
        """Assign every partition and seek; see the port.

        Raises:
            LogMoved: An offset lies outside of what the log holds.
        """
        partitions = [tp for topic in self._read for tp in await self._partitions_of(topic)]
        self._merge: Merge[TopicPartition, ConsumerRecord] = Merge(partitions)
        self._released = False
        self._released_s = asyncio.get_running_loop().time()
        self._consumer.assign(partitions)
        first = await self._consumer.beginning_offsets(partitions)
        last = await self._consumer.end_offsets(partitions)
        for tp in partitions:
            wanted = offsets.get(f"{tp.topic}:{tp.partition}")
            if wanted is not None and not first[tp] <= wanted <= last[tp]:
                raise LogMoved(
                    f"{tp.topic}:{tp.partition} holds offsets {first[tp]} to {last[tp]}; the "
                    f"checkpoint wants {wanted}. A log that was made anew needs a new data "
                    "directory and Redis prefix; one that retention has cut needs a longer one"
                )
            self._next[tp] = first[tp] if wanted is None else wanted
            self._consumer.seek(tp, self._next[tp])

    async def poll(self, timeout_s: float) -> Polled:
        """Return the next records of all partitions, merged by append time."""
        full = self._merge.full()
        self._consumer.pause(*full)
        wait_ms = 0 if self._released else int(timeout_s * 1000)
        for tp, batch in (await self._consumer.getmany(timeout_ms=wait_ms)).items():
            self._merge.add(tp, batch)
        self._consumer.resume(*full)
        ended = await self._ended()
        now_s = asyncio.get_running_loop().time()
        patient = self._merge.empty or now_s - self._released_s < MERGE_PATIENCE_S
        released = self._merge.release(
            self._max_records, ended if patient else set(self._consumer.assignment())
        )
        self._released = bool(released)
        if released or self._merge.empty:
            self._released_s = now_s
        taken = [
            Taken(
                "decision" if tp.topic == self._topics.decisions else "label",
                tp.topic,
                tp.partition,
                record.offset,
                record.timestamp,
                record.value or b"",
                sampled_in(record.headers) if self._traced and record.headers else "",
            )
            for tp, record in released
        ]
        self._next |= {tp: record.offset + 1 for tp, record in released}
        offsets = {f"{taken.topic}:{taken.partition}": taken.offset + 1 for taken in taken}
        caught_up = self._merge.empty and len(ended) == len(self._consumer.assignment())
        return Polled(taken, offsets, caught_up)

    def behind(self) -> dict[str, int]:
        """Return records that the broker has told of and that were not taken, by kind of topic.

        Any thread may ask. A partition of which nothing was fetched yet counts as taken.
        """
        counts = {"decisions": 0, "labels": 0}
        for tp, at in self._next.copy().items():
            kind = "decisions" if tp.topic == self._topics.decisions else "labels"
            counts[kind] += max(0, (self._consumer.highwater(tp) or 0) - at)
        return counts

    async def reject_many(self, rejects: Sequence[tuple[Taken, EventRejected]]) -> None:
        """Send dead letters; see the port."""
        letters = []
        for taken, error in rejects:
            reject = Reject(taken.offset, error.code, error.pointer, error.detail, taken.body)
            body = dead_letter(taken.topic, taken.partition, reject, self._now_ms())
            letters.append((self._topics.dead, None, None, body, ()))
        await self._send_all(letters)

    async def send_transitions(self, records: Sequence[Outgoing]) -> None:
        """Send label transitions in order; see the port."""
        topic = self._topics.label_updates
        await self._send_all([(topic, r.partition, r.key, r.body, ()) for r in records])

    async def send_weights(self, version: int, data: bytes) -> None:
        """Append a version to the weights topic; see the port."""
        for headers, piece in pieces_of(data):  # one by one: all at once would double its memory
            await self._send_all([(*self._weights, self._key_of(version), piece, headers)])

    async def send_cuts(self, version: int, page: int, body: bytes) -> None:
        """Append a page of cuts to the weights topic; see the port."""
        headers = ((CUTS_HEADER, b"%d" % page),)
        await self._send_all([(*self._weights, self._key_of(version), body, headers)])

    async def last_weights_version(self) -> int:
        """Return the newest whole version of the weights topic; see the port."""
        async with self._versions() as versions:
            return max(await versions.newest(bool), default=0)

    async def read_weights(self, first: int, last: int) -> dict[int, bytes]:
        """Return the versions of a range, with what their chains need; see the port."""
        if first > last:
            return {}
        async with self._versions() as versions:
            found = await versions.newest(partial(reach_back_to, first))
        wanted = [number for number in found if first <= number <= last]
        return {n: found[n] for number in wanted for n in chain_of(found, number)}

    def _versions(self) -> KafkaVersions:
        return KafkaVersions(self._options, self._weights.topic, self._model)

    def _key_of(self, version: int) -> bytes:
        return f"{self._model}:{version}".encode()

    async def _partitions_of(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of a topic, waiting for one that is just being made."""
        deadline_s = asyncio.get_running_loop().time() + METADATA_TIMEOUT_S
        while True:
            try:
                ids = await self._producer.partitions_for(topic)
                return [TopicPartition(topic, index) for index in sorted(ids)]
            except KafkaError as error:
                if asyncio.get_running_loop().time() > deadline_s:
                    raise LogSilent(f"no topic {topic}: run `riskbeat topics`") from error
            await asyncio.sleep(METADATA_RETRY_S)

    async def _ended(self) -> set[TopicPartition]:
        """Return the partitions of which all that the broker has told of is in hand."""
        ended = set()
        for tp in self._consumer.assignment():
            newest = self._consumer.highwater(tp)
            if newest is not None and await self._consumer.position(tp) >= newest:
                ended.add(tp)
        return ended

    async def _send_all(self, records: Sequence[Letter]) -> None:
        try:
            pending = [
                await self._producer.send(
                    topic, value, key=key, partition=partition, headers=list(headers)
                )
                for topic, partition, key, value, headers in records
            ]
            await asyncio.gather(*pending)
        except KafkaError as error:
            raise LogSilent(f"{records[0][0]}: {type(error).__name__}: {error}") from error

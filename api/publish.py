"""facts → the log, or the spool until the log is back: nothing is answered before it is kept."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from api.errors import NotRecorded
from api.spool import Frame, Spool, SpoolFull

DRAIN_BATCH = 1_000


class LogUnavailable(ConnectionError):
    """The log gave no ack in time; it may or may not have taken the records."""


class Outgoing(NamedTuple):
    """One record on its way to the log.

    Attributes:
        key: None: any partition.
        headers: Names and values, as Kafka has them.
    """

    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Position(NamedTuple):
    """Where the log put a record; (-1, -1) where nobody can tell.

    One waits in the spool, or was sent twice, because the first time nothing was heard of it: then
    an earlier copy may stand in the log.
    """

    partition: int
    offset: int


UNKNOWN_POSITION = Position(-1, -1)


class Publisher(Protocol):
    """A way into the log. Order between records of one call is not promised.

    Implementations: `publish_kafka.KafkaPublisher`, `tests.fakes_serving.MemoryPublisher`.
    """

    async def start(self) -> None:
        """Connect.

        Raises:
            LogUnavailable: No broker answers.
        """

    async def publish_many(self, records: Sequence[Outgoing], timeout_s: float) -> list[Position]:
        """Send all, and return once every replica that must has them.

        Raises:
            LogUnavailable: Not all were acknowledged in time; some may have been taken.
        """

    async def stop(self) -> None:
        """Send what was accepted, and disconnect."""


class SpoolingPublisher:
    """A publisher that never waits long: what the log does not take goes to a bounded file.

    A record may reach the log twice (its ack was late and the spool sent it again); both kinds
    of records that pass here are told apart by their identity, so readers count them once.
    """

    def __init__(
        self,
        publisher: Publisher,
        spool: Spool,
        ack_timeout_s: float,
        drain_timeout_s: float,
        probe_s: float,
    ) -> None:
        """Put a spool behind a publisher.

        Args:
            publisher: The way into the log; started here, again and again until it answers.
            spool: Where records wait.
            ack_timeout_s: Longest wait for acks before an answer is spooled.
            drain_timeout_s: Longest wait for acks of spooled records.
            probe_s: Pause between two tries while the log is away.
        """
        self._publisher = publisher
        self._spool = spool
        self._ack_timeout_s = ack_timeout_s
        self._drain_timeout_s = drain_timeout_s
        self._probe_s = probe_s
        self._started = False
        self._away = True
        self.spooled_records = 0

    @property
    def away(self) -> bool:
        """Whether the log did not answer when last asked."""
        return self._away

    @property
    def spool_bytes(self) -> int:
        """Size of what waits."""
        return self._spool.size_bytes

    async def publish_many(self, records: Sequence[Outgoing]) -> list[Position]:
        """Keep all of them: in the log, or on disk.

        Raises:
            NotRecorded: The log is away and the spool is full.
        """
        if not self._away:
            try:
                return await self._publisher.publish_many(records, self._ack_timeout_s)
            except LogUnavailable:
                self._away = True
        try:
            await asyncio.to_thread(self._spool.append_many, [_pack(r) for r in records])
        except SpoolFull as error:
            raise NotRecorded(str(error)) from error
        self.spooled_records += len(records)
        return [UNKNOWN_POSITION] * len(records)

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, and send what is spooled whenever the log is there, until told to stop."""
        while not stopping.is_set():
            if self._away or self._spool.size_bytes:
                await self.try_log()
            try:
                async with asyncio.timeout(self._probe_s):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def try_log(self) -> bool:
        """Ask whether the log is there, and drain the spool into it; return whether it is."""
        try:
            if not self._started:
                await self._publisher.start()
                self._started = True
            await self._drain()
        except LogUnavailable:
            self._away = True
            return False
        self._away = False
        return True

    async def stop(self) -> None:
        """Disconnect; what is spooled stays for the next start."""
        if self._started:
            await self._publisher.stop()
        self._spool.close()

    async def _drain(self) -> None:
        while True:
            frames = await asyncio.to_thread(self._spool.read_oldest, DRAIN_BATCH)
            if not frames:
                return
            records = [Outgoing(*frame) for frame in frames]
            await self._publisher.publish_many(records, self._drain_timeout_s)
            await asyncio.to_thread(self._spool.drop_oldest, len(frames))


def _pack(record: Outgoing) -> Frame:
    return (record.topic, record.key, record.value, record.headers)

"""What the steps of featurize ask of the log: to read it, to seek in it, to send to it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from pipeline.featurize import LogRecord, Place

Batch = Sequence[LogRecord]
HandOver = Callable[[list[tuple[Place, Batch]]], Awaitable[None]]


class OffsetOutsideLog(RuntimeError):
    """The store waits for an offset that the log no longer holds, or does not hold yet."""


class Log(Protocol):
    """What a worker asks of the log that it is assigned to."""

    async def bounds(self, places: Sequence[Place]) -> Mapping[Place, tuple[int, int]]:
        """Return the first offset that each partition holds, and the one after its last."""

    async def seek(self, place: Place, offset: int) -> None:
        """Read on from an offset."""

    def drained_until_ms(self, place: Place, next_offset: int) -> int | None:
        """Return when the partition was last seen to end at `next_offset`, `None` if it goes on."""

    def owns(self, place: Place) -> bool:
        """Return whether the partition is assigned to this process, as far as it knows."""


class Sender(Protocol):
    """Where routed records and dead letters go."""

    async def send_all(self, topic: str, records: Iterable[tuple[int | None, bytes]]) -> list[int]:
        """Send in order; return the offsets (-1: not told) when all are acknowledged, or raise."""

"""How far each source's log is in one partition's states, as it stands beside them."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from features.store_errors import SchemaMismatch

UNKNOWN_OFFSET = -1
NO_CLOCK_MS = -1
Source = Literal["e", "l"]  # events.v1 and label_updates.v1
SOURCES: tuple[Source, Source] = ("e", "l")


class SourceMark(msgspec.Struct, array_like=True):
    """How far one source partition's log is in one partition's states.

    Attributes:
        next_offset: First offset that is not yet in; -1 before the first record.
        clock_ms: Largest event time seen from there; -1 before the first event.
        seq: Number of the newest label transition applied (label source only).
        until_ms: Everything that the source partition had taken by then is in.
    """

    next_offset: int = UNKNOWN_OFFSET
    clock_ms: int = NO_CLOCK_MS
    seq: int = 0
    until_ms: int = 0


class Watermarks(msgspec.Struct, array_like=True):
    """One partition's marks, by source and source partition."""

    e: list[SourceMark] = []
    l: list[SourceMark] = []  # noqa: E741 (the wire's name of the label source)

    def mark(self, source: Source, partition: int) -> SourceMark:
        """Return the (mutable) mark of one source partition, made on first use."""
        marks = self.e if source == "e" else self.l
        while len(marks) <= partition:
            marks.append(SourceMark())
        return marks[partition]

    def next_offsets(self) -> dict[str, list[int]]:
        """Return what a decision records: source → next offset by source partition."""
        return {"e": [m.next_offset for m in self.e], "l": [m.next_offset for m in self.l]}

    def fresh_until_ms(self, source_partitions: Mapping[Source, int]) -> int:
        """Return the time up to which every source's entries are in; 0 if one never spoke."""
        spoken = [
            self.mark(source, partition).until_ms
            for source, count in source_partitions.items()
            for partition in range(count)
        ]
        return min(spoken, default=0)


_encoder = msgspec.msgpack.Encoder()
_watermarks = msgspec.msgpack.Decoder(tuple[int, Watermarks])


def encode_watermarks(watermarks: Watermarks, fresh_until_ms: int) -> bytes:
    """Return the bytes that stand beside a partition's states, for its readers."""
    return _encoder.encode((fresh_until_ms, watermarks))


def decode_watermarks(data: bytes) -> tuple[int, Watermarks]:
    """Return (`fresh_until_ms`, watermarks) of `encode_watermarks`' bytes.

    Raises:
        SchemaMismatch: The bytes are not ours.
    """
    try:
        return _watermarks.decode(data)
    except msgspec.MsgspecError as error:
        raise SchemaMismatch(f"unreadable watermarks: {error}") from error

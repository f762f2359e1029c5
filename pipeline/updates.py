"""entity updates ↔ bytes of `updates.v1`: many rows in one record, as columns.

A record is: 4 bytes header length, a msgpack header, then the columns one after another, then
the keys' lengths (u16), then the keys. All numbers are little-endian. A record states which range
`[first, end)` of which source partition it covers for its updates partition; all rows of one
event stand together in one record.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.store import SOURCES, Source
from features.update import EntityUpdates

FORMAT_VERSION = 2

_COLUMNS: tuple[tuple[str, np.dtype[np.generic]], ...] = (
    ("entity", np.dtype("u1")),
    ("series", np.dtype("u1")),
    ("time_ms", np.dtype("<i8")),
    ("id", np.dtype("<u8")),
    ("count", np.dtype("<i8")),
    ("value", np.dtype("<i8")),
    ("filters", np.dtype("u1")),
)
_I8 = np.dtype("<i8")
_U4 = np.dtype("<u4")
_U2 = np.dtype("<u2")
_LENGTH = struct.Struct("<I")


class UpdatesUnreadable(ValueError):
    """A record of `updates.v1` is not ours: foreign bytes, or another version's."""


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What a record says of itself.

    Attributes:
        source: "e" (events) or "l" (label updates).
        first: First source offset covered (contiguous with the previous record of this source).
        end: First source offset not covered.
        until_ms: Everything that the source partition had taken by then lies before `end`.
        digest: Of the feature spec that made the rows.
        epoch: Of the store for which they were made.
        rows: Count of rows.
        fields: Columns of `fields`.
        trace: Context of the batch that made it, if an event in that is traced.
    """

    version: int
    source: str
    source_partition: int
    first: int
    end: int
    until_ms: int
    digest: str
    epoch: int
    rows: int
    fields: int
    trace: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class UpdateRecord:
    """One record: its header, its rows, and where each row came from.

    Attributes:
        rows: The entity updates.
        offset: int64 (n,), source offset of each row, ascending.
        appended_ms: int64 (n,), when the source log took it.
        seq: int64 (n,), number of the label transition; 0 for events.
    """

    header: Header
    rows: EntityUpdates
    offset: NDArray[np.int64]
    appended_ms: NDArray[np.int64]
    seq: NDArray[np.int64]

    @property
    def source(self) -> Source:
        """The source, as the store names it."""
        return "e" if self.header.source == "e" else "l"


@dataclass(frozen=True, slots=True)
class RoutedHere:
    """A record of the updates topic that this process sent itself, and still has unpacked.

    The log has acknowledged it under this offset, so it may be applied before it is fetched.

    Attributes:
        timestamp: When it was handed over, ms since 1970 (nothing depends on it).
    """

    offset: int
    timestamp: int
    value: bytes | None
    update: UpdateRecord
    headers: Sequence[tuple[str, bytes]] = ()


_encoder = msgspec.msgpack.Encoder()
_headers = msgspec.msgpack.Decoder(Header)


def encode_record(record: UpdateRecord) -> bytes:
    """Return the record's bytes."""
    rows = record.rows
    header = _encoder.encode(record.header)
    parts: list[bytes] = [_LENGTH.pack(len(header)), header]
    if record.header.rows:
        parts.extend(
            np.ascontiguousarray(getattr(rows, name), dtype).tobytes() for name, dtype in _COLUMNS
        )
        parts.append(np.ascontiguousarray(rows.fields, _U4).tobytes())
        parts.extend(
            np.ascontiguousarray(column, _I8).tobytes()
            for column in (record.offset, record.appended_ms, record.seq)
        )
        parts.append(np.fromiter(map(len, rows.keys), _U2, len(rows.keys)).tobytes())
        parts.extend(rows.keys)
    return b"".join(parts)


def decode_record(data: bytes) -> UpdateRecord:
    """Return the record of `encode_record`'s bytes; its columns are views of them.

    Raises:
        UpdatesUnreadable: They are not ours, or not whole.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        header = _headers.decode(data[_LENGTH.size : _LENGTH.size + length])
        if header.version != FORMAT_VERSION or header.source not in SOURCES:
            raise UpdatesUnreadable(f"version {header.version} of source {header.source!r}")
        return _decode_rows(data, _LENGTH.size + length, header)
    except (struct.error, msgspec.MsgspecError, ValueError) as error:
        if isinstance(error, UpdatesUnreadable):
            raise
        raise UpdatesUnreadable(f"{len(data)} bytes: {error}") from error


def _decode_rows(data: bytes, at: int, header: Header) -> UpdateRecord:
    n = header.rows
    data = data if n else bytes(8)  # numpy will not make an empty view of an empty rest
    at = at if n else 0
    columns: dict[str, NDArray[np.generic]] = {}
    for name, dtype in _COLUMNS:
        columns[name] = np.frombuffer(data, dtype, n, at)
        at += n * dtype.itemsize
    fields = np.frombuffer(data, _U4, n * header.fields, at).reshape(n, header.fields)
    at += fields.nbytes
    origin: list[NDArray[np.int64]] = []
    for _ in range(3):
        origin.append(np.frombuffer(data, _I8, n, at))
        at += n * _I8.itemsize
    lengths = np.frombuffer(data, _U2, n, at)
    ends = at + 2 * n + np.cumsum(lengths, dtype=np.int64)
    bounds = [at + 2 * n, *ends.tolist()]
    if n and bounds[-1] != len(data):
        raise UpdatesUnreadable(f"{len(data)} bytes where the columns need {bounds[-1]}")
    keys = [data[a:b] for a, b in pairwise(bounds)]
    row_event = np.zeros(n, np.int32)  # which event a row is of is told by its offset
    rows = EntityUpdates(
        keys=keys,
        fields=fields,
        row_event=row_event,
        **columns,  # type: ignore[arg-type]
    )
    return UpdateRecord(header, rows, *origin)

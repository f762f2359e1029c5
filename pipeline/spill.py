"""columns ↔ bytes ↔ files of segments: where a backfill puts what memory does not hold.

A file holds one segment for each reader to come; it is written once, by one process, and each
reader takes its own segment out of all files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.update import EntityUpdates

Columns = dict[str, NDArray[Any]]

_KEY_END = b"\0"  # identifiers hold no control characters
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, tuple[str, list[int], bytes]]).decode


def pack(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as bytes."""
    return _encode({name: (a.dtype.str, list(a.shape), a.tobytes()) for name, a in columns.items()})


def unpack(data: bytes) -> Columns:
    """Return the (read-only) arrays of `pack`."""
    return {
        name: np.frombuffer(body, dtype).reshape(shape)
        for name, (dtype, shape, body) in _decode(data).items()
    }


def columns_of(updates: EntityUpdates) -> Columns:
    """Return rows as arrays alone, whatever columns there are; keys stand end to end."""
    columns: Columns = {
        field.name: getattr(updates, field.name)
        for field in fields(EntityUpdates)
        if field.name != "keys"
    }
    columns["keys"] = np.frombuffer(_KEY_END.join(updates.keys), np.uint8)
    return columns


def updates_of(columns: Mapping[str, NDArray[Any]]) -> EntityUpdates:
    """Return the rows of `columns_of`; other columns beside them do no harm."""
    named = {f.name: columns[f.name] for f in fields(EntityUpdates) if f.name != "keys"}
    rows = len(columns["time_ms"])
    keys = columns["keys"].tobytes().split(_KEY_END) if rows else []
    return EntityUpdates(keys=keys, **named)


def write_segments(path: Path, segments: Sequence[bytes]) -> None:
    """Write segments behind a table of where they begin and end."""
    edges = np.zeros(len(segments) + 1, np.int64)
    np.cumsum([len(segment) for segment in segments], out=edges[1:])
    with path.open("wb") as file:
        file.write(np.array([len(segments)], np.int64).tobytes())
        file.write((edges + 8 * (len(edges) + 1)).tobytes())
        file.writelines(segments)


def read_segment(path: Path, index: int) -> bytes:
    """Return one segment of a file."""
    with path.open("rb") as file:
        file.seek(8 * (1 + index))
        begin, end = np.frombuffer(file.read(16), np.int64).tolist()
        file.seek(begin)
        return file.read(end - begin)


def write_numbers(path: Path, numbers: NDArray[Any]) -> None:
    """Append numbers to a file that holds nothing else."""
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(numbers).tobytes())


def read_numbers(path: Path, dtype: Any = np.int64, shape: tuple[int, ...] = (-1,)) -> NDArray[Any]:
    """Return the numbers of a file; read from disk as they are touched."""
    if not path.stat().st_size:
        return np.zeros((0, *shape[1:]), dtype)
    return np.memmap(path, dtype, "r").reshape(shape)

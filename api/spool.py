"""records → one fsynced file → records again: where answers wait while the log is away.

A frame is its length, the CRC-32 of its body, and the body (msgpack). A crash can leave half a
frame at the end; nobody was answered for it, and it is cut off at the next start.
"""

import os
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from struct import Struct

import msgspec

Frame = tuple[str, bytes | None, bytes, tuple[tuple[str, bytes], ...]]

_HEAD = Struct("<II")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


class SpoolFull(RuntimeError):
    """The spool has reached its bound; what it holds is safe, more is not taken."""


class Spool:
    """A bounded first-in-first-out file of one process. Safe to call from threads."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Open the file, keeping what an earlier process left.

        Args:
            path: Of one process; two must not share it.
            max_bytes: Bound of the file.
        """
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._sizes = self._recover()
        self._begin = 0  # where the oldest frame begins
        self._end = sum(self._sizes)

    @property
    def size_bytes(self) -> int:
        """Bytes that wait."""
        return self._end - self._begin

    def append_many(self, frames: Sequence[Frame]) -> None:
        """Write frames and return when they are on disk; all or none.

        Raises:
            SpoolFull: They would pass the bound.
        """
        bodies = [_encoder.encode(frame) for frame in frames]
        data = b"".join(_HEAD.pack(len(body), zlib.crc32(body)) + body for body in bodies)
        with self._lock:
            if self._end + len(data) > self._max_bytes:
                raise SpoolFull(f"the spool holds {self.size_bytes} of {self._max_bytes} bytes")
            _write_all(self._file, data, self._end)
            os.fdatasync(self._file)
            self._sizes.extend(_HEAD.size + len(body) for body in bodies)
            self._end += len(data)

    def read_oldest(self, count: int) -> list[Frame]:
        """Return up to `count` frames, oldest first; they stay."""
        with self._lock:
            data = os.pread(self._file, sum(self._sizes[:count]), self._begin)
        return [_decoder.decode(body) for body in _bodies(data)]

    def drop_oldest(self, count: int) -> None:
        """Forget the oldest frames. The file is cut once it is empty.

        A crash between two drops sends the frames since the last cut again.
        """
        with self._lock:
            self._begin += sum(self._sizes[:count])
            del self._sizes[:count]
            if not self._sizes:
                os.ftruncate(self._file, 0)
                os.fdatasync(self._file)
                self._begin = self._end = 0

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        os.close(self._file)

    def _recover(self) -> list[int]:
        length = os.fstat(self._file).st_size
        sizes = [_HEAD.size + len(body) for body in _bodies(os.pread(self._file, length, 0))]
        os.ftruncate(self._file, sum(sizes))
        return sizes


def _bodies(data: bytes) -> list[bytes]:
    """Return the bodies of whole frames, up to the first that is torn."""
    bodies: list[bytes] = []
    at = 0
    while at + _HEAD.size <= len(data):
        size, checksum = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + size]
        if len(body) < size or zlib.crc32(body) != checksum:
            break
        bodies.append(body)
        at += _HEAD.size + size
    return bodies


def _write_all(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written

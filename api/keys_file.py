"""Records of keys in one JSON file, for a deployment that mounts it where scorers run."""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from api.keys import KeyRecord, KeysUnavailable

FILE_MAX_BYTES = 16 * 1024 * 1024


class _File(msgspec.Struct):
    keys: list[KeyRecord]


_decoder = msgspec.json.Decoder(_File)


class FileKeyStore:
    """The keys of one deployment. A file that is not there holds none."""

    def __init__(self, path: Path) -> None:
        """Take the path; nothing is read before the first call."""
        self._path = path

    async def read_all(self) -> list[KeyRecord]:
        """Return every record; see `keys.KeyStore`."""
        return await asyncio.to_thread(self._read)

    async def put_many(self, records: Sequence[KeyRecord]) -> None:
        """Keep records; readers see the file before or after. See `keys.KeyStore`."""
        await asyncio.to_thread(self._put, records)

    def _read(self) -> list[KeyRecord]:
        try:
            with self._path.open("rb") as file:
                keys = _decoder.decode(file.read(FILE_MAX_BYTES)).keys
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KeysUnavailable(f"{self._path}: {error}") from error
        return sorted(keys, key=lambda record: (record.made_at_ms, record.id))

    def _put(self, records: Sequence[KeyRecord]) -> None:
        beside = self._path.with_name(f".{self._path.name}.lock")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                kept = {record.id: record for record in self._read()}
                kept |= {record.id: record for record in records}
                self._replace(msgspec.json.format(msgspec.json.encode(_File(list(kept.values())))))
        except OSError as error:
            raise KeysUnavailable(f"{self._path}: {error}") from error

    def _replace(self, data: bytes) -> None:
        new = self._path.with_name(f".{self._path.name}.new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

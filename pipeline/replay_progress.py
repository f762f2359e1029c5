"""how far a replay came → a file that survives a crash; bad rows → a report."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import msgspec

from pipeline.replay_rows import BadRow
from pipeline.replay_source import flush_directory

FORMAT: Final = 1
FINGERPRINT_BYTES: Final = 1 << 20  # of each end of the file


class ReplayRefused(ValueError):
    """The progress file speaks of another replay, or of one that has ended."""


class Progress(msgspec.Struct, kw_only=True, frozen=True):
    """What is known to be done.

    Attributes:
        run_id: Marks every record that this replay sends.
        source: Fingerprint of the log, the mapping and the cut.
        acked: Every item with a lower number is acknowledged.
        positions: Where the target's end of the log was when that was so ("topic:partition").
        finished: Nothing is left to send.
    """

    run_id: str
    source: str
    acked: int = 0
    positions: dict[str, int] = {}
    finished: bool = False
    format: int = FORMAT


def fingerprint(path: Path, *about: str) -> str:
    """Return a digest of a file's size and both its ends, and of what else shapes the replay."""
    digest = hashlib.sha256("\0".join(about).encode())
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(FINGERPRINT_BYTES))
        file.seek(max(size - FINGERPRINT_BYTES, 0))
        digest.update(file.read())
    return digest.hexdigest()


class ProgressFile:
    """Where a replay's progress is kept; replaced as a whole, durably."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read or written yet."""
        self._path = path

    def load(self, source: str) -> Progress | None:
        """Return the progress of this same replay, None when it never began.

        Raises:
            ReplayRefused: The file is of another replay, of another format, or broken.
        """
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=Progress)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise ReplayRefused(f"{self._path}: no progress file: {error}") from error
        if found.format != FORMAT or found.source != source:
            raise ReplayRefused(
                f"{self._path}: belongs to another log, mapping or cut; "
                "name another file, or begin anew with --restart"
            )
        return found

    def forget(self) -> None:
        """Remove the file: the replay begins anew."""
        self._path.unlink(missing_ok=True)

    def save(self, progress: Progress) -> None:
        """Write and make durable; a crash leaves the old or the new, never a mixture."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(f".{self._path.name}.unfinished")
        with unfinished.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(progress), indent=1))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
        flush_directory(self._path.parent)


class BadRows:
    """Counts bad rows and writes them down, one JSON object a line, when there is a file.

    A resumed replay reads the log from its start, so it writes the whole report again.
    """

    def __init__(self, path: Path | None, log_name: str) -> None:
        """Name the report and the log that it is about; the file is made with the first row."""
        self._path = path
        self._log_name = log_name
        self._file: IO[bytes] | None = None
        self.count = 0

    def __enter__(self) -> Self:
        """Remove the report of an earlier run."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the report."""
        if self._file is not None:
            self._file.close()

    def add_many(self, rows: Iterable[BadRow]) -> None:
        """Write rows down: file, line, field, reason."""
        for row in rows:
            self.count += 1
            if self._path is None:
                continue
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("wb", buffering=1 << 16)
            told = {
                "file": self._log_name,
                "line": row.line,
                "field": row.field,
                "reason": row.reason,
            }
            self._file.write(msgspec.json.encode(told) + b"\n")

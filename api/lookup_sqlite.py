"""decisions ⇄ one SQLite file: a machine's index of what was decided, bounded by age and bytes.

One process writes (`riskbeat index`), any number read. Rows stand in the order of the log, so the
oldest leave from one end; the log's positions change in the same transaction, so that a crash
repeats what it lost and nothing else. Of two records of one id the one with the lower offset stays.
"""

import os
import sqlite3
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from api.lookup import Indexed, IndexUnavailable

FORMAT: Final = 1
PAGE_BYTES: Final = 4096
CACHE_BYTES: Final = 32 * 1024 * 1024
BUSY_TIMEOUT_MS: Final = 5_000
LEAVE_AT_LEAST: Final = 256
"""The oldest leave at least so many at a time, so that the bound costs little."""
ZIP_LEVEL: Final = 1
ZIP_WINDOW_BITS: Final = 12
"""A usual answer fits such a window four times. With the usual window (15) a packer takes a quarter
of a megabyte, made anew for each answer: 50 µs in place of 11."""

_SCHEMA = """
CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    log_partition INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    decided_ms INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    answer BLOB NOT NULL
);
CREATE TABLE positions (log_partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_INSERT = """
INSERT INTO decisions (id, log_partition, log_offset, decided_ms, tenant, answer)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    log_offset = excluded.log_offset, decided_ms = excluded.decided_ms,
    tenant = excluded.tenant, answer = excluded.answer
WHERE excluded.log_partition = log_partition AND excluded.log_offset < log_offset
"""
_PLACE = "INSERT OR REPLACE INTO positions VALUES (?, ?)"
_FACT = "INSERT OR REPLACE INTO facts VALUES (?, ?)"
_TOO_OLD = """
DELETE FROM decisions WHERE seq <= (
    SELECT max(seq) FROM (SELECT seq, decided_ms FROM decisions ORDER BY seq LIMIT ?)
    WHERE decided_ms < ?
)
"""
_OLDEST = """
DELETE FROM decisions WHERE seq <= (
    SELECT max(seq) FROM (SELECT seq FROM decisions ORDER BY seq LIMIT ?)
)
"""


class Row(NamedTuple):
    """One decision on its way into the index.

    Attributes:
        key: 16 bytes of its id.
        decided_ms: Wall clock of the scorer.
        answer: The body that answered the caller.
    """

    key: bytes
    partition: int
    offset: int
    decided_ms: int
    tenant: str
    answer: bytes


class SqliteWriter:
    """The one writer of a file. What is no index of this format is begun anew: the log has all."""

    def __init__(self, path: Path, horizon_s: float, max_bytes: int) -> None:
        """Open the file, or make it.

        Args:
            path: Of the file.
            horizon_s: Older decisions leave.
            max_bytes: Pages in use; beyond it the oldest leave.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._horizon_ms = int(horizon_s * 1000)
        self._max_pages = max_bytes // PAGE_BYTES
        self._db = _open_or_make(path)

    @property
    def count(self) -> int:
        """Decisions in the index."""
        return int(self._db.execute("SELECT count(*) FROM decisions").fetchone()[0])

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages in use."""
        return self._used_pages() * PAGE_BYTES

    def positions(self) -> dict[int, int]:
        """Return partition → next offset; nothing before the first commit."""
        return dict(self._db.execute("SELECT * FROM positions").fetchall())

    def begin_anew(self) -> None:
        """Forget everything: the log is another one."""
        with self._db:
            for table in ("decisions", "positions", "facts"):
                self._db.execute(f"DELETE FROM {table}")

    def commit(
        self, rows: Sequence[Row], positions: Mapping[int, int], as_of_ms: int, now_ms: int
    ) -> None:
        """Put decisions in, move the positions, and let the oldest go; all or nothing.

        Args:
            rows: In the order of the log.
            positions: Partition → next offset.
            as_of_ms: Up to when every recorded decision is in.
            now_ms: Wall clock.
        """
        leave = max(LEAVE_AT_LEAST, 2 * len(rows))
        with self._db:
            self._db.executemany(
                _INSERT,
                ((*row[:5], _zipped(row.answer)) for row in rows),
            )
            self._db.executemany(_PLACE, positions.items())
            self._db.execute(_FACT, ("as_of_ms", as_of_ms))
            self._db.execute(_TOO_OLD, (leave, now_ms - self._horizon_ms))
            if self._used_pages() > self._max_pages:
                self._db.execute(_OLDEST, (leave,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _used_pages(self) -> int:
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        return int(pages - self._db.execute("PRAGMA freelist_count").fetchone()[0])


class SqliteReader:
    """Reads the file of whoever writes; sees whole transactions. Safe to call from threads."""

    def __init__(self, path: Path) -> None:
        """Take the path; the file may come later, and may be replaced."""
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._inode = 0

    def find(self, key: bytes) -> Indexed | None:
        """Return a decision; see `lookup.DecisionIndex`."""
        found = self._ask("SELECT tenant, answer FROM decisions WHERE id = ?", (key,))
        if found is None:
            return None
        try:
            return Indexed(found[0], zlib.decompress(found[1]))
        except zlib.error as error:
            raise IndexUnavailable(str(error)) from error

    def as_of_ms(self) -> int:
        """Return up to when it is complete; see `lookup.DecisionIndex`."""
        found = self._ask("SELECT value FROM facts WHERE name = 'as_of_ms'", ())
        return 0 if found is None else int(found[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def _ask(self, sql: str, values: tuple[bytes, ...]) -> tuple[str, bytes] | None:
        with self._lock:
            try:
                found: tuple[str, bytes] | None = self._opened().execute(sql, values).fetchone()
            except (sqlite3.Error, OSError) as error:
                self._close()
                raise IndexUnavailable(str(error)) from error
        return found

    def _opened(self) -> sqlite3.Connection:
        inode = os.stat(self._path).st_ino
        if self._db is None or inode != self._inode:
            self._close()
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            self._inode = inode
        return self._db

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _zipped(answer: bytes) -> bytes:
    packer = zlib.compressobj(ZIP_LEVEL, zlib.DEFLATED, ZIP_WINDOW_BITS)
    return packer.compress(answer) + packer.flush()


def _open_or_make(path: Path) -> sqlite3.Connection:
    try:
        db = _opened(path)
        if db.execute("PRAGMA user_version").fetchone()[0] == FORMAT:
            return db
        db.close()
    except sqlite3.DatabaseError:
        pass  # damaged: made again below
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        name.unlink(missing_ok=True)
    db = _opened(path)
    db.executescript(_SCHEMA)
    db.execute(f"PRAGMA user_version = {FORMAT}")
    return db


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)  # one call at a time, in whichever thread
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")  # the log has what a power loss takes
    db.execute(f"PRAGMA cache_size = -{CACHE_BYTES // 1024}")
    db.execute(f"PRAGMA journal_size_limit = {CACHE_BYTES}")
    db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return db

"""The join store in one SQLite file: write-ahead log, full sync, one transaction per checkpoint."""

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from features.update import LabelTransition
from pipeline.join import AGAIN, Expired, JoinBusy, JoinRow, Outgoing, Statement
from pipeline.join_tables import (
    ADD,
    COLUMNS,
    DUE_AGAIN,
    LAYOUT,
    SETTLE,
    SIZE,
    from_columns,
    lay_out,
    size_of,
    to_columns,
    to_settled,
)

ROWS_MAX = 5_000_000
HELD_MAX = 200_000
CACHE_KIB = 65_536
BYTES_MAX = 16 * 1024**3
PAGE_SHARE = 1.5
"""Bytes of a file by bytes of its rows: a tree filled in random order is two thirds full."""
_BYTES_TARGET = -1  # the number under which the bytes of rows are kept
_CHUNK = 900  # bound variables of one statement
_KEPT_PARTS = ("position", "sender", "weights")  # of an older layout's checkpoint

_statement = msgspec.msgpack.Decoder(Statement)


class SqliteJoinStore:
    """`join.JoinStore` in a file."""

    def __init__(
        self,
        path: Path,
        rows_max: int = ROWS_MAX,
        held_max: int = HELD_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        """Open the file, or make it; nobody else can while we hold it.

        Args:
            path: Beside it stand SQLite's own `-wal` file.
            rows_max: Decided events kept; the oldest leave.
            held_max: Labels kept that wait for their decision; the oldest leave.
            bytes_max: Of decided events; the oldest leave.

        Raises:
            JoinBusy: Another process has it open.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=0.0, isolation_level=None)
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            self._db.close()
            raise JoinBusy(f"{path} is in use by another learner: {error}") from error
        layout = self._one("PRAGMA user_version")
        if layout > LAYOUT:
            self._db.close()
            raise JoinBusy(f"{path} has layout {layout}; this code writes {LAYOUT}")
        if lay_out(self._db, layout):
            self._learn_again()
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")
        self._rows_max = rows_max
        self._held_max = held_max
        self._bytes_max = bytes_max
        self._rows = self._one("SELECT count(*) FROM decided")
        self._held = self._one("SELECT count(*) FROM held")
        self._numbers: dict[int, int] = dict(self._db.execute("SELECT target, seq FROM numbers"))
        known = self._numbers.pop(_BYTES_TARGET, None)
        self._bytes = self._weigh() if known is None else known

    @property
    def rows(self) -> int:
        """Decided events kept."""
        return self._rows

    @property
    def held(self) -> int:
        """Labels that wait for their decision."""
        return self._held

    @property
    def used_bytes(self) -> int:
        """Bytes of decided events, with the room that their pages leave free."""
        return round(self._bytes * PAGE_SHARE)

    def close(self) -> None:
        """Leave the file as the last commit left it."""
        self._db.close()

    def add_many(self, rows: Sequence[JoinRow]) -> list[JoinRow]:
        """Keep decided events; return those that were new; see the port."""
        known = {key for (key,) in self._by_keys("SELECT key FROM decided", [r.key for r in rows])}
        new = []
        for row in rows:
            if row.key not in known:
                known.add(row.key)
                new.append(row)
        self._db.executemany(ADD, map(to_columns, rows))
        self._rows += len(new)
        self._bytes += sum(map(size_of, new))
        return new

    def find_many(self, keys: Sequence[int]) -> dict[int, JoinRow]:
        """Return the rows that exist, by key."""
        found = self._by_keys(f"SELECT {COLUMNS} FROM decided", keys)
        return {columns[0]: from_columns(columns) for columns in found}

    def settle_many(self, rows: Sequence[JoinRow]) -> None:
        """Keep statements, net label, turns and maturity of known rows."""
        self._db.executemany(SETTLE, map(to_settled, rows))

    def due_rows(self, until_ms: int, limit: int) -> list[JoinRow]:
        """Return rows that have not matured, oldest first."""
        found = self._db.execute(
            f"SELECT {COLUMNS} FROM decided WHERE matured = 0 AND event_ms <= ? "
            "ORDER BY event_ms, key LIMIT ?",
            (until_ms, limit),
        )
        return [from_columns(columns) for columns in found]

    def hold_many(self, labels: Sequence[tuple[int, Statement]]) -> None:
        """Keep labels whose decision has not come yet."""
        before = self._db.total_changes
        self._db.executemany(
            "INSERT OR IGNORE INTO held (key, place, time_ms, statement) VALUES (?,?,?,?)",
            [(key, s.place, s.time_ms, msgspec.msgpack.encode(s)) for key, s in labels],
        )
        self._held += self._db.total_changes - before

    def take_held(self, keys: Sequence[int]) -> list[tuple[int, Statement]]:
        """Remove and return held labels of these keys, by place."""
        if not self._held:
            return []
        found = list(self._by_keys("SELECT key, place, statement FROM held", keys))
        self._db.executemany("DELETE FROM held WHERE key=? AND place=?", (f[:2] for f in found))
        self._held -= len(found)
        found.sort(key=lambda columns: columns[1])
        return [(key, _statement.decode(body)) for key, _, body in found]

    def send_later(self, partition: int, key: bytes, transition: LabelTransition) -> None:
        """Put a transition into the outbox under the partition's next number."""
        seq = self._numbers.get(partition, 0) + 1
        self._numbers[partition] = seq
        body = msgspec.json.encode(msgspec.structs.replace(transition, seq=seq))
        self._db.execute("INSERT INTO outbox VALUES (?,?,?,?)", (partition, seq, key, body))

    def outbox(self, limit: int) -> list[Outgoing]:
        """Return the oldest unsent records, by partition and number."""
        found = self._db.execute("SELECT * FROM outbox ORDER BY target, seq LIMIT ?", (limit,))
        return [Outgoing(*columns) for columns in found]

    def mark_sent(self, records: Sequence[Outgoing]) -> None:
        """Drop sent records; durable with the next commit."""
        newest = {record.partition: record.seq for record in records}
        self._db.executemany("DELETE FROM outbox WHERE target=? AND seq<=?", newest.items())

    def expire(self, before_ms: int) -> Expired:
        """Drop what is older than that, and the oldest beyond the store's room."""
        rows = self._drop("decided", "event_ms", before_ms, self._rows - self._rows_max)
        while self._rows and self.used_bytes > self._bytes_max:
            over = 1.0 - self._bytes_max / self.used_bytes
            rows += self._drop("decided", "event_ms", before_ms, math.ceil(self._rows * over))
        held = self._drop("held", "time_ms", before_ms, self._held - self._held_max)
        return Expired(rows, held)

    def commit(self, parts: Mapping[str, bytes]) -> None:
        """Write parts over those of the same name; make all durable; begin anew."""
        self._db.executemany("INSERT OR REPLACE INTO parts VALUES (?,?)", parts.items())
        numbers = self._numbers | {_BYTES_TARGET: self._bytes}
        self._db.executemany("INSERT OR REPLACE INTO numbers VALUES (?,?)", numbers.items())
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def forget_learned(self, parts: Mapping[str, bytes], *, keep_vectors: bool = False) -> None:
        """Drop all parts but these, and what was learned of the rows; see the port."""
        if keep_vectors:
            self._db.execute(DUE_AGAIN)
        else:
            self._db.execute("UPDATE decided SET x=NULL,p=NULL,beliefs=NULL,taught=NULL")
        self._db.execute("DELETE FROM parts")
        self._bytes = self._weigh()
        self.commit(parts)

    def keep_judged(self, rows: Sequence[bytes]) -> None:
        """Append judged rows; see the port."""
        self._db.executemany("INSERT INTO judged (body) VALUES (?)", [(body,) for body in rows])

    def judged(self, after_seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return the oldest judged rows numbered above `after_seq`, by number."""
        return list(
            self._db.execute(
                "SELECT seq, body FROM judged WHERE seq > ? ORDER BY seq LIMIT ?",
                (after_seq, limit),
            )
        )

    def drop_judged(self, upto_seq: int) -> None:
        """Drop judged rows numbered up to this one."""
        self._db.execute("DELETE FROM judged WHERE seq <= ?", (upto_seq,))

    def parts(self) -> dict[str, bytes]:
        """Return the newest of every part ever committed."""
        return dict(self._db.execute("SELECT name, body FROM parts"))

    def _weigh(self) -> int:
        return self._one(f"SELECT coalesce(sum({SIZE}), 0) FROM decided")

    def _learn_again(self) -> None:
        """Make an older layout's rows due again, and keep only what is no learner's own."""
        marks = ",".join("?" * len(_KEPT_PARTS))
        self._db.execute(f"DELETE FROM parts WHERE name NOT IN ({marks})", _KEPT_PARTS)
        self._db.execute(DUE_AGAIN)
        if self._one("SELECT count(*) FROM parts"):
            self._db.execute("INSERT INTO parts VALUES (?, ?)", (AGAIN, b"1"))

    def _drop(self, table: str, column: str, before_ms: int, beyond: int) -> int:
        """Delete by age, then the oldest beyond the room; return how many went."""
        gone = self._delete(table, f"{column} < ?", before_ms)
        if beyond > gone:
            oldest = f"(SELECT {column} FROM {table} ORDER BY {column} LIMIT 1 OFFSET ?)"
            gone += self._delete(table, f"{column} <= {oldest}", beyond - gone - 1)
        return gone

    def _delete(self, table: str, where: str, value: int) -> int:
        if table == "held":
            gone = self._db.execute(f"DELETE FROM held WHERE {where}", (value,)).rowcount
            self._held -= gone
            return gone
        sizes = self._db.execute(f"DELETE FROM {table} WHERE {where} RETURNING {SIZE}", (value,))
        found = [size for (size,) in sizes]
        self._rows -= len(found)
        self._bytes -= sum(found)
        return len(found)

    def _by_keys(self, select: str, keys: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            yield from self._db.execute(f"{select} WHERE key IN ({marks})", chunk)

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

"""The join store in one SQLite file: write-ahead log, full sync, one transaction per checkpoint."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from features.update import LabelTransition
from pipeline.join import Expired, JoinBusy, JoinRow, Net, Outgoing, Statement

ROWS_MAX = 5_000_000
HELD_MAX = 200_000
CACHE_KIB = 65_536
LAYOUT = 1
_CHUNK = 900  # bound variables of one statement

_TABLES = """
CREATE TABLE IF NOT EXISTS decided (
  key INTEGER PRIMARY KEY, name TEXT NOT NULL, event_ms INTEGER NOT NULL, place INTEGER NOT NULL,
  x BLOB, subject BLOB NOT NULL, p REAL, amount INTEGER NOT NULL,
  statements BLOB, fraud INTEGER, net_ms INTEGER, turns INTEGER NOT NULL, matured INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS decided_age ON decided (event_ms);
CREATE INDEX IF NOT EXISTS decided_due ON decided (event_ms, key) WHERE matured = 0;
CREATE TABLE IF NOT EXISTS held (
  key INTEGER NOT NULL, place INTEGER NOT NULL, time_ms INTEGER NOT NULL, statement BLOB NOT NULL,
  PRIMARY KEY (key, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS held_age ON held (time_ms);
CREATE TABLE IF NOT EXISTS outbox (
  target INTEGER NOT NULL, seq INTEGER NOT NULL, key BLOB NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (target, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS numbers (target INTEGER PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS parts (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
"""
_COLUMNS = "key,name,event_ms,place,x,subject,p,amount,statements,fraud,net_ms,turns,matured"
_ADD = f"""
INSERT INTO decided ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (key) DO UPDATE SET event_ms = excluded.event_ms, place = excluded.place,
  x = excluded.x, subject = excluded.subject, p = excluded.p, amount = excluded.amount
WHERE excluded.place < decided.place AND decided.fraud IS NULL
"""
_SETTLE = "UPDATE decided SET statements=?,fraud=?,net_ms=?,turns=?,matured=? WHERE key=?"

_statements = msgspec.msgpack.Decoder(tuple[Statement, ...])
_statement = msgspec.msgpack.Decoder(Statement)


class SqliteJoinStore:
    """`join.JoinStore` in a file."""

    def __init__(self, path: Path, rows_max: int = ROWS_MAX, held_max: int = HELD_MAX) -> None:
        """Open the file, or make it; nobody else can while we hold it.

        Args:
            path: Beside it stand SQLite's own `-wal` file.
            rows_max: Decided events kept; the oldest leave.
            held_max: Labels kept that wait for their decision; the oldest leave.

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
        if layout not in {0, LAYOUT}:
            self._db.close()
            raise JoinBusy(f"{path} has layout {layout}; this code writes {LAYOUT}")
        for statement in _TABLES.split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version={LAYOUT}")
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")
        self._rows_max = rows_max
        self._held_max = held_max
        self._rows = self._one("SELECT count(*) FROM decided")
        self._held = self._one("SELECT count(*) FROM held")
        self._numbers: dict[int, int] = dict(self._db.execute("SELECT target, seq FROM numbers"))

    @property
    def rows(self) -> int:
        """Decided events kept."""
        return self._rows

    @property
    def held(self) -> int:
        """Labels that wait for their decision."""
        return self._held

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
        self._db.executemany(_ADD, map(_to_columns, rows))
        self._rows += len(new)
        return new

    def find_many(self, keys: Sequence[int]) -> dict[int, JoinRow]:
        """Return the rows that exist, by key."""
        found = self._by_keys(f"SELECT {_COLUMNS} FROM decided", keys)
        return {columns[0]: _from_columns(columns) for columns in found}

    def settle_many(self, rows: Sequence[JoinRow]) -> None:
        """Keep statements, net label, turns and maturity of known rows."""
        self._db.executemany(_SETTLE, ((*_to_columns(row)[8:], row.key) for row in rows))

    def due_rows(self, until_ms: int, limit: int) -> list[JoinRow]:
        """Return rows that have not matured, oldest first."""
        found = self._db.execute(
            f"SELECT {_COLUMNS} FROM decided WHERE matured = 0 AND event_ms <= ? "
            "ORDER BY event_ms, key LIMIT ?",
            (until_ms, limit),
        )
        return [_from_columns(columns) for columns in found]

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
        self._rows -= rows
        held = self._drop("held", "time_ms", before_ms, self._held - self._held_max)
        self._held -= held
        return Expired(rows, held)

    def commit(self, parts: Mapping[str, bytes]) -> None:
        """Write parts over those of the same name; make all durable; begin anew."""
        self._db.executemany("INSERT OR REPLACE INTO parts VALUES (?,?)", parts.items())
        self._db.executemany("INSERT OR REPLACE INTO numbers VALUES (?,?)", self._numbers.items())
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def forget_learned(self, parts: Mapping[str, bytes]) -> None:
        """Drop vectors, predictions and all parts but these; see the port."""
        self._db.execute("UPDATE decided SET x = NULL, p = NULL")
        self._db.execute("DELETE FROM parts")
        self.commit(parts)

    def parts(self) -> dict[str, bytes]:
        """Return the newest of every part ever committed."""
        return dict(self._db.execute("SELECT name, body FROM parts"))

    def _drop(self, table: str, column: str, before_ms: int, beyond: int) -> int:
        """Delete by age, then the oldest beyond the room; return how many went."""
        gone = self._db.execute(f"DELETE FROM {table} WHERE {column} < ?", (before_ms,)).rowcount
        if beyond > gone:
            gone += self._db.execute(
                f"DELETE FROM {table} WHERE {column} <= (SELECT {column} FROM {table} "
                f"ORDER BY {column} LIMIT 1 OFFSET ?)",
                (beyond - gone - 1,),
            ).rowcount
        return gone

    def _by_keys(self, select: str, keys: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            yield from self._db.execute(f"{select} WHERE key IN ({marks})", chunk)

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])


def _to_columns(row: JoinRow) -> tuple[Any, ...]:
    net = row.net
    return (
        row.key,
        row.name,
        row.event_ms,
        row.place,
        row.x,
        row.subject,
        row.p,
        row.amount,
        msgspec.msgpack.encode(row.statements) if row.statements else None,
        None if net is None else int(net.fraud),
        None if net is None else net.time_ms,
        row.turns,
        int(row.matured),
    )


def _from_columns(columns: tuple[Any, ...]) -> JoinRow:
    statements, fraud, net_ms, turns, matured = columns[8:]
    row = JoinRow(*columns[:8])
    row.statements = _statements.decode(statements) if statements else ()
    row.net = None if fraud is None else Net(bool(fraud), net_ms)
    row.turns = turns
    row.matured = bool(matured)
    return row

"""JoinRow ↔ columns of the join store's file: its tables, and how older files become newer ones."""

import sqlite3
from typing import Any

import msgspec

from pipeline.join import JoinRow, Net, Statement

LAYOUT = 3
"""1: until lanes. 2: what the scorer drew and the learner believed, and what lanes were taught.
3: the arm of a rollout."""
LANES = 2
"""The layout from which on what was learned can be gone on with."""

TABLES = """
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
_TO_2 = """
ALTER TABLE decided ADD COLUMN outcome TEXT NOT NULL DEFAULT 'approve';
ALTER TABLE decided ADD COLUMN propensity REAL NOT NULL DEFAULT 1.0;
ALTER TABLE decided ADD COLUMN weights_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE decided ADD COLUMN beliefs BLOB;
ALTER TABLE decided ADD COLUMN card INTEGER NOT NULL DEFAULT 0;
ALTER TABLE decided ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE decided ADD COLUMN taught BLOB;
CREATE TABLE judged (seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL) STRICT;
"""
_TO_3 = "ALTER TABLE decided ADD COLUMN arm TEXT NOT NULL DEFAULT ''"

COLUMNS = (
    "key,name,event_ms,place,x,subject,p,amount,"
    "outcome,propensity,weights_version,beliefs,card,arm,"
    "statements,fraud,net_ms,turns,matured,source,taught"
)
_SETTLED = 7  # columns at the end that a settled row writes again
_DECIDED = 14  # columns before them
ADD = f"""
INSERT INTO decided ({COLUMNS}) VALUES ({",".join("?" * (_DECIDED + _SETTLED))})
ON CONFLICT (key) DO UPDATE SET event_ms = excluded.event_ms, place = excluded.place,
  x = excluded.x, subject = excluded.subject, p = excluded.p, amount = excluded.amount,
  outcome = excluded.outcome, propensity = excluded.propensity,
  weights_version = excluded.weights_version, beliefs = excluded.beliefs, card = excluded.card,
  arm = excluded.arm
WHERE excluded.place < decided.place AND decided.fraud IS NULL AND decided.taught IS NULL
"""
SETTLE = (
    "UPDATE decided SET statements=?,fraud=?,net_ms=?,turns=?,matured=?,source=?,taught=? "
    "WHERE key=?"
)
ROW_BYTES = 256
"""Of a row beside name, vector, subject and beliefs: numbers, statements, place in indexes."""
SIZE = (
    f"length(CAST(name AS BLOB)) + ifnull(length(x), 0) + length(subject) "
    f"+ ifnull(length(beliefs), 0) + {ROW_BYTES}"
)
DUE_AGAIN = "UPDATE decided SET matured = 0, taught = NULL, beliefs = NULL"

_statements = msgspec.msgpack.Decoder(tuple[Statement, ...])
_taught = msgspec.msgpack.Decoder(dict[str, bool])
_encoder = msgspec.msgpack.Encoder(order="sorted")


def lay_out(db: sqlite3.Connection, layout: int) -> bool:
    """Make the tables, or bring an older file to this layout; return whether to learn again.

    Runs within the caller's transaction: a crash leaves the file as it was.
    """
    for statement in TABLES.split(";"):
        db.execute(statement)
    if layout < LANES:
        for statement in _TO_2.split(";"):
            db.execute(statement)
    if layout < LAYOUT:
        db.execute(_TO_3)
    db.execute(f"PRAGMA user_version={LAYOUT}")
    return 0 < layout < LANES


def size_of(row: JoinRow) -> int:
    """Return what `SIZE` says of a row."""
    vectors = len(row.x or b"") + len(row.beliefs or b"")
    return len(row.name.encode()) + vectors + len(row.subject) + ROW_BYTES


def to_columns(row: JoinRow) -> tuple[Any, ...]:
    """Return a row in the order of `COLUMNS`."""
    return (
        row.key,
        row.name,
        row.event_ms,
        row.place,
        row.x,
        row.subject,
        row.p,
        row.amount,
        row.outcome,
        row.propensity,
        row.weights_version,
        row.beliefs,
        row.card,
        row.arm,
        *_settled(row),
    )


def to_settled(row: JoinRow) -> tuple[Any, ...]:
    """Return what `SETTLE` takes."""
    return (*_settled(row), row.key)


def _settled(row: JoinRow) -> tuple[Any, ...]:
    net = row.net
    return (
        _encoder.encode(row.statements) if row.statements else None,
        None if net is None else int(net.fraud),
        None if net is None else net.time_ms,
        row.turns,
        int(row.matured),
        row.source,
        _encoder.encode(row.taught) if row.taught else None,
    )


def from_columns(columns: tuple[Any, ...]) -> JoinRow:
    """Return the row of columns in the order of `COLUMNS`."""
    row = JoinRow(*columns[:8])
    row.outcome, row.propensity, row.weights_version = columns[8:11]
    row.beliefs, row.card, row.arm = columns[11:_DECIDED]
    statements, fraud, net_ms, turns, matured, source, taught = columns[_DECIDED:]
    row.statements = _statements.decode(statements) if statements else ()
    row.net = None if fraud is None else Net(bool(fraud), net_ms)
    row.turns = turns
    row.matured = bool(matured)
    row.source = source
    row.taught = _taught.decode(taught) if taught else {}
    return row

"""a stopped learner's join store → a copy of it: whole, and as its last commit left it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from pipeline.join import JoinBusy
from pipeline.join_tables import LAYOUT
from pipeline.position import POSITION, Position

PAGES_AT_ONCE = 4_096


class NoJoinStore(FileNotFoundError):
    """There is no join store, or one that nothing was ever committed to."""


def copy_join(path: Path, to: Path) -> Position:
    """Copy a join store, with what still stands in its write-ahead log; return where it stands.

    Args:
        path: Of the store; no learner can open it meanwhile.
        to: A file that is not there yet, or is overwritten.

    Raises:
        JoinBusy: A learner has it open, or its layout is a later build's.
        NoJoinStore: There is none.
    """
    to.unlink(missing_ok=True)
    with closing(_open(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target, pages=PAGES_AT_ONCE)
        if target.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise JoinBusy(f"{path} is damaged: its copy does not hold together")
        return _position(target, path)


def position_of(path: Path) -> Position:
    """Return where the learner of a join store stands.

    Raises:
        JoinBusy: A learner has it open.
        NoJoinStore: There is none.
    """
    with closing(_open(path)) as source:
        return _position(source, path)


def _open(path: Path) -> sqlite3.Connection:
    if not path.is_file() or not path.stat().st_size:
        raise NoJoinStore(f"{path}: there is no learner's join store")
    source = sqlite3.connect(path, timeout=0.0, isolation_level=None)
    try:
        source.execute("PRAGMA locking_mode=EXCLUSIVE")
        (layout,) = source.execute("PRAGMA user_version").fetchone()
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError as error:
        source.close()
        raise JoinBusy(f"{path} is in use by a learner ({error}): stop it first") from error
    except sqlite3.DatabaseError as error:
        source.close()
        raise JoinBusy(f"{path}: {error}") from error
    if layout > LAYOUT:
        source.close()
        raise JoinBusy(f"{path} has layout {layout}; this code reads {LAYOUT}")
    return source


def _position(store: sqlite3.Connection, path: Path) -> Position:
    try:
        found = store.execute("SELECT body FROM parts WHERE name=?", (POSITION,)).fetchone()
    except sqlite3.OperationalError:
        found = None
    if found is None:
        raise NoJoinStore(f"{path}: no learner ever committed to it")
    return msgspec.msgpack.decode(found[0], type=Position)

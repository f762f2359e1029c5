"""A copy of a join store is whole, and is made of a stopped learner's only."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from pipeline.join import JoinBusy
from pipeline.join_copy_sqlite import NoJoinStore, copy_join, position_of
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.join_tables import LAYOUT
from pipeline.position import POSITION, Position

STANDS = Position(version=7, offsets={"labels.v1:0": 3})
PARTS = {POSITION: msgspec.msgpack.encode(STANDS), "learner/weights": bytes(range(256)) * 4_000}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "join.sqlite"
    with closing(SqliteJoinStore(path)) as store:
        store.commit(PARTS)
    return path


def test_a_copy_holds_what_was_committed(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    assert copy_join(path, tmp_path / "copy.sqlite") == STANDS
    assert path.read_bytes() == before
    with closing(SqliteJoinStore(tmp_path / "copy.sqlite")) as store:
        assert store.parts() == PARTS


def test_a_copy_holds_what_a_killed_learner_left_in_its_log(path: Path, tmp_path: Path) -> None:
    store = SqliteJoinStore(path)
    later = msgspec.msgpack.encode(Position(version=8))
    store.commit({POSITION: later})
    killed = tmp_path / "killed"
    killed.mkdir()
    for end in ("", "-wal"):
        left = path.with_name(path.name + end).read_bytes()
        (killed / f"join.sqlite{end}").write_bytes(left)
    store.close()
    assert copy_join(killed / "join.sqlite", tmp_path / "copy.sqlite").version == 8


def test_a_running_learner_is_not_copied(path: Path, tmp_path: Path) -> None:
    with closing(SqliteJoinStore(path)):
        for look in (lambda: copy_join(path, tmp_path / "copy.sqlite"), lambda: position_of(path)):
            with pytest.raises(JoinBusy, match="stop it first"):
                look()
    assert position_of(path) == STANDS


def test_what_is_no_join_store_is_refused_by_name(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.sqlite").touch()
    (tmp_path / "text.sqlite").write_text("no database, and long enough to be read as one" * 90)
    with closing(SqliteJoinStore(tmp_path / "new.sqlite")):
        pass
    for name in ("absent.sqlite", "empty.sqlite", "new.sqlite"):
        with pytest.raises(NoJoinStore, match=name):
            position_of(tmp_path / name)
    with pytest.raises(JoinBusy, match=r"text\.sqlite"):
        position_of(tmp_path / "text.sqlite")
    with closing(sqlite3.connect(path)) as store:
        store.execute(f"PRAGMA user_version={LAYOUT + 1}")
    with pytest.raises(JoinBusy, match=f"layout {LAYOUT + 1}"):
        position_of(path)

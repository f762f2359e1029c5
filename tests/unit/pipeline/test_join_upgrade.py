"""A running deployment's join store is upgraded in place, and learned from again."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features.event import identity
from models.ensemble import Ensemble
from pipeline.decided import key_of
from pipeline.join import AGAIN, JoinBusy, Net, Statement, Subject
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.join_tables import TABLES
from pipeline.learn import LearnRules, LearnStep
from pipeline.learn_duty import begin_anew
from pipeline.position import POSITION, Position, StepCounts
from pipeline.step_ports import Company
from tests.builders_learn import FEATURES, START
from tests.fakes_learner import SPACE, a_plan, make_in_memory
from tests.unit.pipeline.test_join import a_row

DAY_MS = 86_400_000
START_MS = int(START.timestamp() * 1000)


def an_old_file(path: Path, events: int = 40) -> None:
    """What layout 1 left: matured rows, every fourth a fraud, and a checkpoint of its learner."""
    db = sqlite3.connect(path)
    for statement in TABLES.split(";"):
        db.execute(statement)
    db.execute("PRAGMA user_version=1")
    for index in range(events):
        name = identity("default", "card_payment", f"e{index}")
        subject = Subject("default", "card_payment", f"e{index}", {"card": "c"})
        fraud = index % 4 == 0
        said = (Statement("chargeback", True, "confirmed", START_MS + 5, index),) if fraud else ()
        net_ms = START_MS + 5 if fraud else START_MS + index + 7 * DAY_MS
        row = (
            *(key_of(name), name, START_MS + index, index),
            *(np.full(FEATURES, index, "<f4").tobytes(), msgspec.msgpack.encode(subject), 0.1, 7),
            *(msgspec.msgpack.encode(said) if said else None, int(fraud), net_ms, 1, 1),
        )
        db.execute(f"INSERT INTO decided VALUES ({','.join('?' * 13)})", row)
    position = Position(
        offsets={"labels:0": 9}, version=17, clock_ms=START_MS + 8 * DAY_MS, labels_learned=events
    )
    parts = {
        POSITION: msgspec.msgpack.encode(position),
        "sender": b"me",
        "weights": b"old",
        "learner/core": b"another learner's",
        "judged/0": b"other rows",
    }
    db.executemany("INSERT INTO parts VALUES (?,?)", parts.items())
    db.execute("INSERT INTO numbers VALUES (0, 40)")
    db.commit()
    db.close()


def a_step(store: SqliteJoinStore, **changed: object) -> tuple[LearnStep, Ensemble]:
    rules = LearnRules(n_features=FEATURES, label_partitions=1)
    ensemble = Ensemble(SPACE, a_plan(**changed), 1, make_in_memory)
    return LearnStep(rules, store, ensemble, Company()), ensemble


def settle_all(step: LearnStep) -> StepCounts:
    counts = StepCounts()
    while step.more_due:
        step.settle_due(counts)
    return counts


def test_an_older_file_is_upgraded_in_place_and_learned_again(tmp_path: Path) -> None:
    path = tmp_path / "join.sqlite"
    an_old_file(path)
    store = SqliteJoinStore(path)
    row = store.find_many([key_of(identity("default", "card_payment", "e4"))]).popitem()[1]
    assert (row.net, row.turns, row.p, row.outcome) == (Net(True, START_MS + 5), 1, 0.1, "approve")
    assert (row.propensity, row.card, row.taught, row.beliefs) == (1.0, 0, {}, None)
    step, ensemble = a_step(store)
    step.restore()
    assert (step.position.version, step.position.offsets) == (17, {"labels:0": 9})
    assert step.sender == b"me"
    settle_all(step)
    assert store.outbox(9) == [], "what readers were told stays told"
    assert step.position.labels_learned == 40
    assert ensemble.figures()["delayed_frauds"] == 10
    assert ensemble.figures()["delayed_legits"] == 30
    assert step.figures()["judged"] == 40
    assert step.learned_since_publish
    store.commit(step.checkpoint_parts(None, ""))
    assert not store.parts()[AGAIN]
    store.close()
    again = SqliteJoinStore(path)
    step, ensemble = a_step(again)
    step.restore()
    assert not step.more_due
    assert ensemble.figures()["delayed_frauds"] == 10
    again.close()


def test_a_crash_before_the_first_checkpoint_upgrades_no_worse(tmp_path: Path) -> None:
    path = tmp_path / "join.sqlite"
    an_old_file(path)
    SqliteJoinStore(path).close()
    store = SqliteJoinStore(path)
    step, ensemble = a_step(store)
    step.restore()
    settle_all(step)
    assert ensemble.figures()["delayed_frauds"] == 10
    store.close()


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "join.sqlite"
    SqliteJoinStore(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=4")
    db.close()
    with pytest.raises(JoinBusy, match="layout 4"):
        SqliteJoinStore(path)


def test_another_plan_learns_again_what_the_store_holds(tmp_path: Path) -> None:
    path = tmp_path / "join.sqlite"
    an_old_file(path)
    store = SqliteJoinStore(path)
    step, _ = a_step(store)
    step.restore()
    settle_all(step)
    store.commit(step.checkpoint_parts(None, ""))
    begin_anew(store, keep_vectors=True)
    step, ensemble = a_step(store, step_rows=9)
    step.restore()
    settle_all(step)
    assert ensemble.figures()["delayed_frauds"] == 10
    assert (step.position.offsets, step.position.version) == ({"labels:0": 9}, 0)
    begin_anew(store)
    step, ensemble = a_step(store)
    step.restore()
    assert not step.more_due
    assert ensemble.figures()["delayed_frauds"] == 0
    store.close()


def test_the_oldest_events_leave_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    """The bound is on the file: what is counted is never less than what lies on the disk."""
    limit, path = 4_000_000, tmp_path / "join.sqlite"
    store = SqliteJoinStore(path, bytes_max=limit)
    for day in range(8):
        rows = [a_row(f"e{index}", index) for index in range(day * 2_000, (day + 1) * 2_000)]
        for row in rows:
            row.x = b"\0" * 400
        store.add_many(rows)
        gone = store.expire(0)
        store.commit({})
        assert store.used_bytes <= limit
        assert (gone.rows > 0) == (day > 0)
    assert store.find_many([a_row("e0").key]) == {}
    assert len(store.find_many([rows[-1].key])) == 1
    used, kept = store.used_bytes, store.rows
    assert used > 0.8 * limit
    assert store.expire(0).rows == 0
    store.close()
    assert path.stat().st_size < 1.4 * limit  # it held another day before the oldest left
    again = SqliteJoinStore(path, bytes_max=limit)
    assert (again.used_bytes, again.rows) == (used, kept)
    again.close()


def test_judged_rows_are_numbered_once_and_for_all(tmp_path: Path) -> None:
    store = SqliteJoinStore(tmp_path / "join.sqlite")
    store.keep_judged([b"a", b"b", b"c"])
    assert store.judged(0, 2) == [(1, b"a"), (2, b"b")]
    assert store.judged(2, 9) == [(3, b"c")]
    store.drop_judged(3)
    store.keep_judged([b"d"])
    assert store.judged(0, 9) == [(4, b"d")]
    store.commit({})
    store.keep_judged([b"e"])
    store.close()
    again = SqliteJoinStore(tmp_path / "join.sqlite")
    assert again.judged(0, 9) == [(4, b"d")]
    again.close()


def test_a_file_without_arms_goes_on_with_what_was_learned(tmp_path: Path) -> None:
    path = tmp_path / "join.sqlite"
    with closing(SqliteJoinStore(path)) as store:
        store.add_many([a_row("e1"), a_row("e2")])
        store.commit({"learner/core": b"what was learned"})
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE decided DROP COLUMN arm")
    db.execute("PRAGMA user_version=2")
    db.commit()
    db.close()
    row = a_row("e3")
    row.arm = "3/candidate"
    with closing(SqliteJoinStore(path)) as store:
        assert store.parts() == {"learner/core": b"what was learned"}
        store.add_many([row])
        found = store.find_many([a_row(name).key for name in ("e1", "e2", "e3")])
        assert sorted(one.arm for one in found.values()) == ["", "", "3/candidate"]

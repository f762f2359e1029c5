"""What an event turned out to be depends on the set of its labels; the store forgets nothing."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.event import identity
from pipeline.decided import key_of
from pipeline.join import (
    Expired,
    JoinBusy,
    JoinRow,
    Net,
    Statement,
    Subject,
    merge,
    net_of,
    place_of,
    signed,
    transitions_of,
)
from pipeline.join_sqlite import SqliteJoinStore
from tests.builders_learn import at_ms

STATEMENTS = st.builds(
    Statement,
    st.sampled_from(["chargeback", "manual_review", "customer"]),
    st.booleans(),
    st.sampled_from(["confirmed", "suspected", "reversed"]),
    st.integers(0, 5),
    st.integers(0, 1000),
)


def a_row(event_id: str, event_ms: int = 0, place: int = 0, p: float | None = 0.5) -> JoinRow:
    name = identity("default", "card_payment", event_id)
    subject = Subject("default", "card_payment", event_id, {"card": "c"})
    return JoinRow(
        key_of(name), name, event_ms, place, b"\0" * 8, msgspec.msgpack.encode(subject), p, 7
    )


def said(source: str, label: str, time_ms: int, place: int = 0) -> Statement:
    fraud, state = {
        "fraud": (True, "confirmed"),
        "legit": (False, "confirmed"),
        "suspected": (True, "suspected"),
        "reversed": (True, "reversed"),
    }[label]
    return Statement(source, fraud, state, time_ms, place)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("statements", "silent_since_ms", "net"),
    [
        ([], None, None),
        ([], 9, Net(False, 9)),
        ([said("customer", "fraud", 5)], None, Net(True, 5)),
        ([said("customer", "fraud", 5)], 3, Net(True, 5)),
        ([said("customer", "fraud", 5), said("chargeback", "fraud", 2)], None, Net(True, 2)),
        ([said("customer", "legit", 5), said("chargeback", "fraud", 7)], None, Net(True, 7)),
        ([said("customer", "legit", 5)], 9, Net(False, 5)),
        ([said("customer", "legit", 11)], 9, Net(False, 9)),
        ([said("customer", "suspected", 5)], None, None),
        ([said("customer", "suspected", 5)], 9, None),
        ([said("customer", "suspected", 5), said("issuer", "legit", 6)], 9, Net(False, 6)),
        ([said("customer", "reversed", 5)], None, None),
        ([said("customer", "reversed", 5)], 9, Net(False, 9)),
    ],
)
def test_net_labels(
    statements: list[Statement], silent_since_ms: int | None, net: Net | None
) -> None:
    assert net_of(statements, silent_since_ms) == net


@settings(deadline=None)
@given(st.lists(STATEMENTS, max_size=5, unique_by=lambda s: s.place))
def test_statements_count_as_a_set(statements: list[Statement]) -> None:
    found = {merge((), order) for order in itertools.permutations(statements)}
    found |= {
        merge(merge((), order[:2]), order[2:]) for order in itertools.permutations(statements)
    }
    assert len(found) == 1
    (merged,) = found
    assert merge(merged, statements) == merged
    for statement in merged:
        newest = max((s.time_ms, s.place) for s in statements if s.source == statement.source)
        assert (statement.time_ms, statement.place) == newest


@settings(deadline=None)
@given(st.lists(st.sampled_from([None, Net(False, 3), Net(True, 4), Net(True, 2)]), max_size=8))
def test_transitions_add_up_to_the_net_label(nets: Sequence[Net | None]) -> None:
    row = a_row("e1")
    held: list[tuple[str, int]] = []
    names = []
    for net in nets:
        if net == row.net:
            continue
        for transition in transitions_of(row, net):
            item = (transition.label, transition.label_time_ms)
            if transition.sign > 0:
                held.append(item)
            else:
                held.remove(item)
            names.append(transition.transition_id)
            row.turns += 1
        row.net = net
        assert held == ([] if net is None else [("fraud" if net.fraud else "legit", net.time_ms)])
    assert len(names) == len(set(names))


def test_a_transition_names_its_event() -> None:
    (transition,) = transitions_of(a_row("e1"), Net(True, 1500))
    assert (transition.event_id, transition.event_type) == ("e1", "card_payment")
    assert transition.entities == {"card": "c"}
    assert transition.label_time == at_ms(1500)


def test_places_order_by_partition_then_offset() -> None:
    places = [place_of(p, o) for p in (0, 1, 7) for o in (0, 1, 2**40)]
    assert places == sorted(places)
    assert [signed(v) for v in (0, 2**63 - 1, 2**63, 2**64 - 1)] == [0, 2**63 - 1, -(2**63), -1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteJoinStore]:
    store = SqliteJoinStore(tmp_path / "join.sqlite", rows_max=5, held_max=3)
    yield store
    store.close()


def test_rows_come_back_as_they_were_settled(store: SqliteJoinStore) -> None:
    row, bare = a_row("e1", 5), a_row("e2", 6, p=None)
    bare.x = None
    assert store.add_many([row, bare]) == [row, bare]
    row.statements = (said("customer", "fraud", 5, 3),)
    row.net, row.turns, row.matured = Net(True, 5), 3, True
    store.settle_many([row])
    found = store.find_many([row.key, bare.key, 12345])
    for one in (row, bare):
        for name in JoinRow.__slots__:
            assert getattr(found[one.key], name) == getattr(one, name)
    assert len(found) == 2


def test_of_two_decisions_the_lowest_place_counts_until_a_label_is_settled(
    store: SqliteJoinStore,
) -> None:
    first = a_row("e1", place=20)
    assert store.add_many([first, a_row("e1", place=30, p=0.3)]) == [first]
    assert store.find_many([first.key])[first.key].p == 0.5
    assert store.add_many([a_row("e1", place=10, p=0.1)]) == []
    row = store.find_many([first.key])[first.key]
    assert (row.p, row.place) == (0.1, 10)
    row.net = Net(True, 1)
    store.settle_many([row])
    store.add_many([a_row("e1", place=1, p=0.9)])
    assert store.find_many([first.key])[first.key].p == 0.1
    assert store.rows == 1


def test_labels_wait_for_their_decision(store: SqliteJoinStore) -> None:
    key = a_row("e1").key
    assert store.take_held([key]) == []
    late, early = said("customer", "fraud", 5, 9), said("customer", "legit", 4, 8)
    store.hold_many([(key, late), (7, late), (key, early), (key, late)])
    assert store.held == 3
    assert store.take_held([key]) == [(key, early), (key, late)]
    assert store.held == 1
    assert store.take_held([key]) == []


def test_due_rows_come_oldest_first_until_they_matured(store: SqliteJoinStore) -> None:
    rows = [a_row(f"e{index}", event_ms) for index, event_ms in enumerate((50, 10, 30, 20))]
    store.add_many(rows)
    due = store.due_rows(30, 2)
    assert [row.event_ms for row in due] == [10, 20]
    for row in due:
        row.matured = True
    store.settle_many(due)
    assert [row.event_ms for row in store.due_rows(30, 2)] == [30]
    assert store.due_rows(29, 2) == []


def test_what_is_old_or_too_much_leaves(store: SqliteJoinStore) -> None:
    store.add_many([a_row(f"e{index}", index) for index in range(8)])
    store.hold_many([(index, said("customer", "fraud", index)) for index in range(6)])
    assert store.expire(1) == Expired(3, 3)  # one for its age, the others for the room
    assert (store.rows, store.held) == (5, 3)
    assert store.expire(1) == Expired(0, 0)
    assert [row.event_ms for row in store.due_rows(99, 99)] == [3, 4, 5, 6, 7]
    assert store.expire(7) == Expired(4, 3)


def test_the_outbox_numbers_each_partition_and_keeps_what_was_not_sent(
    store: SqliteJoinStore, tmp_path: Path
) -> None:
    (transition,) = transitions_of(a_row("e1"), Net(True, 1500))
    for partition in (1, 0, 1):
        store.send_later(partition, b"k", transition)
    assert [(o.partition, o.seq) for o in store.outbox(9)] == [(0, 1), (1, 1), (1, 2)]
    assert msgspec.json.decode(store.outbox(9)[2].body)["seq"] == 2
    store.mark_sent(store.outbox(2))
    store.commit({})
    store.close()
    again = SqliteJoinStore(tmp_path / "join.sqlite")
    assert [(o.partition, o.seq) for o in again.outbox(9)] == [(1, 2)]
    again.send_later(0, b"k", transition)
    assert [(o.partition, o.seq) for o in again.outbox(9)] == [(0, 2), (1, 2)]
    again.close()


def test_only_a_commit_lasts(store: SqliteJoinStore, tmp_path: Path) -> None:
    store.add_many([a_row("e1")])
    store.commit({"a": b"1", "b": b"2"})
    store.add_many([a_row("e2")])
    store.hold_many([(1, said("customer", "fraud", 1))])
    store.close()
    again = SqliteJoinStore(tmp_path / "join.sqlite")
    assert (again.rows, again.held, again.parts()) == (1, 0, {"a": b"1", "b": b"2"})
    again.commit({"a": b"3"})
    assert again.parts() == {"a": b"3", "b": b"2"}
    again.close()


def test_one_learner_per_disk(store: SqliteJoinStore, tmp_path: Path) -> None:
    with pytest.raises(JoinBusy, match="another learner"):
        SqliteJoinStore(tmp_path / "join.sqlite")

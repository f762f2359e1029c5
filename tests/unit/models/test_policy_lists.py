"""A scorer's copy of the lists says what the store would, whatever changed in which order."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from models import policy_list_copy
from models.policy_list_copy import ListCopy, ListMatch
from models.policy_lists import LISTS, ListChange, ListEntry, ListKey
from tests.builders_policy import NOW_MS, a_payment

keys = st.builds(
    ListKey,
    list=st.sampled_from(LISTS),
    entity=st.sampled_from(["card", "merchant"]),
    id=st.sampled_from(["c1", "m1", "x"]),
    tenant=st.sampled_from(["*", "default", "north"]),
)
entries = st.builds(
    lambda key, reason, until: ListEntry(
        list=key.list,
        entity=key.entity,
        id=key.id,
        tenant=key.tenant,
        reason=reason,
        until_ms=until,
    ),
    keys,
    st.sampled_from(["", "stolen", "case 7"]),
    st.sampled_from([0, NOW_MS - 1, NOW_MS, NOW_MS + 1]),
)
puts = entries.map(lambda entry: ListChange(_key(entry), entry))
removals = keys.map(lambda key: ListChange(key, None))


def _key(key: ListKey) -> ListKey:
    return ListKey(list=key.list, entity=key.entity, id=key.id, tenant=key.tenant)


def met(copy: ListCopy, **event: Any) -> list[ListMatch]:
    rows = copy.matches([a_payment(**event)], NOW_MS)
    return [] if rows is None else rows[0]


@settings(max_examples=150, deadline=None)
@given(
    first=st.lists(entries, max_size=8),
    changes=st.lists(st.one_of(puts, removals), max_size=10),
    merges=st.sets(st.integers(0, 9)),
)
def test_a_copy_says_what_a_dictionary_says(
    first: list[ListEntry], changes: list[ListChange], merges: set[int]
) -> None:
    copy, truth = ListCopy(), dict[ListKey, ListEntry]()
    for entry in first:
        copy.load([entry])
        truth[_key(entry)] = entry
    copy.settle()
    for i, change in enumerate(changes):
        copy.change([change])
        if change.entry is None:
            truth.pop(change.key, None)
        else:
            truth[change.key] = change.entry
        if i in merges:
            copy = copy.merged()
    entities = {"card": "c1", "merchant": "m1"}
    expected = [
        (entry.list, entry.entity, entry.id, entry.reason)
        for entry in truth.values()
        if entry.tenant in ("*", "default")
        and entities.get(entry.entity) == entry.id
        and (entry.until_ms == 0 or entry.until_ms > NOW_MS)
    ]
    found = met(copy, entities=entities)
    assert sorted(found) == sorted(expected)
    assert [LISTS.index(m.list) for m in found] == sorted(LISTS.index(m.list) for m in found)


def test_an_empty_copy_looks_nothing_up() -> None:
    copy = ListCopy()
    copy.settle()
    assert copy.matches([a_payment()], NOW_MS) is None
    assert copy.count == 0


def test_events_of_a_batch_are_told_apart() -> None:
    copy = ListCopy()
    copy.load([ListEntry(list="deny", entity="card", id="c2")])
    copy.settle()
    events = [a_payment(), a_payment(entities={"card": "c2"}), a_payment(entities={"ip": "c2"})]
    rows = copy.matches(events, NOW_MS)
    assert rows == [[], [ListMatch("deny", "card", "c2", "")], []]
    assert copy.matches([a_payment(entities={"ip": "c2"})], NOW_MS) is None


def test_a_tenant_whose_name_is_the_star_meets_an_entry_once() -> None:
    copy = ListCopy()
    copy.load([ListEntry(list="deny", entity="card", id="c1")])
    copy.settle()
    assert len(met(copy, tenant="*")) == 1


def test_texts_beyond_the_limit_are_left_out_and_their_entries_still_count(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(policy_list_copy, "ABOUTS_MAX", 4)
    copy = ListCopy()
    copy.load([ListEntry(list="deny", entity="card", id=f"c{i}", reason=f"{i}") for i in (1, 2)])
    copy.settle()
    assert met(copy, entities={"card": "c1"}) == [ListMatch("deny", "card", "c1", "1")]
    assert met(copy, entities={"card": "c2"}) == [ListMatch("deny", "card", "c2", "")]


def test_many_changes_ask_to_be_sorted_in(monkeypatch: Any) -> None:
    monkeypatch.setattr(policy_list_copy, "MERGE_AT", 2)
    copy = ListCopy()
    for i in range(3):
        assert not copy.crowded
        entry = ListEntry(list="watch", entity="card", id=f"c{i}")
        copy.change([ListChange(_key(entry), entry)])
    assert copy.crowded
    assert not copy.merged().crowded
    assert copy.merged().count == 3 == copy.count

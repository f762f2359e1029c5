"""Partitions become one sequence by append time, and nothing overtakes what may still come."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.merge import Merge


@dataclass(frozen=True)
class Record:
    timestamp: int


def merge_of(**held: list[int]) -> Merge[str, Record]:
    merge: Merge[str, Record] = Merge(list(held), buffer_records=3)
    for partition, times in held.items():
        merge.add(partition, [Record(time) for time in times])
    return merge


def release(merge: Merge[str, Record], limit: int, ended: str) -> list[tuple[str, int]]:
    found = merge.release(limit, set(ended.split()))
    return [(partition, record.timestamp) for partition, record in found]


def test_it_stops_where_a_partition_runs_out() -> None:
    merge = merge_of(a=[1, 4, 5], b=[2, 3])
    assert release(merge, 99, "") == [("a", 1), ("b", 2), ("b", 3)]
    assert release(merge, 99, "") == []
    merge.add("b", [Record(5)])
    assert release(merge, 99, "") == [("a", 4), ("a", 5)]
    assert not merge.empty
    assert release(merge, 99, "a") == [("b", 5)]
    assert merge.empty


def test_what_has_ended_holds_nobody_up() -> None:
    assert release(merge_of(a=[7], b=[]), 99, "b") == [("a", 7)]
    assert release(merge_of(a=[7], b=[]), 99, "a") == []


def test_a_release_has_a_limit_and_a_buffer_says_when_it_is_full() -> None:
    merge = merge_of(a=[1, 2, 3], b=[9])
    assert merge.full() == {"a"}
    assert release(merge, 2, "a b") == [("a", 1), ("a", 2)]
    assert merge.full() == set()


TIMES = st.lists(st.integers(0, 9), max_size=12).map(sorted)


@settings(deadline=None)
@given(TIMES, TIMES, TIMES, st.data())
def test_however_fetches_come_the_order_is_one(
    a: list[int], b: list[int], c: list[int], data: st.DataObject
) -> None:
    """Of the whole log there is one merged order; every way of fetching releases just that."""
    logs = {"a": a, "b": b, "c": c}
    whole = sorted((time, name) for name, times in logs.items() for time in times)
    merge: Merge[str, Record] = Merge(list(logs))
    fetched = dict.fromkeys(logs, 0)
    found: list[tuple[int, str]] = []
    while len(found) < len(whole):
        name = data.draw(st.sampled_from([n for n in logs if fetched[n] < len(logs[n])] or ["a"]))
        count = data.draw(st.integers(1, 4))
        part = logs[name][fetched[name] : fetched[name] + count]
        fetched[name] += len(part)
        merge.add(name, [Record(time) for time in part])
        ended = " ".join(n for n in logs if fetched[n] == len(logs[n]))
        limit = data.draw(st.integers(1, 5))
        found += [(time, partition) for partition, time in release(merge, limit, ended)]
    assert found == whole
    assert merge.empty

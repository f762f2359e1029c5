"""Hot states stay within their bytes, and the most recently changed ones stay longest."""

from pipeline.hot import ENTRY_OVERHEAD_BYTES, CacheCounts, HotStates


def test_the_least_recently_changed_state_goes_first() -> None:
    hot = HotStates(2 * (ENTRY_OVERHEAD_BYTES + 11))
    hot.keep({b"a": b"0123456789", b"b": b"0123456789"})
    hot.keep({b"a": b"changed..."})
    hot.keep({b"c": b"0123456789"})
    assert (hot.get(b"a"), hot.get(b"b")) == (b"changed...", None)
    assert len(hot) == 2


def test_hits_misses_evictions_and_bytes_are_counted() -> None:
    hot = HotStates(2 * (ENTRY_OVERHEAD_BYTES + 11))
    hot.count([hot.get(b"a")])
    hot.keep({b"a": b"0123456789", b"b": b"0123456789", b"c": b"0123456789"})
    hot.count([hot.get(key) for key in (b"a", b"b", b"c")])
    assert hot.bytes_held == 2 * (ENTRY_OVERHEAD_BYTES + 11)
    assert hot.take_counts() == CacheCounts(hits=2, misses=2, evicted=1)
    assert hot.take_counts() == CacheCounts()
    hot.clear()
    assert hot.bytes_held == 0


def test_a_state_larger_than_the_bound_is_not_kept() -> None:
    hot = HotStates(100)
    hot.keep({b"a": bytes(1000)})
    assert len(hot) == 0
    hot.keep({b"b": b""})
    hot.clear()
    assert hot.get(b"b") is None

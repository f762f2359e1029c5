"""Token buckets: how much, how fast again, and for how many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.limits import Buckets, RateLimited


def taken(buckets: Buckets, who: str, tries: int, per_s: float | None = None) -> int:
    count = 0
    for _ in range(tries):
        try:
            buckets.take(who, per_s)
        except RateLimited:
            break
        count += 1
    return count


def test_a_burst_passes_then_the_rate() -> None:
    clock = [0.0]
    buckets = Buckets("key", 10.0, 2.0, clock=lambda: clock[0])
    assert taken(buckets, "a", 100) == 20
    clock[0] += 0.5
    assert taken(buckets, "a", 100) == 5
    assert taken(buckets, "b", 100) == 20  # each has a bucket of its own
    clock[0] += 1e6
    assert taken(buckets, "a", 100) == 20


def test_a_refusal_says_when_to_come_again() -> None:
    clock = [0.0]
    buckets = Buckets("key", 0.25, 4.0, clock=lambda: clock[0])
    assert taken(buckets, "a", 9) == 1
    with pytest.raises(RateLimited) as refused:
        buckets.take("a")
    clock[0] += refused.value.retry_after_s
    assert (refused.value.retry_after_s, taken(buckets, "a", 9)) == (4, 1)


def test_a_batch_is_paid_for_before_the_next_request() -> None:
    clock = [0.0]
    buckets = Buckets("key", 100.0, 1.0, clock=lambda: clock[0])
    buckets.take("a")
    buckets.charge("a", 999)
    assert taken(buckets, "a", 1) == 0
    clock[0] += 9.0
    assert taken(buckets, "a", 1) == 0
    clock[0] += 0.02
    assert taken(buckets, "a", 9) == 2


def test_a_key_may_have_a_limit_of_its_own_and_none_means_none() -> None:
    clock = [0.0]
    buckets = Buckets("key", 10.0, 1.0, clock=lambda: clock[0])
    assert taken(buckets, "small", 100, 3.0) == 3
    assert taken(buckets, "large", 100, 50.0) == 50
    assert taken(buckets, "free", 5_000, 0.0) == 5_000
    assert taken(Buckets("address", 0.0, 1.0), "x", 5_000) == 5_000


def test_memory_is_bounded_whoever_comes() -> None:
    buckets = Buckets("address", 10.0, 1.0, buckets_max=100)
    for i in range(10_000):
        buckets.take(f"address-{i}")
    assert len(buckets) == 100


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 30)), max_size=40))
def test_nobody_ever_passes_more_than_burst_and_rate_allow(steps: list[tuple[float, int]]) -> None:
    clock = [0.0]
    buckets = Buckets("key", 5.0, 2.0, clock=lambda: clock[0])
    passed = 0
    for pause, tries in steps:
        clock[0] += pause
        passed += taken(buckets, "a", tries)
        assert passed <= 10 + 5.0 * clock[0] + 1e-6

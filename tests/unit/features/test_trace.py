"""Contexts are read, refused and drawn as the recommendation, and our own promise, have it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.trace import (
    LINKS_MAX,
    NO_TRACE,
    context_of,
    context_of_version,
    draw,
    linked,
    sampled,
    sampled_in,
    span_id_of,
    trace_id_of,
    trace_in,
    trace_of,
)

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DIGEST = "f" * 32 + "0123456789abcdef" + "0" * 16


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        b"ff" + PARENT[2:],
        PARENT.upper(),
        PARENT[:-1],
        PARENT + b"-x",
    ],
)
def test_what_is_no_context_is_dropped(bad: bytes) -> None:
    assert trace_of({b"traceparent": bad}) == NO_TRACE
    assert sampled_in([("traceparent", bad)]) == ""


def test_a_state_goes_with_its_parent_and_not_alone() -> None:
    both = (("traceparent", PARENT), ("tracestate", b"a=1"))
    assert trace_in([("other", b"x"), *both]) == both
    assert trace_in([("tracestate", b"a=1")]) == NO_TRACE
    assert trace_in([("traceparent", PARENT), ("tracestate", b"a\n")]) == both[:1]
    assert trace_in([("traceparent", PARENT), ("tracestate", b"a" * 513)]) == both[:1]


@given(st.integers(0, 255))
def test_the_sampled_flag_decides(flags: int) -> None:
    parent = PARENT[:-2] + b"%02x" % flags
    assert (sampled((("traceparent", parent),)) != "") == bool(flags & 1)


def test_a_context_has_its_parts() -> None:
    context = context_of_version(DIGEST)
    assert trace_id_of(context) == "f" * 32
    assert span_id_of(context) == "0123456789abcdef"
    assert context == context_of("f" * 32, "0123456789abcdef")
    assert trace_in([("traceparent", context.encode())]) != NO_TRACE


@given(
    st.lists(st.integers(0, 1 << 62), unique=True, max_size=60),
    st.integers(0, 60),
    st.sampled_from([0.01, 0.3, 1.0]),
)
def test_however_a_log_is_cut_the_same_events_are_drawn(
    offsets: list[int], cut: int, share: float
) -> None:
    whole = draw("events.v1", 3, offsets, share)
    halves = [draw("events.v1", 3, part, share) for part in (offsets[:cut], offsets[cut:])]
    assert whole == halves[0] | halves[1]
    assert all(trace_in([("traceparent", context.encode())]) for context in whole.values())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 1.0])
def test_as_many_are_drawn_as_were_asked_for(share: float) -> None:
    count = 40_000
    drawn = draw("events.v1", 0, range(count), share)
    spread = 5 * (count * share * (1 - share)) ** 0.5
    assert abs(len(drawn) - count * share) <= spread
    assert len({trace_id_of(context) for context in drawn.values()}) == len(drawn)
    # places of other partitions draw others
    assert share in (0.0, 1.0) or drawn.keys() != draw("events.v1", 1, range(count), share).keys()
    digits = Counter(trace_id_of(context)[0] for context in drawn.values())
    assert len(drawn) < 400 or len(digits) == 16


def test_the_first_is_the_parent_and_links_are_bounded() -> None:
    contexts = [context_of(f"{n:032x}", f"{n:016x}") for n in range(1, LINKS_MAX + 12)]
    assert linked([]) == ("", [], 0)
    assert linked([contexts[0], contexts[0]]) == (contexts[0], [], 0)
    assert linked(contexts) == (contexts[0], contexts[1 : LINKS_MAX + 1], 10)

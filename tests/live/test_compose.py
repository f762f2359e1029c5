"""The stack in containers: up, a log, a decision, a label, a newer version, down, up, resumed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.compose_stack import Stack, a_stack, now
from tests.live.compose_state import (
    LEARNED_TIMEOUT_S,
    TOPICS,
    replay_generated,
    settled,
    state_of,
    version_of,
)
from tests.live.servers import wait_until

pytestmark = [pytest.mark.live, pytest.mark.compose, pytest.mark.timeout(2400)]

EVENTS = 3_000


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with a_stack(tmp_path) as stack:
        yield stack


def test_the_stack_decides_learns_and_resumes_in_containers(stack: Stack, tmp_path: Path) -> None:
    stack.up()
    replay_generated(stack, tmp_path, EVENTS)

    at = now()
    first = stack.decide("pay_a", "tok_a", at)
    assert first["features"]["staleness_ms"] < 60_000
    before = first["model"]["version"]
    stack.report_fraud("pay_a")
    wait_until(
        lambda: version_of(stack) > before, "a version that learned it answers", LEARNED_TIMEOUT_S
    )
    assert stack.decide("pay_b", "tok_b", now())["model"]["version"] > before

    wait_until(lambda: settled(stack), "everything that was sent is applied", LEARNED_TIMEOUT_S)
    kept = asyncio.run(state_of(stack))
    assert any(kept["blobs"])
    version = version_of(stack)
    stack.compose("down")
    assert stack.compose("ps", "--all", "--quiet") == ""
    stack.up()

    # A learner may send its last label transitions again; their numbers keep them from counting.
    wait_until(lambda: settled(stack), "what was sent again is passed over", LEARNED_TIMEOUT_S)
    resumed = asyncio.run(state_of(stack))
    assert resumed["blobs"] == kept["blobs"]
    assert resumed["decided"] == kept["decided"] == resumed["ends"][TOPICS.events]
    assert all(
        ours >= theirs
        for later, earlier in zip(resumed["applied"], kept["applied"], strict=True)
        for source in ("e", "l")
        for ours, theirs in zip(later[source], earlier[source], strict=True)
    )
    repeated = stack.decide("pay_a", "tok_a", at)
    assert (repeated["decision_id"], repeated["status"]) == (first["decision_id"], "duplicate")
    assert repeated["score"] == first["score"]
    wait_until(lambda: version_of(stack) >= version, "the version is not lower", LEARNED_TIMEOUT_S)
    stack.decide("pay_c", "tok_a", now())
    stack.report_fraud("pay_c")
    wait_until(lambda: version_of(stack) > version, "the learner goes on", LEARNED_TIMEOUT_S)

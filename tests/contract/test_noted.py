"""Stores of processes note what is done by itself: once it is done, and never what was not."""

from collections.abc import AsyncIterator

import pytest

from features.client_redis import Client
from models.audit_trail import Trail, writing
from models.policy_store import PolicyAct, PolicyConflict, Switch
from models.registry import Freeze
from models.rollout import SYSTEM, RolloutAct, RolloutState
from models.rollout_store import RolloutConflict
from riskbeat.audit import Heard
from riskbeat.noted import NotedPolicies, NotedRollouts, NotedWeights
from tests.builders_rollout import a_rollout
from tests.conftest import RedisOf
from tests.contract.test_policy_store import a_policy
from tests.fakes_audit import MemoryAuditLog

DIGEST = "d" * 64
LONG = "x" * 5_000
HALT = PolicyAct(act="snooze", subject="r1", by="scorer-1", why=LONG, at_ms=5)
SWITCH = Switch(rule="r1", kind="halted", version=1, by="scorer-1", why="too many", at_ms=5)


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.live)])
async def connected(
    request: pytest.FixtureRequest, redis_of: RedisOf
) -> AsyncIterator[tuple[Client, str]]:
    connect, prefix = redis_of(request.param)
    client = connect()
    yield client, prefix
    await client.aclose()


async def noted(trail: Trail, log: MemoryAuditLog) -> list[tuple[str, str, str, str]]:
    async with writing(trail):
        pass
    acts = [row.entry.act for row in await log.read()]
    return [(act.subject, act.verb, act.target, act.by) for act in acts]


async def test_a_freeze_is_noted_by_the_one_whose_it_is(connected: tuple[Client, str]) -> None:
    log = MemoryAuditLog()
    trail = Trail(log, Heard())
    registry = NotedWeights(trail, *connected, DIGEST)
    ours = Freeze(by="checks", why=LONG, at_ms=7, cause="checks")
    assert await registry.freeze(ours) == ours
    later = Freeze(by="checks", why="again", at_ms=8, cause="checks")
    assert await registry.freeze(later) == ours
    assert await noted(trail, log) == [("weights", "freeze", "publishing", "checks")]


async def test_a_halted_rule_and_a_first_policy_are_noted(connected: tuple[Client, str]) -> None:
    log = MemoryAuditLog()
    trail = Trail(log, Heard())
    store = NotedPolicies(trail, *connected)
    await store.apply(a_policy(1), 0)
    with pytest.raises(PolicyConflict):
        await store.apply(a_policy(2), 0)
    await store.switch(SWITCH, HALT)
    assert await noted(trail, log) == [
        ("policy", "apply", "policy 1", "ann"),
        ("policy", "snooze", "rule r1", "scorer-1"),
    ]


async def test_a_step_of_a_rollout_is_noted_by_the_one_who_made_it(
    connected: tuple[Client, str],
) -> None:
    log = MemoryAuditLog()
    trail = Trail(log, Heard())
    store = NotedRollouts(trail, *connected, DIGEST, 10.0)
    rollout = a_rollout()
    state = RolloutState(revision=1, rollout=rollout)
    act = RolloutAct(
        act="advance",
        number=rollout.number,
        candidate=str(rollout.candidate),
        share=0.1,
        by=SYSTEM,
        why="",
        at_ms=9,
    )
    await store.replace(state, act)
    with pytest.raises(RolloutConflict):
        await store.replace(state, act)
    target = f"rollout {rollout.number} of {rollout.candidate}"
    assert await noted(trail, log) == [("rollout", "advance", target, SYSTEM)]

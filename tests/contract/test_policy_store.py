"""One suite for the policy store, on the fake always and on Redis with `-m live`."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from models.policy_store import (
    HISTORY_MAX,
    VERSIONS_KEPT,
    KeptPolicy,
    NoPolicy,
    PolicyAct,
    PolicyConflict,
    PolicyStanding,
    PolicyStore,
    ScorerPolicy,
    Switch,
)
from models.policy_store_redis import RedisPolicyStore
from tests.conftest import CONTRACT_PARAMS, UNDER_RIGHTS_OF, RedisOf
from tests.fakes_policy import MemoryPolicyStore


@pytest.fixture(params=[*CONTRACT_PARAMS, UNDER_RIGHTS_OF["serve"]])
async def store(request: pytest.FixtureRequest, redis_of: RedisOf) -> AsyncIterator[PolicyStore]:
    if request.param == "memory":
        yield MemoryPolicyStore()
        return
    connect, prefix = redis_of(request.param)
    client = connect()
    yield RedisPolicyStore(client, prefix)
    await client.aclose()


def a_policy(version: int) -> KeptPolicy:
    return KeptPolicy(
        version=version,
        digest=f"{version:064x}",
        text=f"version: {version}\n",
        by="ann",
        why="tighter",
        at_ms=version,
    )


def an_act(kind: str, version: int = 0, subject: str = "") -> PolicyAct:
    return PolicyAct(
        act=kind,  # type: ignore[arg-type]
        version=version,
        digest=f"{version:064x}" if version else "",
        subject=subject,
        by="bob",
        why="noise",
        at_ms=9,
    )


async def test_an_empty_store_says_so(store: PolicyStore) -> None:
    assert await store.standing() == PolicyStanding()
    assert (await store.versions(), await store.switches(), await store.history()) == ([], {}, [])
    with pytest.raises(NoPolicy, match="version 1 is not in the store"):
        await store.read(1)


async def test_what_was_applied_counts_and_is_kept_word_for_word(store: PolicyStore) -> None:
    await store.apply(a_policy(3), 0)
    await store.apply(a_policy(7), 3)
    standing = await store.standing()
    assert (standing.active, standing.digest, standing.latest) == (7, f"{7:064x}", 7)
    assert [await store.read(3), await store.read(7)] == [a_policy(3), a_policy(7)]
    assert await store.versions() == [a_policy(7), a_policy(3)]
    assert [(act.act, act.version, act.by, act.why) for act in await store.history()] == [
        ("apply", 7, "ann", "tighter"),
        ("apply", 3, "ann", "tighter"),
    ]


async def test_of_two_who_apply_at_once_one_is_refused_and_nothing_of_it_kept(
    store: PolicyStore,
) -> None:
    await store.apply(a_policy(1), 0)
    told = await asyncio.gather(
        *(store.apply(a_policy(version), 1) for version in (2, 3)), return_exceptions=True
    )
    assert sorted(type(one) for one in told if one is not None) == [PolicyConflict]
    assert len(await store.versions()) == 2 == len(await store.history())


@pytest.mark.parametrize("version", [1, 2])
async def test_a_number_is_never_used_twice(store: PolicyStore, version: int) -> None:
    await store.apply(a_policy(2), 0)
    before = await store.standing()
    with pytest.raises(PolicyConflict, match="not above 2"):
        await store.apply(a_policy(version), 2)
    assert await store.standing() == before


async def test_an_earlier_version_counts_again_and_later_numbers_stay_taken(
    store: PolicyStore,
) -> None:
    await store.apply(a_policy(1), 0)
    await store.apply(a_policy(2), 1)
    await store.rollback(an_act("rollback", 1), 2)
    standing = await store.standing()
    assert (standing.active, standing.digest, standing.latest) == (1, f"{1:064x}", 2)
    with pytest.raises(PolicyConflict, match=r"counts, not 2"):
        await store.rollback(an_act("rollback", 1), 2)
    with pytest.raises(NoPolicy):
        await store.rollback(an_act("rollback", 9), 1)
    with pytest.raises(PolicyConflict):
        await store.apply(a_policy(2), 1)
    assert [act.act for act in await store.history()] == ["rollback", "apply", "apply"]


async def test_old_versions_leave_and_the_newest_stay(store: PolicyStore) -> None:
    for version in range(1, VERSIONS_KEPT + 4):
        await store.apply(a_policy(version), version - 1)
    kept = [policy.version for policy in await store.versions()]
    assert kept == list(range(VERSIONS_KEPT + 3, 3, -1))


async def test_a_rule_is_switched_off_and_on_and_both_are_written_down(store: PolicyStore) -> None:
    snooze = Switch(rule="r", kind="snoozed", until_ms=50, by="bob", why="noise", at_ms=9)
    before = (await store.standing()).revision
    await store.switch(snooze, an_act("snooze", subject="r"))
    assert await store.switches() == {"r": snooze}
    assert (await store.standing()).revision > before
    assert await store.resume("r", an_act("resume", subject="r"))
    assert not await store.resume("r", an_act("resume", subject="r"))
    assert await store.switches() == {}
    assert [(act.act, act.subject) for act in await store.history()] == [
        ("resume", "r"),
        ("snooze", "r"),
    ]


async def test_the_newest_acts_are_remembered(store: PolicyStore) -> None:
    for number in range(HISTORY_MAX + 2):
        await store.note(an_act("put", subject=f"{number}"))
    acts = await store.history()
    assert len(acts) == HISTORY_MAX
    assert acts[0].subject == f"{HISTORY_MAX + 1}"


async def test_scorers_say_what_they_rule_by(store: PolicyStore) -> None:
    mine = ScorerPolicy(version=3, digest="d" * 64, refused="policy version 4:1: no")
    await store.report("a", mine)
    await store.report("b", ScorerPolicy(version=4, digest="e" * 64))
    assert (await store.scorers())["a"] == mine
    assert sorted(await store.scorers()) == ["a", "b"]

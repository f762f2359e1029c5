"""What every store of rollouts promises: the memory fake always, Redis with `-m live`."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import pytest

from models.rollout import MAIN, RolloutAct, RolloutState, Target
from models.rollout_counts import ArmCounts, JudgedCounts
from models.rollout_redis import RedisRolloutStore
from models.rollout_signals import JudgedReport, Report
from models.rollout_store import RolloutConflict, RolloutStore
from tests.builders_registry import SPEC
from tests.builders_rollout import a_rollout
from tests.conftest import CONTRACT_PARAMS, UNDER_RIGHTS_OF, RedisOf
from tests.fakes_rollout import MemoryRolloutStore

FOR_LONG_S = 60.0


class Pair(NamedTuple):
    """Two processes over one store."""

    one: RolloutStore
    other: RolloutStore


@pytest.fixture(params=[*CONTRACT_PARAMS, UNDER_RIGHTS_OF["serve"]])
async def pair(request: pytest.FixtureRequest, redis_of: RedisOf) -> AsyncIterator[Pair]:
    if request.param == "memory":
        store = MemoryRolloutStore()
        yield Pair(store, store)
        return
    connect, prefix = redis_of(request.param)
    clients = [connect() for _ in range(2)]
    try:
        yield Pair(*(RedisRolloutStore(client, prefix, SPEC) for client in clients))
    finally:
        for client in clients:
            await client.aclose()


def an_act(why: str) -> RolloutAct:
    return RolloutAct(
        act="start", number=1, candidate="rival", share=0.0, by="ann", why=why, at_ms=17
    )


async def test_an_empty_store_says_that_the_main_line_answers(pair: Pair) -> None:
    assert await pair.one.read() == RolloutState(revision=0, line=MAIN, rollout=None)
    assert await pair.one.history() == []
    assert await pair.one.reports() == {}
    assert await pair.one.judged() is None


async def test_a_state_is_read_by_others_as_it_was_written(pair: Pair) -> None:
    state = RolloutState(revision=1, rollout=a_rollout(candidate=Target(line="rival", at=7)))
    await pair.one.replace(state, an_act("a try"))
    assert await pair.other.read() == state
    assert await pair.other.history() == [an_act("a try")]


async def test_acts_are_kept_newest_first(pair: Pair) -> None:
    for revision, why in enumerate(("first", "second", "third"), start=1):
        await pair.one.replace(RolloutState(revision=revision), an_act(why))
    assert [act.why for act in await pair.other.history()] == ["third", "second", "first"]


@pytest.mark.parametrize("revision", [0, 1, 2, 4])
async def test_a_change_of_an_older_state_is_refused(pair: Pair, revision: int) -> None:
    for number in (1, 2):
        await pair.one.replace(RolloutState(revision=number), an_act("before"))
    with pytest.raises(RolloutConflict):
        await pair.other.replace(RolloutState(revision=revision, line="other"), an_act("late"))
    assert await pair.one.read() == RolloutState(revision=2)
    assert len(await pair.one.history()) == 2


async def test_of_many_changes_at_once_one_wins(pair: Pair) -> None:
    results = await asyncio.gather(
        *(
            store.replace(RolloutState(revision=1, line=line), an_act(line))
            for line, store in zip("abcdef", [pair.one, pair.other] * 3, strict=True)
        ),
        return_exceptions=True,
    )
    assert sorted(str(type(one)) for one in results if one) == [str(RolloutConflict)] * 5
    [winner] = [line for line, lost in zip("abcdef", results, strict=True) if lost is None]
    assert (await pair.one.read()).line == winner
    assert [act.why for act in await pair.other.history()] == [winner]


async def test_the_newest_report_of_each_worker_counts(pair: Pair) -> None:
    seen = ArmCounts(decisions=3, alerts=1, apart=0.25, scores=(1,) * 42)
    first = Report(number=1, step=0, slot="loading")
    second = Report(number=1, step=1, slot="ready", version=9, candidate=seen)
    await pair.one.report("a", first)
    await pair.other.report("b", first)
    await pair.one.report("a", second)
    assert await pair.other.reports() == {"a": second, "b": first}


async def test_what_is_known_of_decisions_is_replaced(pair: Pair) -> None:
    counts = JudgedCounts(judged=20.5, frauds=3, alerts=4, caught=2, average_precision=0.5)
    await pair.one.report_judged(JudgedReport(number=1))
    await pair.one.report_judged(JudgedReport(number=2, candidate=counts))
    assert await pair.other.judged() == JudgedReport(number=2, candidate=counts)


async def test_one_worker_at_a_time_has_the_right_to_decide(pair: Pair) -> None:
    taken = await asyncio.gather(
        *(store.take_lease(name, FOR_LONG_S) for name, store in zip("ab", pair, strict=True))
    )
    assert sorted(taken) == [False, True]
    winner, store = ("a", pair.one) if taken[0] else ("b", pair.other)
    assert await store.take_lease(winner, FOR_LONG_S)


@pytest.mark.live
async def test_what_is_not_renewed_is_forgotten(redis_of: RedisOf) -> None:
    connect, prefix = redis_of("redis")
    client = connect()
    store = RedisRolloutStore(client, prefix, SPEC, report_ttl_s=0.05)
    try:
        await store.report("a", Report(number=1, step=0, slot="ready"))
        assert await store.take_lease("a", 0.05)
        reported, taken = True, False
        async with asyncio.timeout(FOR_LONG_S):
            while reported or not taken:
                reported = bool(await store.reports())
                taken = await store.take_lease("b", FOR_LONG_S)
                await asyncio.sleep(0.01)
    finally:
        await client.aclose()


@pytest.mark.live
async def test_a_report_over_other_edges_is_left_out(redis_of: RedisOf) -> None:
    connect, prefix = redis_of("redis")
    client = connect()
    store = RedisRolloutStore(client, prefix, SPEC)
    mine = Report(number=1, step=0, slot="ready")
    try:
        await store.report("a", mine)
        theirs = msgspec.to_builtins(mine)
        theirs["candidate"]["scores"] = [1, 2, 3]
        [key] = [key async for key in client.scan_iter(f"{prefix}*rollout.reports")]
        await client.hset(key, "old build", msgspec.json.encode(theirs))
        assert await store.reports() == {"a": mine}
    finally:
        await client.aclose()

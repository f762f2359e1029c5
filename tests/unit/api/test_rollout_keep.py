"""Workers agree on one state: they follow it, report, and one of them decides."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from api.rollout_keep import HANDOVER_STEPS_MAX
from api.rollout_lines import CANDIDATE
from api.rollout_page import look, row_of
from models.rollout import MAIN, CannotRoll, RolloutAct, RolloutState, Target
from models.rollout_acts import change, settle
from models.rollout_rules import aborted, advanced, promoted
from models.rollout_signals import Report
from models.rollout_store import RolloutConflict
from models.scorer import ACTIVE
from models.signing import ensure_keys
from models.weights import encode
from tests.builders_rollout import counts
from tests.builders_weights import some_weights
from tests.rollout_town import (
    BLIND_S,
    RIVAL,
    Store,
    Town,
    Worker,
    a_worker,
    live,
    models,
    over,
    quick,
)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    signer = ensure_keys(tmp_path / "signing.pem", tmp_path / "public.pem")
    return Town(tmp_path, signer, Store(), {})


@pytest.fixture
async def worker(town: Town) -> Worker:
    worker = a_worker(town, "w1")
    await town.publish(worker.stand.spec, 1)
    await worker.step()
    return worker


async def test_a_good_line_goes_through_its_steps_and_takes_over(
    town: Town, worker: Worker
) -> None:
    await town.publish(worker.stand.spec, 1, "rival")
    await town.roll(RIVAL, quick(0.0, 0.5, 1.0))
    state = await live(town, worker, over)
    await worker.step()
    state = await town.store.read()
    assert state.rollout is not None
    assert (state.rollout.stage, state.line, state.rollout.settled) == ("promoted", "rival", True)
    acts = [act.act for act in await town.store.history()][::-1]
    assert acts == ["start", "advance", "advance", "promote", "settle"]
    assert [act.act for act in worker.ear.acts] == acts[1:]
    await worker.step()
    records = await worker.pay()
    assert (models(records), {record.rollout for record in records}) == ({"rival"}, {None})
    await worker.lines.close()


async def test_a_bad_line_is_turned_back_while_answers_go_on(town: Town, worker: Worker) -> None:
    await town.publish(worker.stand.spec, 1, "rival", shift=3.0)
    await town.roll(RIVAL, quick(0.5, 1.0))
    state = await live(town, worker, over)
    assert state.rollout is not None
    assert (state.rollout.stage, state.line) == ("rolled_back", MAIN)
    assert "PSI" in state.rollout.because
    await worker.step()
    assert models(await worker.pay()) == {"champion"}
    assert "rival" not in worker.lines._lines  # nobody follows it any more


async def test_a_promoted_version_is_pinned_and_never_leaves_the_shelf(
    town: Town, worker: Worker
) -> None:
    main = town.registry_of(MAIN)
    await town.roll(Target(at=1), quick(1.0))
    for version in range(2, 8):
        await town.publish(worker.stand.spec, version)
    await live(town, worker, over)
    await worker.step()
    standing = await main.standing()
    assert (standing.latest, standing.active, standing.pinned) == (7, 1, True)
    assert (await main.history())[0].by == "riskbeat"
    for _ in range(3):  # the stable slot takes over, and the candidate's is let go
        versions = {r.weights.version for r in await worker.pay() if r.weights is not None}
        assert versions == {1}
        await worker.step()
    assert CANDIDATE not in worker.stand.scorer.versions()
    assert worker.stand.rollouts.running is None
    await town.publish(worker.stand.spec, 8)
    assert [one.version for one in await main.shelf()] == [1, 6, 7, 8]


async def test_the_newest_is_a_candidate_beside_a_pinned_one(town: Town, worker: Worker) -> None:
    main = town.registry_of(MAIN)
    await main.pin(1, "ann", "held", 0)
    await town.publish(worker.stand.spec, 2)
    await town.roll(Target(at="latest"), quick(1.0))
    await worker.step()
    assert {r.weights.version for r in await worker.pay() if r.weights} == {2}
    await town.publish(worker.stand.spec, 3)  # and follows what is published meanwhile
    await worker.step()
    assert {r.weights.version for r in await worker.pay() if r.weights} == {3}
    await live(town, worker, over)
    await worker.step()
    assert not (await main.standing()).pinned
    await town.publish(worker.stand.spec, 4)
    for _ in range(2):
        await worker.step()
    assert {r.weights.version for r in await worker.pay() if r.weights} == {4}


async def test_a_version_that_the_stable_slot_never_takes_is_let_go(
    town: Town, worker: Worker
) -> None:
    """What the line's pointer and gates say counts: an operator must not be ignored."""
    await town.roll(Target(at=1), quick(1.0))
    await live(town, worker, over)
    await worker.keeper.step()
    await town.publish(worker.stand.spec, 2)
    await town.registry_of(MAIN).unpin("bob", "no", 0)
    await worker.watcher.step(0.0)
    for _ in range(HANDOVER_STEPS_MAX + 2):
        await worker.keeper.step()
    assert {r.weights.version for r in await worker.pay() if r.weights} == {2}


async def test_a_line_of_another_spec_is_turned_back(town: Town, worker: Worker) -> None:
    foreign = some_weights("f" * 64, worker.stand.spec.n_features)
    await town.registry_of("rival").publish(1, encode(foreign, town.signer))
    await town.roll(RIVAL, quick(0.5))
    state = await live(town, worker, over)
    assert state.rollout is not None
    assert "digest" in state.rollout.because
    assert models(await worker.pay()) == {"champion"}


async def test_a_version_that_a_gate_refuses_is_turned_back(town: Town, worker: Worker) -> None:
    spec = worker.stand.spec
    bad = dataclasses.replace(some_weights("f" * 64, spec.n_features), version=2)
    await town.registry_of(MAIN).publish(2, encode(bad, town.signer))
    await town.roll(Target(at=2), quick(0.5))
    state = await live(town, worker, over)
    assert state.rollout is not None
    assert "refused" in state.rollout.because
    assert models(await worker.pay()) == {"champion"}


async def test_two_workers_agree_and_one_decides(town: Town, worker: Worker) -> None:
    other = a_worker(town, "w2")
    await town.publish(worker.stand.spec, 1, "rival")
    await town.roll(RIVAL, quick(0.5))
    both = (worker, other)
    for _ in range(3):
        for one in both:
            await one.step()
        arms = []
        for one in both:
            one.paid = 0
            records = await one.pay()
            arms.append([r.rollout.arm if r.rollout else None for r in records])
        assert arms[0] == arms[1]  # the same card, the same arm, whoever is asked
    for one in both:
        await one.step()
    reports = await town.store.reports()
    assert set(reports) == {"w1", "w2"}
    state, signals = await look(town.store)
    assert signals is not None
    assert (signals.workers, signals.ready) == (2, 2)
    assert signals.candidate.decisions == sum(r.candidate.decisions for r in reports.values())
    town.now_ms += 60_000
    for one in both:
        await one.step()
    assert [act.act for act in worker.ear.acts] == ["promote"]
    assert other.ear.acts == []
    row = row_of(state, signals)
    assert row["rollout"]["candidate"] == "rival"
    assert {one["signal"] for one in row["rollout"]["readings"]} >= {"psi", "alerts", "model_ms"}
    assert row_of(RolloutState(), None)["rollout"] is None


async def test_a_worker_that_hears_nothing_leaves_the_candidate_aside(
    town: Town, worker: Worker
) -> None:
    await town.publish(worker.stand.spec, 1, "rival")
    await town.roll(RIVAL, quick(1.0, automatic=False))
    await worker.step()
    await worker.step()
    assert models(await worker.pay()) == {"rival"}
    town.store.away = True
    stopping = asyncio.Event()
    running = asyncio.create_task(worker.keeper.run(stopping))
    await asyncio.sleep(0.02)
    assert models(await worker.pay()) == {"rival"}  # a moment of silence is nothing
    town.tick_s += BLIND_S + 1
    async with asyncio.timeout(10):
        while worker.stand.rollouts.running is not None:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
    assert models(await worker.pay()) == {"champion"}
    assert worker.ear.blind == 1
    town.store.away = False
    async with asyncio.timeout(10):
        while worker.stand.rollouts.running is None:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
    stopping.set()
    await running


async def test_a_turn_back_is_tried_again_on_what_others_made_of_it(
    town: Town, worker: Worker
) -> None:
    await town.publish(worker.stand.spec, 1, "rival")
    state = await town.roll(RIVAL, quick(0.2, 0.5, 1.0))
    await worker.step()
    assert state.rollout is not None
    await town.store.report("w9", Report(number=1, step=0, slot="refused", detail="no signature"))
    replace = town.store.replace

    async def replace_late(state: RolloutState, act: RolloutAct) -> None:
        """Somebody advances it between our look and our write."""
        town.store.replace = replace  # type: ignore[method-assign]
        await change(town.store, "advance", lambda r: advanced(r, 5), "bob", "", 5)
        await replace(state, act)

    town.store.replace = replace_late  # type: ignore[method-assign]
    await worker.keeper.step()
    after = await town.store.read()
    assert after.rollout is not None
    assert (after.rollout.stage, after.rollout.step) == ("rolled_back", 1)
    assert [act.act for act in await town.store.history()] == ["rollback", "advance", "start"]


async def test_acts_on_what_is_over_are_refused(town: Town, worker: Worker) -> None:
    with pytest.raises(CannotRoll, match="no such rollout"):
        await change(town.store, "abort", lambda r: aborted(r, "", 0), "bob", "", 0)
    with pytest.raises(CannotRoll, match="no version has been published in line rival"):
        await town.roll(RIVAL, quick(1.0))
    with pytest.raises(CannotRoll, match="main@99: version 99 is not in the registry"):
        await town.roll(Target(at=99), quick(1.0))
    await town.publish(worker.stand.spec, 1, "rival")
    first = await town.roll(RIVAL, quick(1.0))
    assert await settle(town.store, town.registry_of, first, 0) == first
    await change(town.store, "abort", lambda r: aborted(r, "", 0), "bob", "", 0, number=1)
    for number in (1, 2):
        with pytest.raises(CannotRoll):
            await change(
                town.store, "promote", lambda r: promoted(r, "", 0), "bob", "", 0, number=number
            )
    with pytest.raises(RolloutConflict):
        await town.store.replace(first, (await town.store.history())[0])
    await town.roll(RIVAL, quick(1.0))
    assert counts(3).decisions == 3
    assert ACTIVE in worker.stand.scorer.versions()

"""A shadow scores what was answered, and changes nothing."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from api.rollout import Rollouts
from api.rollout_counts import ArmTally
from models.decision_codec import answer_of, decode_vector
from tests.builders_weights import some_weights
from tests.fakes_serving import a_stand, an_event
from tests.oracle_forward import logit_of
from tests.rollout_stand import MANY, RIVAL, decide, events, run


async def test_a_shadow_changes_nothing_but_its_own_place(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("plain", "shadowed")]
    for folder in folders:
        folder.mkdir()
    plain, shadowed = (a_stand(folder) for folder in folders)
    for stand in (plain, shadowed):
        stand.load(1)
    run(shadowed, 0.0, shadow=True)
    for record, other in zip(
        await decide(plain, events()), await decide(shadowed, events()), strict=True
    ):
        assert answer_of(other).outcome == answer_of(record).outcome
        for name in ("score", "reasons", "rules", "vector", "weights", "degraded", "overlay"):
            assert getattr(other, name) == getattr(record, name), name
        [shadow] = other.shadow
        x = decode_vector(other.vector)[None, :]
        spec = shadowed.spec
        expected = float(logit_of(some_weights(spec.digest, spec.n_features, version=RIVAL), x)[0])
        assert shadow.logit == pytest.approx(expected, abs=1e-5)
        assert (shadow.state, shadow.model, shadow.version) == ("scored", "rival", RIVAL)
        assert shadow.sha256 == f"{RIVAL:064x}"
        assert shadow.value == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-5)
        assert shadow.beside == record.outcome
        assert record.shadow == []
    assert len(plain.states.states) == len(shadowed.states.states)


@pytest.mark.parametrize(
    "rollouts", [Rollouts(10.0, 0.0), Rollouts(-1.0, 60.0)], ids=["late", "slow"]
)
async def test_a_shadow_is_skipped_when_time_is_short(tmp_path: Path, rollouts: Rollouts) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    run(stand, 0.0, shadow=True)
    rollouts.running = stand.rollouts.running
    stand.decider._rollouts = rollouts
    records = await decide(stand, events(4))
    assert [[one.state for one in r.shadow] for r in records] == [["skipped"]] * 4
    assert [r.degraded for r in records] == [[]] * 4


async def test_a_slow_shadow_is_skipped_for_a_while_and_tried_again(tmp_path: Path) -> None:
    ticks = iter(range(10_000))  # each look at the clock takes a second
    rollouts = Rollouts(0.5, 1e9, lambda: float(next(ticks)))
    stand = a_stand(tmp_path)
    stand.load(1)
    run(stand, 0.0, shadow=True)
    rollouts.running = stand.rollouts.running
    stand.decider._rollouts = rollouts
    states = []
    for i in range(60):
        [record] = await decide(stand, [an_event(f"p{i}", card="c", merchant="m")])
        states.append(record.shadow[0].state)
    assert states[0] == "scored"
    assert 0.2 < states.count("scored") / len(states) < 0.8


async def test_without_features_there_is_no_shadow(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    run(stand, 0.0, shadow=True)
    stand.states.away = True
    [record] = await decide(stand, events(1))
    assert (record.degraded, record.shadow[0].state) == (["features"], "skipped")


async def test_where_the_candidate_answers_all_the_stable_version_is_the_shadow(
    tmp_path: Path,
) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    run(stand, 1.0, shadow=True)
    running = stand.rollouts.running
    assert running is not None
    stand.rollouts.running = dataclasses.replace(running, full=True)
    tally = ArmTally()
    tally.begin(3, 0)
    records = await decide(stand, events())
    tally.observe(records)
    for record in records:
        assert record.weights is not None
        [shadow] = record.shadow
        assert (record.weights.version, shadow.version, shadow.model) == (RIVAL, 1, "champion")
    _, candidate, shadow_counts, beside = tally.counted()
    assert candidate.decisions == shadow_counts.decisions == beside.decisions == MANY
    assert shadow_counts.scores == candidate.scores  # the candidate's side of each pair
    assert beside.scores != candidate.scores

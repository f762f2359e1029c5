"""Who answers in a lane, how much, and how lanes forget."""

import numpy as np
import pytest

from models.ensemble import REFIT_ROWS, Ensemble
from models.fading import FADE_VERSIONS, forest_logit
from models.plan import Member
from models.taught import Taught
from models.weights import encode
from tests.builders_ensemble import (
    FLOATS,
    a_stamp,
    an_ensemble,
    logit_by_hand,
    logit_of,
    make_network,
    some_rows,
    teach,
)
from tests.builders_learn import FEATURES
from tests.fakes_learner import SPACE, a_plan
from tests.signers import SIGNER


def test_a_lane_answers_once_it_has_learned_enough_of_both() -> None:
    ensemble = an_ensemble(lane_frauds_min=10)
    shares = lambda: {lane.name: lane.weight for lane in ensemble.snapshot(a_stamp()).lanes}  # noqa: E731
    assert sum(shares().values()) == 1
    rows = some_rows(200, 1)
    frauds, legits = rows.part(rows.y == 1), rows.part(rows.y == 0)
    ensemble.learn_many("feedback", frauds.part(slice(0, 9)))
    ensemble.learn_many("feedback", legits.part(slice(0, 20)))
    ensemble.learn_many("delayed", frauds)  # and nothing that was legit
    assert shares() == {"feedback": 1, "delayed": 0}
    ensemble.learn_many("delayed", legits)
    assert shares() == {"feedback": 0, "delayed": 1}
    ensemble.learn_many("feedback", frauds.part(slice(9, 10)))
    assert shares() == {"feedback": 0.5, "delayed": 0.5}
    ensemble.forget_many("feedback", frauds.part(slice(0, 1)))
    assert shares() == {"feedback": 0, "delayed": 1}


def test_members_are_weighed_by_what_they_believed_when_events_were_decided() -> None:
    """Not by what they believe now: the better member of old beliefs wins, whatever it learned."""
    ensemble = an_ensemble()
    rows = some_rows(4_000, 2)
    good = np.where(rows.y == 1, 2.0, -2.0)
    beliefs = np.zeros((4_000, len(ensemble.predictors)), np.float32)
    slow, boosted = (ensemble.predictors.index(f"delayed.{n}") for n in ("slow", "boosted"))
    beliefs[:, boosted] = good
    beliefs[:, slow] = -good
    before = ensemble.predict_each(rows.X)
    ensemble.judge_many(beliefs, rows.y, rows.w, rows.ids, rows.at_ms)
    weights = {
        m.name: m.weight for m in ensemble.snapshot(a_stamp()).members if m.lane == "delayed"
    }
    assert weights["slow"] < 0.01
    assert sum(weights.values()) == pytest.approx(1)
    assert (ensemble.predict_each(rows.X) == before).all(), "judging teaches no member"


def test_calibration_makes_shifted_beliefs_probable() -> None:
    """Members that see fifty times too many frauds are brought down to what happens."""
    ensemble = an_ensemble()
    draws = np.random.default_rng(4)
    count = 4 * REFIT_ROWS
    truth = draws.normal(-4, 1.5, count)
    y = (draws.random(count) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    shifted = np.repeat((truth + 4)[:, None], len(ensemble.predictors), axis=1).astype(np.float32)
    ids = np.arange(count).astype(np.uint64)
    for start in range(0, count, 500):
        part = slice(start, start + 500)
        w = np.ones(len(y[part]), np.float32)
        ensemble.judge_many(shifted[part], y[part], w, ids[part], ids[part].astype(np.int64))
    weights = ensemble.snapshot(a_stamp())
    for lane in weights.lanes:
        assert lane.a == pytest.approx(1, abs=0.25)
        assert lane.b == pytest.approx(-4, abs=0.6)


def test_a_forest_that_was_grown_anew_is_faded_in() -> None:
    ensemble = an_ensemble(lane_frauds_min=1, lanes={"delayed": {"boosted": Member("forest")}})
    teach(ensemble)
    X = some_rows(100, 8).X
    ensemble.snapshot(a_stamp())
    before = ensemble.predict_each(X)[:, 0].astype(np.float64)
    ensemble.learn_many("delayed", some_rows(400, 5, 5_000))
    ensemble.advance(10_000)
    after = ensemble.predict_each(X)[:, 0].astype(np.float64)
    jump = np.abs(after - before).max()
    assert jump > 0.1
    standing = before
    for version in range(2, FADE_VERSIONS + 2):
        weights = ensemble.snapshot(a_stamp(version))
        logit = logit_by_hand(weights, X)
        assert np.abs(logit - standing).max() <= jump / FADE_VERSIONS * 1.01
        standing = logit
        assert sum(m.weight for m in weights.members) == pytest.approx(1)
    assert standing == pytest.approx(after, abs=1e-5)
    assert [m.name for m in weights.members] == ["boosted.2"]


def test_trees_answer_as_a_walk_from_the_root_does() -> None:
    draws = np.random.default_rng(5)
    arrays = {
        "feature": draws.integers(0, FEATURES, (4, 7)).astype(np.int32),
        "threshold": draws.normal(1, 1, (4, 7)).astype(np.float32),
        "left": np.tile(np.array([1, 3, 5, 3, 4, 5, 6], np.int32), (4, 1)),
        "right": np.tile(np.array([2, 4, 6, 3, 4, 5, 6], np.int32), (4, 1)),
        "missing_left": draws.integers(0, 2, (4, 7)).astype(np.int32),
        "value": draws.normal(0, 1, (4, 7)).astype(np.float32),
        "bias": np.array([0.3], np.float32),
        "depth": np.array([2], np.int32),
        "link": np.array([0], np.int32),
    }
    X = some_rows(50, 6).X

    def walk(x: FLOATS) -> float:
        total = 0.3
        for tree in range(4):
            node = 0
            while arrays["left"][tree, node] != node:
                value = x[arrays["feature"][tree, node]]
                goes_left = (
                    arrays["missing_left"][tree, node] == 1
                    if np.isnan(value)
                    else value <= arrays["threshold"][tree, node]
                )
                node = int(arrays["left" if goes_left else "right"][tree, node])
            total += float(arrays["value"][tree, node])
        return total

    assert forest_logit(arrays, X) == pytest.approx([walk(x) for x in X], abs=1e-5)
    chances = arrays | {"link": np.array([1], np.int32), "bias": np.array([0.0], np.float32)}
    p = np.clip([walk(x) - 0.3 for x in X], 1e-6, 1 - 1e-6)
    assert forest_logit(chances, X) == pytest.approx(np.log(p / (1 - p)), abs=1e-3)


def test_what_still_waits_for_a_full_step_is_forgotten_without_a_trace() -> None:
    lied, never = an_ensemble(), an_ensemble()
    rows, lie = some_rows(35, 1), some_rows(3, 2, 900)
    for ensemble in (lied, never):
        ensemble.learn_many("delayed", rows)
    lied.learn_many("delayed", lie)
    lied.forget_many("delayed", lie)
    assert encode(lied.snapshot(a_stamp()), SIGNER) == encode(never.snapshot(a_stamp()), SIGNER)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_turned_label_is_undone_as_far_as_we_say(seed: int) -> None:
    """As docs/learning.md says: a part of the pull at once, more as later rows wear it off."""
    options: dict[str, float | int | str] = {"hidden_0": 16, "hidden_1": 8, "learning_rate": 3e-3}
    plan = a_plan(
        lanes={"delayed": {"network": Member("network", options)}}, step_rows=32, keep_rows=4_096
    )
    rows = some_rows(6_000, seed)
    told = rows.part(rows.y == 0).part(slice(0, 320))
    lie = told._replace(y=np.ones(320, np.uint8))
    rest = rows.part(~np.isin(rows.ids, told.ids))

    def learn(parts: list[Taught], *ensembles: Ensemble) -> None:
        for ensemble in ensembles:
            for part in parts:
                ensemble.learn_many("delayed", part)
                ensemble.flush()

    undone, kept, never = (Ensemble(SPACE, plan, seed, make_network) for _ in range(3))
    for ensemble in (undone, kept, never):
        ensemble.observe_many(rows.X, np.full(len(rows.X), np.nan))
    learn([rest.part(slice(0, 3_000))], undone, kept, never)
    learn([lie], undone, kept)
    learn([rest.part(slice(3_000, 3_640))], undone, kept, never)

    def pull(ensemble: Ensemble) -> float:
        alike = told.X * np.float32(1.02)
        return float((logit_of(ensemble, alike) - logit_of(never, alike)).mean())

    lied = pull(undone)
    assert lied > 0.5
    undone.forget_many("delayed", lie)
    assert abs(pull(undone)) < 0.75 * lied
    learn([told, rest.part(slice(3_640, 5_000))], undone, kept, never)
    assert abs(pull(undone)) < 0.5 * pull(kept)
    assert abs(pull(undone)) < 0.35

"""What every learner promises (`models.learner.Learner`), ours and any that joins `LEARNERS`."""

import math

import numpy as np
import pytest
import torch

from models.forward_torch import forward
from models.learner import StateMismatch
from models.learners import make
from tests.builders_rows import LaneOf, some_rows
from tests.oracle_forward import logit_of
from tests.stage_of_learners import (
    HOUR_MS,
    LEARNERS,
    Stage,
    bytes_held,
    bytes_of,
    published,
    rows_like,
)

OBJECTS_BYTES = 16_384
"""Of Python's own objects around the state; they do not grow."""


@pytest.fixture(params=LEARNERS)
def stage(request: pytest.FixtureRequest) -> Stage:
    return a_stage(request.param)


def a_stage(case: str, **changes: object) -> Stage:
    name, options = LEARNERS[case]
    return Stage(name, dict(options), **changes)  # type: ignore[arg-type]


def again(stage: Stage, **changes: object) -> Stage:
    values = {"name": stage.name, "options": stage.options} | changes
    return Stage(**values)  # type: ignore[arg-type]


def test_it_learns_what_a_fraud_looks_like(stage: Stage) -> None:
    stage.teach(30)
    rows = some_rows(500, 9)
    logit = stage.believe(rows)
    assert logit.dtype == np.float32
    assert logit.shape == (500,)
    fraud, legit = logit[rows.y == 1], logit[rows.y == 0]
    assert np.mean(fraud[:, None] > legit[None, :]) > 0.85  # the area under the ROC curve


def test_undersampling_is_corrected(stage: Stage) -> None:
    """Half of the legit rows are learned, and yet the mean probability is the rate."""
    stage.teach(40)
    rows = some_rows(2000, 9)
    p = 1.0 / (1.0 + np.exp(-stage.believe(rows).astype(np.float64)))
    assert p.mean() == pytest.approx(rows.y.mean(), rel=0.3)


def test_before_the_first_label_it_believes_in_few_frauds(stage: Stage) -> None:
    logit = stage.believe(some_rows(50, 9))
    assert np.mean(1 / (1 + np.exp(-logit))) == pytest.approx(0.01, rel=0.5)
    published(stage.learner.snapshot())  # and can be published


def test_predicting_changes_nothing(stage: Stage) -> None:
    asked, rows = again(stage), some_rows(50, 3)
    for one in (stage, asked):
        one.teach(5)
    for _ in range(3):
        first = asked.believe(rows)
        asked.learner.snapshot()
    assert first.tobytes() == asked.believe(rows).tobytes() == stage.believe(rows).tobytes()
    for one in (stage, asked):
        one.teach(5, seed=1)
    assert bytes_of(asked.learner.snapshot()) == bytes_of(stage.learner.snapshot())
    assert asked.learner.state_changes() == stage.learner.state_changes()


def test_a_prediction_does_not_depend_on_its_company(stage: Stage) -> None:
    stage.teach()
    rows = some_rows(40, 3)
    together = stage.believe(rows)
    alone = np.concatenate([stage.believe(rows.part(slice(i, i + 1))) for i in range(40)])
    assert alone == pytest.approx(together, abs=1e-5)


def test_the_same_seed_and_calls_give_the_same_part(stage: Stage) -> None:
    same, other = again(stage), again(stage, seed=2)
    for one in (stage, same, other):
        one.teach()
    first, second, third = (bytes_of(x.learner.snapshot()) for x in (stage, same, other))
    assert first == second
    assert first != third


def test_the_part_scores_as_the_learner_predicts(stage: Stage) -> None:
    stage.teach()
    rows, part = some_rows(60, 4), stage.learner.snapshot()
    predicted = stage.believe(rows)
    weights = published(part)
    assert logit_of(weights, rows.X) == pytest.approx(predicted, abs=1e-5)
    tensors = {name: torch.from_numpy(x.copy()) for name, x in part.arrays.items()}
    found = forward(part.kind, tensors, torch.from_numpy(rows.X), torch.from_numpy(rows.z))
    assert found.numpy() + math.log(part.beta) == pytest.approx(predicted, abs=1e-5)


def test_a_snapshot_is_not_changed_by_later_learning(stage: Stage) -> None:
    stage.teach(6)
    part = stage.learner.snapshot()
    before = bytes_of(part)
    stage.teach(6, seed=1)
    assert bytes_of(part) == before
    assert bytes_of(stage.learner.snapshot()) != before


@pytest.mark.parametrize("batches", [3, 5, 6])
def test_restored_it_goes_on_as_if_never_stopped(stage: Stage, batches: int) -> None:
    parts: dict[str, bytes] = {}
    for seed in range(3):
        stage.teach(batches, seed)
        if seed == 1:
            stage.forget(some_rows(100, 1000, at_ms=0))
            stage.learner.pace(2.0)
        parts |= stage.learner.state_changes()  # each time only what changed
    restored = stage.restarted(parts)
    assert bytes_of(restored.learner.snapshot()) == bytes_of(stage.learner.snapshot())
    for one in (stage, restored):
        one.forget(some_rows(100, 2001, at_ms=0))
        one.teach(7, seed=5)
    rows = some_rows(50, 9)
    assert restored.believe(rows).tobytes() == stage.believe(rows).tobytes()
    assert bytes_of(restored.learner.snapshot()) == bytes_of(stage.learner.snapshot())
    assert restored.learner.state_changes() == stage.learner.state_changes()


def test_a_checkpoint_in_the_middle_changes_nothing(stage: Stage) -> None:
    kept = again(stage)
    for seed in range(4):
        for one in (stage, kept):
            one.teach(3, seed)
        kept.learner.state_changes()
    assert bytes_of(kept.learner.snapshot()) == bytes_of(stage.learner.snapshot())


def test_restored_from_nothing_it_is_new(stage: Stage) -> None:
    stage.teach()
    stage.learner.restore({})
    assert bytes_of(stage.learner.snapshot()) == bytes_of(again(stage).learner.snapshot())


@pytest.mark.parametrize(
    "other", [{"n": 7}, {"digest": "f" * 64}, {"seed": 9}, {"lane": "feedback"}], ids=str
)
def test_anothers_state_is_refused(stage: Stage, other: dict[str, object]) -> None:
    stage.teach(3)
    with pytest.raises(StateMismatch):
        again(stage, **other).learner.restore(stage.learner.state_changes())


def test_features_may_vanish_and_come_back(stage: Stage) -> None:
    rows = some_rows(100, 1)
    gone = rows.X.copy()
    gone[:, 1:] = np.nan
    nothing = np.full_like(rows.X, np.nan)
    for X in (rows.X, gone, nothing, gone, rows.X, nothing, rows.X):
        these = rows_like(rows, X=X)
        stage.take(these)
        assert np.isfinite(stage.believe(these)).all()
        weights = published(stage.learner.snapshot())
        assert logit_of(weights, X[:30]) == pytest.approx(stage.believe(these)[:30], abs=1e-5)


def test_a_feature_that_was_never_there_may_appear(stage: Stage) -> None:
    rows = some_rows(100, 1)
    X = rows.X.copy()
    X[:, 5] = np.nan
    for _ in range(6):
        stage.take(rows_like(rows, X=X))
    assert np.isfinite(stage.believe(rows)).all()
    weights = published(stage.learner.snapshot())
    assert logit_of(weights, rows.X[:30]) == pytest.approx(stage.believe(rows)[:30], abs=1e-5)


def test_wild_values_do_no_harm(stage: Stage) -> None:
    rows = some_rows(100, 1)
    X = rows.X.copy()
    X[::7, 2] = np.finfo(np.float32).max
    X[::11, 3] = np.finfo(np.float32).min
    X[::13, 4] = np.finfo(np.float32).tiny
    wild = rows_like(rows, X=X)
    for _ in range(8):
        stage.take(wild)
    assert np.isfinite(stage.believe(wild)).all()
    weights = published(stage.learner.snapshot())
    assert logit_of(weights, X) == pytest.approx(stage.believe(wild), abs=1e-5)


@pytest.mark.parametrize("checkpoints", [True, False])
def test_memory_is_bounded(stage: Stage, checkpoints: bool) -> None:
    """A stream that keeps changing: other vectors, other frauds; with and without checkpoints."""
    parts: dict[str, bytes] = {}
    bound = stage.learner.memory_bytes
    for seed in range(12):
        rows = some_rows(600, seed, at_ms=stage.clock_ms)
        turned = np.roll(rows.X, seed, axis=1) * np.float32(1.5**seed)
        stage.take(rows_like(rows, X=turned))
        assert bytes_held(stage.learner) <= bound + OBJECTS_BYTES
        if checkpoints:
            parts |= stage.learner.state_changes()
            assert sum(map(len, parts.values())) <= bound
    assert stage.learner.memory_bytes == bound


def test_nothing_to_learn_is_nothing_learned(stage: Stage) -> None:
    none = some_rows(100, 1).part(slice(0, 0))
    stage.learner.learn_many(none)
    stage.learner.forget_many(none)
    assert stage.believe(none).shape == (0,)
    assert bytes_of(stage.learner.snapshot()) == bytes_of(again(stage).learner.snapshot())


def test_the_order_of_the_clock_is_no_matter(stage: Stage) -> None:
    """A clock that stands still or goes back begins nothing and ends nothing."""
    nervous = again(stage)
    for batch in range(10):
        for one in (stage, nervous):
            one.take(some_rows(100, batch, at_ms=one.clock_ms))
        nervous.learner.advance(nervous.clock_ms)
        nervous.learner.advance(nervous.clock_ms - HOUR_MS)
    assert bytes_of(nervous.learner.snapshot()) == bytes_of(stage.learner.snapshot())


def test_withdrawn_frauds_lose_their_pull(stage: Stage) -> None:
    """Rows that look legit were called frauds; then their labels were withdrawn."""
    kept, lies = again(stage), some_rows(100, 77)
    lies = lies.part(lies.y == 0)
    lies = rows_like(lies, y=np.ones(len(lies), np.uint8))
    for one in (stage, kept):
        one.teach(6)
        one.take(lies)
    stage.forget(lies)
    for one in (stage, kept):
        one.teach(8, seed=1)
    assert stage.believe(lies).mean() < kept.believe(lies).mean()


def test_a_heavier_row_pulls_more(stage: Stage) -> None:
    """Labels are drawn by lot; where a fraud weighs ten times, belief in fraud is higher."""
    heavy = again(stage)
    draws = np.random.default_rng(3)
    for batch in range(40):
        rows = some_rows(100, batch, at_ms=stage.clock_ms)
        y = (draws.random(100) < 0.3).astype(np.uint8)
        stage.take(rows_like(rows, y=y))
        heavy.take(rows_like(rows, y=y, w=np.where(y == 1, 10, 1).astype(np.float32)))
    rows = some_rows(200, 99)
    assert heavy.believe(rows).mean() > stage.believe(rows).mean() + 0.5


def test_trees_change_only_by_a_refresh_that_is_counted(stage: Stage) -> None:
    """What fades a refreshed forest in can trust the number."""
    before = stage.learner.snapshot()
    for batch in range(12):
        stage.take(some_rows(100, batch, at_ms=stage.clock_ms))
        part = stage.learner.snapshot()
        if part.kind == "trees":
            assert (part.steady == before.steady) == (bytes_of(part) == bytes_of(before))
            assert part.steady - before.steady in (0, 1)
        before = part
    assert part.kind != "trees" or part.steady >= 3


def test_an_unknown_option_is_told_what_there_is(stage: Stage) -> None:
    with pytest.raises(ValueError, match=r"spede.*beta|spede.*legit_share|beta.*spede"):
        make(stage.name, LaneOf(options={"spede": 1}).context)


@pytest.mark.parametrize("value", ["much", -1, 2.5])
def test_an_option_out_of_range_is_named(stage: Stage, value: float | str) -> None:
    option = "legit_share" if stage.name == "boosted" else "beta"
    with pytest.raises(ValueError, match=option):
        make(stage.name, LaneOf(options={option: value}).context)

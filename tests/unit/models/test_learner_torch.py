"""How a stack of networks learns; laws of every learner stand in tests/contract/test_learner.py."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation import roc_auc
from models.learner import Category, StateMismatch
from models.learner_torch import NetworkLearner
from tests.builders_networks import CATEGORIES, by_hand, taught, teach, with_categories
from tests.builders_rows import LaneOf, some_rows


def test_what_amounts_cannot_tell_categories_do() -> None:
    lane = LaneOf(categories=CATEGORIES, options={"networks": 2, "embedding_size": 4})
    learner = NetworkLearner(lane.context)
    teach(lane, learner, with_categories(6000, 0))
    probe = with_categories(1000, 9)
    found = learner.predict_many(probe.X, probe.z)
    assert roc_auc(probe.y, found.astype(np.float64)) > 0.95
    assert found == pytest.approx(by_hand(learner.snapshot(), probe.X, probe.z), abs=1e-5)


def test_only_looked_up_rows_change_and_are_named() -> None:
    lane = LaneOf(categories=CATEGORIES, options={"rehearsed_per_row": 0})
    learner = NetworkLearner(lane.context)
    first = learner.snapshot()
    assert first.changed_rows == {}, "what a scorer holds before is unknown: compare all"
    rows = with_categories(64, 3)
    for _ in range(3):  # at first the last layer is silent, and nothing reaches a table
        learner.learn_many(rows)
    second = learner.snapshot()
    assert second.changed_rows is not None
    for column, size in ((4, 300), (5, 5000)):
        name = f"embed.{column}"
        looked_up = {int(v) if 0 <= v < size else 0 for v in rows.X[:, column]}
        assert set(second.changed_rows[name].tolist()) == looked_up
        differ = np.flatnonzero((first.arrays[name] != second.arrays[name]).any(axis=1))
        assert set(differ.tolist()) <= looked_up
        assert len(differ) > 10
    assert all(len(rows) == 0 for rows in (learner.snapshot().changed_rows or {}).values())


def test_a_checkpoint_holds_the_pages_that_changed() -> None:
    lane = LaneOf(categories=(Category("merchant", 5, 50_000),))
    learner = NetworkLearner(lane.context)
    learner.learn_many(with_categories(64, 3))
    assert set(learner.state_changes()) == {"core", *(f"embed.5/{page}" for page in range(5))}
    assert set(learner.state_changes()) == {"core"}


@pytest.mark.parametrize(
    "options",
    [
        {"networks": 2, "averaging": 50},
        {"optimizer": "adagrad", "learning_rate": 0.02, "beta": 0.5},
    ],
    ids=str,
)
def test_restored_it_goes_on_bit_for_bit(options: dict[str, float | int | str]) -> None:
    lane = LaneOf(categories=CATEGORIES, options=options)
    original, parts = NetworkLearner(lane.context), {}
    for seed in range(3):
        teach(lane, original, with_categories(700, seed))
        original.pace(1.0 + seed)
        parts |= original.state_changes()
    restored = NetworkLearner(lane.context)
    restored.learn_many(some_rows(50, 7))
    restored.restore(parts)
    assert restored.snapshot().changed_rows == {}, "unknown what a scorer holds: compare all"
    more = with_categories(500, 8)
    for learner in (original, restored):
        learner.learn_many(more)
        learner.forget_many(more.part(slice(0, 9)))
    one, other = original.snapshot(), restored.snapshot()
    assert {n: a.tobytes() for n, a in one.arrays.items()} == {
        n: a.tobytes() for n, a in other.arrays.items()
    }
    assert original.state_changes() == restored.state_changes()


@pytest.mark.parametrize(
    "other",
    [
        {"n": 7},
        {"digest": "f" * 64},
        {"seed": 9},
        {"lane": "feedback"},
        {"options": {"hidden_0": 65}},
        {"categories": (Category("mcc", 4, 30),)},
    ],
    ids=str,
)
def test_anothers_state_is_refused(other: dict[str, object]) -> None:
    parts = NetworkLearner(LaneOf().context).state_changes()
    learner = NetworkLearner(LaneOf(**other).context)  # type: ignore[arg-type]
    with pytest.raises(StateMismatch, match="the checkpoint was made by network of lane delayed"):
        learner.restore(parts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hiden": 3}, "network: there is no option 'hiden'; there are averaging=300, batch_rows="),
        ({"networks": 0}, "network: networks must lie within 1 and 16, not 0"),
        ({"networks": 1.5}, "network: networks must be int, not 1.5"),
        ({"learning_rate": "fast"}, "network: learning_rate must be float, not 'fast'"),
        (
            {"learning_rate": math.nan},
            "network: learning_rate must lie within 1e-06 and 1, not nan",
        ),
        ({"networks": True}, "network: networks must be int, not True"),
        ({"optimizer": "sgd"}, "network: optimizer must be one of adam, adagrad, not 'sgd'"),
        ({"beta": 0.0}, "network: beta must lie within 0.001 and 1, not 0"),
    ],
)
def test_a_wrong_option_is_refused_by_name(
    options: dict[str, float | int | str], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        NetworkLearner(LaneOf(options=options).context)


def test_lanes_and_seeds_begin_apart() -> None:
    firsts = {
        NetworkLearner(LaneOf(seed=seed, lane=lane).context).snapshot().arrays["w0"].tobytes()
        for seed in (1, 2)
        for lane in ("feedback", "delayed")
    }
    assert len(firsts) == 4


@pytest.mark.parametrize(("averaging", "left"), [(0, 0.5), (20, 0.6)])
def test_what_is_forgotten_is_rehearsed_no_more_and_its_pull_is_taken_back(
    averaging: int, left: float
) -> None:
    """Held against a learner that never saw the lies: much of the distance is undone, not all.

    With averages (over 20 steps, as many as come after) the published score lags a little more.
    """

    def scores(*, lied: bool, forget: str) -> NDArray[np.float32]:
        lane = LaneOf(options={"averaging": averaging, "networks": 1, "learning_rate": 1e-3})
        learner = taught(lane, 6400)
        lies = some_rows(200, 5).part(slice(0, 100))
        lies = lies.part(lies.y == 0)
        lies = replace(lies, y=np.ones(len(lies), np.uint8))
        teach(lane, learner, lies if lied else some_rows(len(lies), 77))
        teach(lane, learner, some_rows(320, 6))
        if forget:
            lane.memory.forget(lies.ids)
        if forget == "undo":
            learner.forget_many(lies)
        teach(lane, learner, some_rows(1280, 9))
        probe = some_rows(500, 33)
        return learner.predict_many(probe.X, probe.z)

    never = scores(lied=False, forget="")
    apart = {
        how: float(np.abs(scores(lied=True, forget=how) - never).mean())
        for how in ("", "memory", "undo")
    }
    assert apart["undo"] < left * apart[""]
    assert apart["undo"] < 0.7 * apart["memory"]


def test_memory_is_what_it_says_and_does_not_grow() -> None:
    lane = LaneOf(categories=CATEGORIES, options={"averaging": 10})
    learner = NetworkLearner(lane.context)
    bound = learner.memory_bytes
    parts: dict[str, bytes] = {}
    for seed in range(5):
        teach(lane, learner, with_categories(1000, seed))
        parts |= learner.state_changes()
    assert learner.memory_bytes == bound
    assert sum(len(part) for part in parts.values()) < bound


def test_no_rows_are_no_step() -> None:
    learner = NetworkLearner(LaneOf().context)
    before = learner.state_changes()
    empty = some_rows(5).part(slice(0, 0))
    learner.learn_many(empty)
    learner.forget_many(empty)
    learner.advance(10**12)
    assert learner.state_changes() == before
    assert learner.predict_many(empty.X, empty.z).shape == (0,)

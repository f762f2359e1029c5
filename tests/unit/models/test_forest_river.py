"""River's trees against River itself, row by row; the journal against never having stopped."""

from collections.abc import Mapping

import numpy as np
import pytest
from river.forest import ARFClassifier

from models.forest_river import JOURNAL_PAGES, JOURNAL_ROWS, RiverTrees
from models.learner import Rows
from models.learners import make
from tests.builders_rows import LaneOf, some_rows
from tests.stage_of_learners import Options, bytes_of, rows_like

EACH_BATCH: Options = {"refresh_rows": 1, "grace_period": 30, "beta": 1.0}
CASES: dict[str, Options] = {
    "hoeffding": EACH_BATCH,
    "forest": EACH_BATCH | {"trees": 4},
}


def a_learner(name: str, **options: float | int | str) -> RiverTrees:
    learner = make(name, LaneOf(options=CASES[name] | options).context)
    assert isinstance(learner, RiverTrees)
    return learner


def changing_rows(seed: int) -> Rows:
    """What a fraud is moves every few batches, so that a forest replaces trees."""
    rows = some_rows(200, seed)
    return rows_like(rows, X=np.roll(rows.X, seed // 8, axis=1))


def rivers_own(learner: RiverTrees, rows: Rows) -> np.ndarray:
    found = []
    for x in rows.X:
        seen = {column: float(value) for column, value in enumerate(x) if not np.isnan(value)}
        found.append(learner.model.predict_proba_one(seen).get(1, 0.0))
    return np.array(found)


@pytest.mark.parametrize("name", CASES)
def test_the_export_predicts_as_river_does(name: str) -> None:
    """On rows with missing values, while trees grow and are replaced."""
    learner = a_learner(name)
    for seed in range(32):
        learner.learn_many(changing_rows(seed))
        if seed % 4 == 3:
            rows = changing_rows(1000 + seed)
            p = np.clip(rivers_own(learner, rows), 1e-6, 1 - 1e-6)
            expected = np.log(p / (1 - p))
            assert learner.predict_many(rows.X, rows.z) == pytest.approx(expected, abs=1e-5)
    if isinstance(learner.model, ARFClassifier):
        assert learner.model.n_drifts_detected() > 0


def test_a_tree_stops_growing_at_its_leaves() -> None:
    learner = a_learner("forest", max_leaves=5)
    for seed in range(30):
        learner.learn_many(changing_rows(seed))
    leaves = [(tree._root.n_leaves) for tree in learner.model.data]
    assert max(leaves) == 5


def test_pace_is_heard_by_trees_that_grow_later() -> None:
    learner = a_learner("forest")
    learner.pace(3.0)
    for seed in range(30):
        learner.learn_many(changing_rows(seed))
    assert {tree.grace_period for tree in learner._trees()} == {10}
    learner.pace(1.0)
    assert {tree.grace_period for tree in learner._trees()} == {30}


def test_a_checkpoint_writes_what_is_new_and_now_and_then_all() -> None:
    learner = a_learner("forest")
    parts: dict[str, bytes] = {}
    bases = 0
    for seed in range(2 * JOURNAL_PAGES):
        learner.learn_many(some_rows(20, seed))
        changes = learner.state_changes()
        bases += "model" in changes
        parts |= changes
    assert bases == 2
    assert restored(parts, learner) == bytes_of(learner.snapshot())


def test_a_long_time_without_a_checkpoint_needs_no_long_journal() -> None:
    learner = a_learner("hoeffding")
    parts = learner.state_changes()
    for seed in range(JOURNAL_ROWS // 500 + 2):
        learner.learn_many(some_rows(500, seed))
        assert learner._new_rows <= JOURNAL_ROWS
    changes = learner.state_changes()
    assert "model" in changes
    assert restored(parts | changes, learner) == bytes_of(learner.snapshot())


def restored(parts: Mapping[str, bytes], like: RiverTrees) -> tuple[object, ...]:
    other = RiverTrees(like._name, like._context, like._options, like._make)
    other.restore(parts)
    for one in (like, other):
        one.learn_many(some_rows(50, 5))
    assert other.state_changes() == like.state_changes()
    return bytes_of(other.snapshot())


def test_a_leaf_keeps_a_share_when_all_of_its_rows_are_withdrawn() -> None:
    learner, rows = a_learner("forest"), some_rows(300, 1)
    learner.learn_many(rows)
    for _ in range(20):
        learner.forget_many(rows)
    learner.learn_many(rows.part(slice(0, 1)))
    assert np.isfinite(learner.predict_many(rows.X, rows.z)).all()
    assert all(
        min(leaf.stats.values()) > 0
        for tree in learner.model.data
        for leaf in tree._root.iter_leaves()
        if leaf.stats
    )


def test_a_single_tree_has_no_option_of_a_forest() -> None:
    with pytest.raises(ValueError, match="hoeffding: it is one tree"):
        a_learner("hoeffding", trees=3)
    with pytest.raises(ValueError, match="forest: max_features must be at most 6"):
        a_learner("forest", max_features=7)

"""Several versions at once, back in one step, and never a wait between readers and writers."""

import threading

import numpy as np
import pytest

from models.bank_torch import TorchBank
from models.scorer import ACTIVE, SLOTS_MAX, NoWeights, WeightsRefused
from models.scorer_local import Lease, LocalScorer
from models.slots import LEFT_MAX
from models.weights import Weights
from tests import builders_weights
from tests.builders_weights import an_ensemble, some_weights, with_arrays
from tests.oracle_forward import logit_of

DIGEST = "d" * 64
N = 9
ROWS = builders_weights.some_rows(4, N)


def a_scorer(*versions: int) -> LocalScorer:
    scorer = LocalScorer(DIGEST, N, "test", "cpu")
    for version in versions:
        load(scorer, version)
    return scorer


def load(scorer: LocalScorer, version: int, slot: str = ACTIVE) -> Weights:
    weights = some_weights(DIGEST, N, version=version)
    scorer.load(weights, f"sha {version}", slot)
    return weights


def answers_with(held: Lease, version: int) -> None:
    expected = logit_of(some_weights(DIGEST, N, version=version), ROWS)
    np.testing.assert_allclose(held.score_many(ROWS).logit, expected, rtol=1e-5, atol=1e-5)
    assert (held.weights.version, held.sha256) == (version, f"sha {version}")


def test_slots_answer_side_by_side_each_with_its_version() -> None:
    scorer = a_scorer(1, 2)
    load(scorer, 3, "canary")
    load(scorer, 4, "shadow")
    load(scorer, 5)
    assert scorer.versions() == {ACTIVE: 5, "canary": 3, "shadow": 4}
    for slot, version in scorer.versions().items():
        with scorer.snapshot(slot) as held:
            answers_with(held, version)
    scorer.clear("canary")
    with pytest.raises(NoWeights):
        scorer.snapshot("canary")
    scorer.clear("canary")
    assert scorer.versions() == {ACTIVE: 5, "shadow": 4}


def test_no_more_slots_than_are_bounded() -> None:
    scorer = a_scorer(1)
    for number in range(1, SLOTS_MAX):
        load(scorer, number + 1, f"slot{number}")
    with pytest.raises(AssertionError):
        load(scorer, 9, "one more")


def test_going_back_is_instant_and_copies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = a_scorer(1, 2)
    monkeypatch.setattr(TorchBank, "write", None)  # who copied would fail
    for version in (1, 2, 1, 2):
        assert scorer.recall(version)
        with scorer.snapshot() as held:
            answers_with(held, version)
    assert not scorer.recall(7)
    assert scorer.versions() == {ACTIVE: 2}


def test_the_version_before_is_held_whatever_was_refused_since() -> None:
    scorer = a_scorer(1, 2)
    wrong = some_weights(DIGEST, N, version=3)
    wrong = with_arrays(wrong, probe__logit=wrong.arrays["probe.logit"] + np.float32(1))
    for _ in range(4):
        with pytest.raises(WeightsRefused):
            scorer.load(wrong, "wrong")
    assert not scorer.recall(3), "what a gate refused is not held"
    assert scorer.recall(1)
    with scorer.snapshot() as held:
        answers_with(held, 1)


def test_a_slot_takes_over_what_another_holds() -> None:
    scorer = a_scorer(1, 2)
    load(scorer, 3, "canary")
    assert scorer.recall(3)
    scorer.clear("canary")
    load(scorer, 4)
    load(scorer, 5)
    assert scorer.versions() == {ACTIVE: 5}
    assert scorer.recall(4)


def test_a_held_version_answers_while_any_number_of_others_is_loaded() -> None:
    scorer = a_scorer(1)
    with scorer.snapshot() as held:
        for version in range(2, 12):
            load(scorer, version)
            answers_with(held, 1)
            with scorer.snapshot() as newest:
                answers_with(newest, version)
    assert scorer.versions() == {ACTIVE: 11}


def test_readers_that_never_end_are_borne_up_to_a_bound() -> None:
    scorer = a_scorer()
    leases = []
    for version in range(1, LEFT_MAX + 4):
        load(scorer, version)
        leases.append(scorer.snapshot().__enter__())
    with pytest.raises(WeightsRefused) as refused:
        load(scorer, 99)
    assert refused.value.gate == "busy"
    for version, lease in enumerate(leases, start=1):
        answers_with(lease, version)
        lease.__exit__(None, None, None)
    load(scorer, 99)
    assert scorer.versions() == {ACTIVE: 99}


def test_a_snapshot_that_was_not_held_in_time_is_of_the_version_by_then() -> None:
    scorer = a_scorer(1)
    late = scorer.snapshot()
    for version in (2, 3, 4):
        load(scorer, version)
    with late as held:
        answers_with(held, 4)


def test_a_version_may_have_other_shapes_than_all_banks() -> None:
    scorer = a_scorer(1, 2)
    for version in (3, 4, 5, 6):
        make = an_ensemble if version % 2 else some_weights
        weights = make(DIGEST, N, version=version)
        scorer.load(weights, f"sha {version}")
        with scorer.snapshot() as held:
            np.testing.assert_allclose(held.score_many(ROWS).logit, logit_of(weights, ROWS), 1e-5)
    assert scorer.recall(5)


def test_threads_that_load_and_answer_never_mix_versions() -> None:
    known = {version: some_weights(DIGEST, N, version=version) for version in range(1, 9)}
    expected = {version: logit_of(weights, ROWS) for version, weights in known.items()}
    scorer = LocalScorer(DIGEST, N, "test", "cpu")
    scorer.load(known[1], "1")
    done, seen = threading.Event(), list[tuple[int, np.ndarray]]()

    def ask() -> None:
        while not done.is_set():
            with scorer.snapshot() as held:
                seen.append((held.weights.version, held.score_many(ROWS).logit))

    def change(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for version in rng.integers(1, 9, 60).tolist():
            if not (seed % 2 and scorer.recall(version)):
                scorer.load(known[version], str(version))

    asking = threading.Thread(target=ask)
    changing = [threading.Thread(target=change, args=(seed,)) for seed in range(3)]
    for thread in (asking, *changing):
        thread.start()
    for thread in changing:
        thread.join()
    done.set()
    asking.join()
    assert seen
    for version, logit in seen:
        np.testing.assert_allclose(logit, expected[version], rtol=1e-5, atol=1e-5)

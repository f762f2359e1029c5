"""Reasons name what moved the score, with sign, value and what is usual."""

import numpy as np
import pytest

from models.reasons import CONTRIBUTION_MIN, code_of, explain_many
from models.scaling import LEFT_OUT
from models.scorer_torch import TorchScorer
from tests.builders_weights import an_ensemble, probed, some_weights, with_arrays
from tests.oracle_forward import logit_of

DIGEST = "d" * 64
N = 12
NAMES = [f"card.feature_{i}" for i in range(N)]


def test_the_largest_contributions_come_first_with_their_sign_and_baseline() -> None:
    scorer = TorchScorer(DIGEST, N, "test", "cpu")
    weights = some_weights(DIGEST, N)
    scorer.load(weights, "s")
    X = (np.random.default_rng(4).normal(size=(6, N)) * 30).astype(np.float32)
    with scorer.snapshot() as snapshot:
        reasons = explain_many(snapshot, X, NAMES, 5, 128)
    mean = weights.arrays["scaler.mean"].astype(np.float64)
    usual = np.sign(mean) * np.expm1(np.abs(mean))
    for x, why in zip(X, reasons, strict=True):
        assert len(why) == 5
        assert [abs(r.contribution) for r in why] == sorted(
            (abs(r.contribution) for r in why), reverse=True
        )
        strongest = why[0]
        i = NAMES.index(strongest.feature)
        assert strongest.value == pytest.approx(float(x[i]))
        assert strongest.baseline == pytest.approx(usual[i], abs=1e-5)
        without = x.copy()
        without[i] = usual[i]  # taking it back to usual moves the score the other way
        moved = logit_of(weights, x[None])[0] - logit_of(weights, without[None])[0]
        assert np.sign(moved) == np.sign(strongest.contribution)


def test_what_hardly_moved_the_score_is_no_reason() -> None:
    scorer = TorchScorer(DIGEST, N, "test", "cpu")
    weights = some_weights(DIGEST, N)
    scorer.load(weights, "s")
    mean = weights.arrays["scaler.mean"].astype(np.float64)
    usual = (np.sign(mean) * np.expm1(np.abs(mean))).astype(np.float32)[None]
    missing = np.full((1, N), np.nan, np.float32)
    with scorer.snapshot() as snapshot:
        assert explain_many(snapshot, np.vstack([usual, missing]), NAMES, 5, 8) == [[], []]
    assert CONTRIBUTION_MIN > 0


def test_codes_are_readable_and_stable() -> None:
    assert code_of("card.count_over_10m", 9.0, 1.2) == "card_count_over_10m_above_usual"
    assert code_of("card.since_last", 1.0, 300.0) == "card_since_last_below_usual"
    assert code_of("card.since_last", float("nan"), 300.0) == "card_since_last_missing"
    assert code_of("mcc", 7.0, 0.0, category=True) == "mcc_category"
    assert code_of("mcc", float("nan"), 0.0, category=True) == "mcc_missing"


def test_what_is_missing_and_what_is_a_category_are_called_so() -> None:
    """Trees learn that a value is missing, and embeddings what a category means."""
    weights = an_ensemble(DIGEST, N)
    scale = weights.arrays["scaler.scale"].copy()
    scale[1] = LEFT_OUT
    weights = probed(with_arrays(weights, scaler__scale=scale))
    scorer = TorchScorer(DIGEST, N, "test", "cpu")
    scorer.load(weights, "s")
    X = np.full((1, N), np.nan, np.float32)
    X[0, 1] = 31.0
    with scorer.snapshot() as snapshot:
        (reasons,) = explain_many(snapshot, X, NAMES, N, 8)
        total = snapshot.baseline + sum(reason.contribution for reason in reasons)
    by_name = {reason.feature: reason for reason in reasons}
    category = by_name.pop("card.feature_1")
    assert (category.code, category.value) == ("card_feature_1_category", 31.0)
    assert by_name
    for name, reason in by_name.items():
        assert (reason.code, reason.value) == (f"{name.replace('.', '_')}_missing", None)
    expected = float(logit_of(weights, X)[0])
    assert total == pytest.approx(expected, abs=N * CONTRIBUTION_MIN)

"""One version at a time, the same bits for the same row and bucket, and gates that hold."""

import math

import numpy as np
import pytest

from models.scorer import (
    BUCKETS,
    NoWeights,
    WeightsRefused,
    baseline_of,
    bucket_for,
    percentiles_of,
)
from models.scorer_torch import TorchScorer
from tests.fakes_serving import logit_of, some_weights, with_arrays

DIGEST = "d" * 64
N = 23


def a_scorer() -> TorchScorer:
    return TorchScorer(DIGEST, N, "test", "cpu")


def some_rows(count: int, seed: int = 7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(count, N)) * 10 ** rng.uniform(-2, 6, size=(1, N))).astype(np.float32)
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    return X


@pytest.mark.parametrize("members", [1, 2])
def test_log_odds_are_those_of_the_written_formula(members: int) -> None:
    scorer = a_scorer()
    weights = some_weights(DIGEST, N, members=members)
    scorer.load(weights, "s")
    X = some_rows(700)
    with scorer.snapshot() as snapshot:
        scores = snapshot.score_many(X)
    expected = logit_of(dict(weights.arrays), X, weights.beta)
    np.testing.assert_allclose(scores.logit, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.p, 1 / (1 + np.exp(-expected)), atol=1e-6)
    assert scores.bucket.tolist() == [512] * 512 + [256] * 188


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_rows_bits_depend_on_the_row_and_the_bucket_alone(bucket: int) -> None:
    scorer = a_scorer()
    scorer.load(some_weights(DIGEST, N), "s")
    rows = some_rows(bucket)
    rng = np.random.default_rng(bucket)
    with scorer.snapshot() as snapshot:
        first = snapshot.score_many(rows, bucket).logit
        for _ in range(8):
            order = rng.permutation(bucket)
            assert (snapshot.score_many(rows[order], bucket).logit == first[order]).all()
        for i in rng.integers(0, bucket, size=8).tolist():
            alone = snapshot.score_many(rows[i : i + 1], bucket).logit
            assert alone.tobytes() == first[i : i + 1].tobytes()


def test_a_decision_is_computed_again_from_the_version_and_bucket_that_it_names() -> None:
    live, audit = a_scorer(), a_scorer()
    weights = some_weights(DIGEST, N)
    live.load(weights, "s")
    X = some_rows(77)
    with live.snapshot() as snapshot:
        scores = snapshot.score_many(X)
    audit.load(some_weights(DIGEST, N, version=9), "other")
    audit.load(weights, "s")
    with audit.snapshot() as snapshot:
        for i in (0, 40, 76):
            again = snapshot.score_many(X[i : i + 1], int(scores.bucket[i])).logit
            assert again.tobytes() == scores.logit[i : i + 1].tobytes()


def test_before_the_first_version_there_is_no_score() -> None:
    with pytest.raises(NoWeights):
        a_scorer().snapshot()


def test_a_version_of_another_spec_is_refused_and_the_active_one_stays() -> None:
    scorer = a_scorer()
    scorer.load(some_weights(DIGEST, N), "s")
    with pytest.raises(WeightsRefused) as refused:
        scorer.load(some_weights("e" * 64, N, version=2), "t")
    assert (refused.value.version, refused.value.gate) == (2, "digest")
    assert scorer.snapshot().weights.version == 1


@pytest.mark.parametrize("by", [1e-3, float("nan")])
def test_a_version_whose_golden_batch_scores_otherwise_is_refused(by: float) -> None:
    scorer = a_scorer()
    scorer.load(some_weights(DIGEST, N), "s")
    good = some_weights(DIGEST, N, version=2)
    wrong = with_arrays(good, probe__logit=good.arrays["probe.logit"] + np.float32(by))
    with pytest.raises(WeightsRefused) as refused:
        scorer.load(wrong, "t")
    assert refused.value.gate == "golden"
    with scorer.snapshot() as snapshot:
        logit = snapshot.score_many(some_rows(3)).logit
    expected = logit_of(dict(some_weights(DIGEST, N).arrays), some_rows(3), 0.5)
    np.testing.assert_allclose(logit, expected, rtol=1e-5, atol=1e-5)


def test_a_snapshot_answers_with_its_version_while_others_are_loaded() -> None:
    scorer = a_scorer()
    scorer.load(some_weights(DIGEST, N), "one")
    X = some_rows(4)
    with scorer.snapshot() as held:
        before = held.score_many(X).logit
        scorer.load(some_weights(DIGEST, N, version=2), "two")
        with pytest.raises(WeightsRefused) as refused:
            scorer.load(some_weights(DIGEST, N, version=3), "three")
        assert refused.value.gate == "busy"
        assert (held.score_many(X).logit == before).all()
        assert (held.weights.version, held.sha256) == (1, "one")
        assert scorer.snapshot().weights.version == 2
    scorer.load(some_weights(DIGEST, N, version=3), "three")
    assert scorer.snapshot().weights.version == 3


def test_versions_of_other_shapes_follow_each_other() -> None:
    scorer = a_scorer()
    for version, members in ((1, 1), (2, 2), (3, 1)):
        weights = some_weights(DIGEST, N, version=version, members=members)
        scorer.load(weights, "s")
        with scorer.snapshot() as snapshot:
            logit = snapshot.score_many(some_rows(2)).logit
        expected = logit_of(dict(weights.arrays), some_rows(2), weights.beta)
        np.testing.assert_allclose(logit, expected, rtol=1e-5, atol=1e-5)


def test_contributions_sum_to_the_distance_from_the_mean_vector() -> None:
    scorer = a_scorer()
    weights = some_weights(DIGEST, N)
    scorer.load(weights, "s")
    X = some_rows(20)
    with scorer.snapshot() as snapshot:
        contributions = snapshot.explain_many(X, 256)
    usual = baseline_of(weights).astype(np.float32)[None, :]
    arrays = dict(weights.arrays)
    distance = logit_of(arrays, X, weights.beta) - logit_of(arrays, usual, weights.beta)
    np.testing.assert_allclose(contributions.sum(axis=1), distance, atol=0.05)
    assert (contributions[np.isnan(X)] == 0).all()


def test_contributions_of_a_linear_model_are_its_terms() -> None:
    scorer = a_scorer()
    weights = some_weights(DIGEST, N)
    flat = with_arrays(weights, m0__w2=np.zeros_like(weights.arrays["m0.w2"]))
    logit = logit_of(dict(flat.arrays), flat.arrays["probe.x"], flat.beta)
    flat = with_arrays(flat, probe__logit=logit.astype(np.float32))
    scorer.load(flat, "s")
    x = np.zeros((1, N), np.float32)
    x[0, 4] = 50.0
    with scorer.snapshot() as snapshot:
        contribution = float(snapshot.explain_many(x, 3)[0, 4])
    a, mean, scale = (
        float(flat.arrays["calibration"][0]),
        float(flat.arrays["scaler.mean"][4]),
        float(flat.arrays["scaler.scale"][4]),
    )
    z = min(8.0, (math.log1p(50.0) - mean) / scale)
    assert contribution == pytest.approx(a * float(flat.arrays["m0.linear"][4]) * z, rel=1e-5)


def test_buckets_hold_what_they_are_chosen_for() -> None:
    for rows in range(1, 1200):
        bucket = bucket_for(rows)
        assert bucket >= min(rows, BUCKETS[-1])
        assert bucket == BUCKETS[0] or bucket // 2 < rows


def test_percentiles_count_the_recent_scores_below() -> None:
    recent = np.sort(np.random.default_rng(3).beta(0.5, 8, size=1001)).astype(np.float32)
    p = np.array([0.0, float(recent[100]), float(recent[900]) + 1e-6, 1.0])
    expected = [(recent < value).mean() for value in p]
    np.testing.assert_allclose(percentiles_of(p, recent), expected, atol=0.002)
    assert np.isnan(percentiles_of(p, np.zeros(0, np.float32))).all()

"""One version at a time, the same bits for the same row and bucket, and gates that hold."""

import dataclasses
import math

import msgspec
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
from models.scorer_local import LocalScorer
from tests import builders_weights
from tests.builders_weights import an_ensemble, probed, some_weights, with_arrays
from tests.oracle_forward import logit_of

DIGEST = "d" * 64
N = 23


def a_scorer() -> LocalScorer:
    return LocalScorer(DIGEST, N, "test", "cpu")


def some_rows(count: int, seed: int = 7) -> np.ndarray:
    return builders_weights.some_rows(count, N, seed)


VERSIONS = {
    "network": some_weights(DIGEST, N),
    "stack": some_weights(DIGEST, N, stack=2),
    "ensemble": an_ensemble(DIGEST, N),
}


@pytest.mark.parametrize("kind", VERSIONS)
def test_log_odds_are_those_of_the_written_formula(kind: str) -> None:
    scorer = a_scorer()
    weights = VERSIONS[kind]
    scorer.load(weights, "s")
    X = some_rows(700)
    with scorer.snapshot() as snapshot:
        scores = snapshot.score_many(X)
    expected = logit_of(weights, X)
    np.testing.assert_allclose(scores.logit, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.p, 1 / (1 + np.exp(-expected)), atol=1e-6)
    assert scores.bucket.tolist() == [512] * 512 + [256] * 188


@pytest.mark.parametrize("kind", VERSIONS)
@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_rows_bits_depend_on_the_row_and_the_bucket_alone(bucket: int, kind: str) -> None:
    scorer = a_scorer()
    scorer.load(VERSIONS[kind], "s")
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
    expected = logit_of(some_weights(DIGEST, N), some_rows(3))
    np.testing.assert_allclose(logit, expected, rtol=1e-5, atol=1e-5)


def test_versions_of_other_shapes_and_members_follow_each_other() -> None:
    scorer = a_scorer()
    makers = (
        some_weights,
        an_ensemble,
        some_weights,
        lambda *a, **o: some_weights(*a, **o, stack=2),
    )
    for version, make in enumerate((*makers, *makers), start=1):
        weights = make(DIGEST, N, version=version)
        scorer.load(weights, "s")
        with scorer.snapshot() as snapshot:
            logit = snapshot.score_many(some_rows(2)).logit
        np.testing.assert_allclose(logit, logit_of(weights, some_rows(2)), rtol=1e-5, atol=1e-5)


def test_arrays_that_versions_share_are_taken_over_and_others_are_not() -> None:
    scorer = a_scorer()
    weights = an_ensemble(DIGEST, N)
    for version in range(1, 9):
        bias = np.full(1, version, np.float32)
        value = weights.arrays["delayed.boosted.3.value"]
        changed = (
            {"delayed__logistic__bias": bias}
            if version % 3
            else {"delayed__boosted__3__value": value + np.float32(1)}
        )
        weights = dataclasses.replace(probed(with_arrays(weights, **changed)), version=version)
        scorer.load(weights, "s")
        with scorer.snapshot() as snapshot:
            logit = snapshot.score_many(some_rows(3)).logit
        np.testing.assert_allclose(logit, logit_of(weights, some_rows(3)), rtol=1e-5, atol=1e-5)


def test_a_member_without_weight_has_no_say() -> None:
    weights = an_ensemble(DIGEST, N)
    members = tuple(
        msgspec.structs.replace(
            member, weight=float(member.name == "logistic" or member.lane == "feedback")
        )
        for member in weights.members
    )
    weights = probed(dataclasses.replace(weights, members=members))
    scorer = a_scorer()
    scorer.load(weights, "s")
    with scorer.snapshot() as snapshot:
        found = snapshot.score_many(some_rows(9)).logit
        parts = snapshot.explain_many(some_rows(9))
    np.testing.assert_allclose(found, logit_of(weights, some_rows(9)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(snapshot.baseline + parts.sum(1), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", VERSIONS)
def test_contributions_and_the_baseline_sum_to_the_log_odds(kind: str) -> None:
    scorer = a_scorer()
    weights = VERSIONS[kind]
    scorer.load(weights, "s")
    X = some_rows(20)
    with scorer.snapshot() as snapshot:
        contributions = snapshot.explain_many(X)
        baseline = snapshot.baseline
        assert snapshot.explain_many(X[:0]).shape == (0, N)
    np.testing.assert_allclose(
        baseline + contributions.sum(axis=1, dtype=np.float64),
        logit_of(weights, X),
        rtol=2e-5,
        atol=2e-5,
    )
    if kind != "ensemble":  # trees may have learned that a value is missing
        assert (contributions[np.isnan(X)] == 0).all()
        usual = baseline_of(weights).astype(np.float32)[None, :]
        assert baseline == pytest.approx(float(logit_of(weights, usual)[0]), abs=1e-4)


def test_contributions_of_a_linear_model_are_its_terms() -> None:
    scorer = a_scorer()
    weights = some_weights(DIGEST, N)
    silent = np.zeros_like(weights.arrays["delayed.network.w2"])
    flat = probed(with_arrays(weights, delayed__network__w2=silent))
    scorer.load(flat, "s")
    x = np.zeros((1, N), np.float32)
    x[0, 4] = 50.0
    with scorer.snapshot() as snapshot:
        contribution = float(snapshot.explain_many(x)[0, 4])
    mean, scale = (float(flat.arrays[f"scaler.{name}"][4]) for name in ("mean", "scale"))
    z = min(8.0, (math.log1p(50.0) - mean) / scale)
    slope = float(flat.arrays["delayed.network.linear"][0, 4])
    assert contribution == pytest.approx(0.9 * slope * z, rel=1e-5)


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

"""No step of what is published is longer than agreed, and it arrives where the learner stands."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.blend import Blend, can_glide, was_name
from models.formula_torch import TorchFormula
from models.scorer import WeightsRefused
from models.scorer_local import LocalScorer
from models.slew import ALPHA, StepBounds, answered, bounded, farthest
from models.weights import LaneRef, MemberRef, Weights, checksum_of, decode_verified, encode
from tests.builders_weights import (
    KEYS,
    SIGNER,
    a_linear,
    an_ensemble,
    some_trees,
    some_weights,
    with_arrays,
)
from tests.oracle_forward import logit_of

DIGEST = "ab" * 32
N = 6
FORMULA = TorchFormula()
LEARNED = 10_000


def made(seed: int, version: int = 1, trees: int = 4) -> Weights:
    weights = an_ensemble(DIGEST, N, seed=seed, version=version)
    forest = {
        f"delayed.boosted.3.{name}": a for name, a in some_trees(N, seed=5, trees=trees).items()
    }
    return replace(
        with_arrays(weights, **{n.replace(".", "__"): a for n, a in forest.items()}),
        labels_learned=LEARNED,
    )


def moved(before: Weights, after: Weights) -> NDArray[np.float64]:
    x = after.arrays["probe.x"]
    return np.abs(logit_of(after, x) - logit_of(before, x))


def follow(
    published: Weights, candidate: Weights, bounds: StepBounds, versions: int
) -> list[Weights]:
    way = [published]
    for number in range(2, versions + 2):
        way.append(bounded(way[-1], replace(candidate, version=number), bounds, FORMULA))
        if way[-1].metrics[ALPHA] == 1 and checksum_of(way[-1].arrays) == checksum_of(
            candidate.arrays
        ):
            break
    return way


@settings(deadline=None, max_examples=8)
@given(
    seeds=st.tuples(st.integers(0, 400), st.integers(0, 400)),
    mean=st.sampled_from([0.5, 2.0]),
    most=st.sampled_from([2.0, 9.0]),
)
def test_any_two_versions_are_joined_by_short_steps_that_arrive(
    seeds: tuple[int, int], mean: float, most: float
) -> None:
    start, end = made(seeds[0]), made(seeds[1])
    bounds = StepBounds(mean_logit=mean, max_logit=most, free_labels=0)
    way = follow(start, end, bounds, 2_000)
    assert checksum_of(way[-1].arrays) == checksum_of(end.arrays)
    assert way[-1].members == end.members
    assert way[-1].lanes == end.lanes
    for before, after in pairwise(way[:6]):
        far = moved(before, after)
        assert far.mean() <= mean
        assert far.max() <= most
        assert after.step.mean_logit == pytest.approx(far.mean(), abs=1e-4)
        assert after.step.max_logit == pytest.approx(far.max(), abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_step_is_as_long_as_a_dense_scan_finds(seed: int) -> None:
    previous, candidate = made(seed), made(seed + 50)
    bounds = StepBounds(mean_logit=0.4, max_logit=3.0, free_labels=0)
    found = bounded(previous, candidate, bounds, FORMULA).metrics[ALPHA]
    blend = Blend(previous, candidate)
    fits = []
    for alpha in np.linspace(0, 1, 101)[1:]:
        far = moved(previous, blend.at(float(alpha)))
        if far.mean() <= 0.4 and far.max() <= 3.0:
            fits.append(float(alpha))
    assert max(fits, default=0.0) - 1 / 50 <= found <= max(fits, default=0.0) + 1 / 50


def test_what_fits_in_islands_is_found_on_the_grid() -> None:
    assert farthest(lambda alpha: alpha < 0.1 or 0.7 < alpha < 0.8) == pytest.approx(0.8, abs=1e-3)
    assert farthest(lambda alpha: alpha <= 1e-7) == pytest.approx(1e-7, rel=1e-2)
    assert farthest(lambda alpha: alpha == 0) == 0
    assert farthest(lambda alpha: True) == 1


def test_a_short_step_is_taken_whole_and_recorded() -> None:
    previous = made(1)
    bias = previous.arrays["delayed.logistic.bias"] + np.float32(0.03)
    candidate = with_arrays(previous, delayed__logistic__bias=bias)
    out = bounded(previous, candidate, StepBounds(free_labels=0), FORMULA)
    assert out.metrics[ALPHA] == 1
    assert checksum_of(out.arrays) == checksum_of(candidate.arrays)
    assert out.step.mean_logit == pytest.approx(moved(previous, candidate).mean(), abs=1e-5)
    assert 0 < out.step.max_p <= out.step.max_logit / 4 + 1e-6  # a sigmoid's slope is at most 1/4


def test_the_warm_up_is_not_bounded_and_is_recorded() -> None:
    previous = made(1)
    candidate = replace(made(2), labels_learned=99)
    out = bounded(previous, candidate, StepBounds(free_labels=100), FORMULA)
    assert checksum_of(out.arrays) == checksum_of(candidate.arrays)
    assert out.step.mean_logit == pytest.approx(moved(previous, candidate).mean(), rel=1e-4)
    late = bounded(
        previous, replace(candidate, labels_learned=100), StepBounds(free_labels=100), FORMULA
    )
    assert late.metrics[ALPHA] < 1


def test_nothing_to_compare_with_is_nothing_to_bound() -> None:
    candidate = made(2)
    other = replace(made(1), schema_digest="cd" * 32)
    for previous in (None, other):
        out = bounded(previous, candidate, StepBounds(free_labels=0), FORMULA)
        assert checksum_of(out.arrays) == checksum_of(candidate.arrays)
        assert out.step.max_logit == 0


def test_the_golden_batch_is_answered_as_scorers_do_whatever_the_learner_says() -> None:
    honest = made(1)
    learners = honest.arrays["probe.logit"] + np.float32(3e-5)  # sums in another order
    scorer = LocalScorer(DIGEST, N, "test", "cpu")
    with pytest.raises(WeightsRefused, match="golden"):
        scorer.load(with_arrays(honest, probe__logit=learners), "0" * 64)
    scorer.load(answered(with_arrays(honest, probe__logit=learners), FORMULA), "0" * 64)


def test_a_bounded_version_is_a_version_that_scorers_take() -> None:
    out = bounded(made(1), made(2), StepBounds(free_labels=0), FORMULA)
    assert 0 < out.metrics[ALPHA] < 1
    back = decode_verified(encode(out, SIGNER), KEYS, DIGEST)
    golden = logit_of(back, back.arrays["probe.x"])
    np.testing.assert_allclose(golden, back.arrays["probe.logit"], rtol=1e-5, atol=1e-5)


def test_another_forest_under_the_same_name_is_faded_in_even_if_it_changes_each_time() -> None:
    bounds = StepBounds(mean_logit=0.05, max_logit=1.0, free_labels=0)
    published = made(1)
    names = set()
    for number in range(2, 20):
        forest = some_trees(N, seed=100 + number)
        candidate = with_arrays(
            replace(made(1), version=number),
            **{f"delayed__boosted__3__{name}": a for name, a in forest.items()},
        )
        after = bounded(published, candidate, bounds, FORMULA)
        assert moved(published, after).mean() <= 0.05
        assert len(after.members) <= 5
        names |= {member.name for member in after.members}
        published = after
    way = follow(published, candidate, bounds, 200)
    assert checksum_of(way[-1].arrays) == checksum_of(candidate.arrays)
    assert was_name("boosted.3") == "boosted_was.3"
    assert "boosted_was.3" in names
    assert way[-1].members == candidate.members


def test_lanes_and_members_come_and_go_by_their_shares() -> None:
    one = replace(some_weights(DIGEST, N, seed=3), labels_learned=LEARNED)
    both = made(4)
    bounds = StepBounds(mean_logit=0.2, max_logit=2.0, free_labels=0)
    for start, end in ((one, both), (both, one)):
        way = follow(start, end, bounds, 500)
        assert 3 < len(way) < 500
        assert all(moved(before, after).mean() <= 0.2 for before, after in pairwise(way))
        assert way[-1].lanes == end.lanes
        assert checksum_of(way[-1].arrays) == checksum_of(end.arrays)


def test_a_lane_without_a_say_has_nothing_to_glide_from() -> None:
    silent = LaneRef(name="feedback", weight=0.0)
    ref = MemberRef(lane="feedback", name="logistic", kind="linear", weight=1.0)
    far = {f"feedback__logistic__{n}": a * 1e6 for n, a in a_linear(N, seed=9).items()}
    only = some_weights(DIGEST, N, seed=3)
    previous = replace(
        only, lanes=(silent, *only.lanes), members=(ref, *only.members), labels_learned=LEARNED
    )
    previous = with_arrays(previous, **far)
    near = {f"feedback__logistic__{n}": a for n, a in a_linear(N, seed=8).items()}
    heard = (LaneRef(name="feedback", weight=0.5), replace_weight(only.lanes[0], 0.5))
    candidate = with_arrays(replace(previous, lanes=heard), **near)
    out = bounded(previous, candidate, StepBounds(free_labels=0), FORMULA)
    assert np.array_equal(
        out.arrays["feedback.logistic.linear"], candidate.arrays["feedback.logistic.linear"]
    )
    assert 0 < out.lanes[0].weight < 0.5


def replace_weight(lane: LaneRef, weight: float) -> LaneRef:
    return LaneRef(name=lane.name, weight=weight, a=lane.a, b=lane.b)


def test_leaf_values_glide_and_splits_do_not() -> None:
    old, other = some_trees(N, seed=5), some_trees(N, seed=6)
    assert can_glide("trees", old, old | {"value": old["value"] + 1})
    assert not can_glide("trees", old, other)
    assert not can_glide("trees", old, old | {"threshold": old["threshold"] + 1})
    assert not can_glide("linear", a_linear(N), a_linear(N + 1))

"""A candidate that is broken, explodes, or fell is told apart from one that merely learned."""

from dataclasses import replace

import numpy as np
import pytest

from models.formula_torch import TorchFormula
from models.health import Health, HealthRules, norm_of
from models.label_rates import HOUR_MS
from models.slew import StepBounds, bounded
from models.weights import Weights
from tests.builders_weights import an_ensemble, with_arrays

DIGEST = "ab" * 32
N = 6
RULES = HealthRules(free_labels=100)
BOUNDS = StepBounds(free_labels=0)
DAY_MS = 24 * HOUR_MS
GOOD = {
    "judged": 10_000.0,
    "fraud_rate": 0.01,
    "average_precision": 0.7,
    "recall_at_half_percent_fpr": 0.6,
}


def made(labels: int = 1_000, **factors: float) -> Weights:
    weights = replace(an_ensemble(DIGEST, N, seed=1), labels_learned=labels)
    changed = {
        name: weights.arrays[name.replace("__", ".")] * np.float32(factor)
        for name, factor in factors.items()
    }
    return with_arrays(weights, **changed)


def causes(health: Health, weights: Weights, **figures: float) -> set[str]:
    return set(health.causes(weights, GOOD | figures, None, DAY_MS))


def test_a_learner_that_learns_is_healthy() -> None:
    health = Health(RULES)
    for step in range(20):
        assert not causes(health, made(delayed__logistic__linear=1 + step / 20))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["delayed.network.w0", "scaler.mean", "probe.logit"])
def test_a_number_that_is_not_finite_is_named(name: str, value: float) -> None:
    array = made().arrays[name].copy()
    array.flat[-1] = value
    weights = with_arrays(made(), **{name.replace(".", "__"): array})
    found = Health(RULES).causes(weights, GOOD, None, 0)
    assert set(found) == {f"finite:{name}"}
    assert found[f"finite:{name}"][0] == np.inf


def test_a_missing_feature_of_the_probe_is_no_fault() -> None:
    assert np.isnan(made().arrays["probe.x"]).any()
    assert not causes(Health(RULES), made())


def test_a_candidate_that_cannot_be_approached_is_a_cause_also_after_bounding() -> None:
    broken = made().arrays["delayed.network.w0"] * np.float32(np.nan)
    out = bounded(made(), with_arrays(made(), delayed__network__w0=broken), BOUNDS, TorchFormula())
    for name, array in made().arrays.items():
        assert name == "probe.logit" or np.array_equal(out.arrays[name], array, equal_nan=True)
    assert causes(Health(RULES), out) == {"finite:way"}


def test_a_member_that_explodes_is_named_and_one_that_grows_slowly_is_not() -> None:
    health = Health(RULES)
    assert not causes(health, made())
    assert not causes(health, made(delayed__logistic__linear=2.9))
    exploded = made(delayed__logistic__linear=40)
    assert causes(health, exploded) == {"norm:delayed.logistic"}
    slow = Health(RULES)
    for step in range(300):
        assert not causes(slow, made(delayed__logistic__linear=1.004**step))


def test_in_the_warm_up_norms_are_only_noted() -> None:
    health = Health(RULES)
    assert not causes(health, made(labels=10))
    assert not causes(health, made(labels=99, delayed__logistic__linear=50))
    assert not causes(health, made(labels=100, delayed__logistic__linear=50))
    assert causes(health, made(labels=101, delayed__logistic__linear=500))


def test_the_norm_of_trees_is_what_their_leaves_say() -> None:
    weights = made()
    arrays = [weights.arrays[f"delayed.boosted.3.{name}"] for name in ("value", "bias")]
    expected = np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in arrays))
    assert norm_of(weights, "delayed.boosted.3.", "trees") == pytest.approx(expected, rel=1e-6)


def test_figures_are_held_against_the_reference_and_all_must_have_fallen() -> None:
    health = Health(RULES)
    reference = {"average_precision": 0.7, "recall_at_half_percent_fpr": 0.6}
    rare = GOOD | {"average_precision": 0.2}
    assert not health.causes(made(), rare, reference, DAY_MS)
    worse = rare | {"recall_at_half_percent_fpr": 0.3}
    found = health.causes(made(), worse, reference, DAY_MS)
    assert set(found) == {"figures:all"}
    level, words = found["figures:all"]
    assert level == pytest.approx(0.6 / 0.3)
    assert "average_precision 0.200 against 0.700" in words
    assert "the reference" in words


def test_without_a_reference_the_best_of_late_is_one_and_it_fades() -> None:
    worse = GOOD | {"average_precision": 0.35, "recall_at_half_percent_fpr": 0.3}
    for days, expected in ((1, {"figures:all"}), (60, set())):
        health = Health(RULES)
        assert not health.causes(made(), GOOD, None, DAY_MS)
        assert set(health.causes(made(), worse, None, (1 + days) * DAY_MS)) == expected


def test_few_rows_or_few_frauds_say_nothing() -> None:
    health = Health(RULES)
    assert not causes(health, made())
    low = {"average_precision": 0.01, "recall_at_half_percent_fpr": 0.01}
    assert not causes(health, made(), judged=1_999.0, **low)
    assert not causes(health, made(), fraud_rate=0.002, **low)
    assert causes(health, made(), **low) == {"figures:all"}
    assert not Health(RULES).causes(made(), {}, None, 0)


def test_it_goes_on_from_its_state() -> None:
    health, other = Health(RULES), Health(RULES)
    causes(health, made())
    other.loads(health.dumps())
    bad = made(delayed__logistic__linear=40)
    low = GOOD | {"average_precision": 0.1, "recall_at_half_percent_fpr": 0.1}
    found = health.causes(bad, low, None, 2 * DAY_MS)
    assert found == other.causes(bad, low, None, 2 * DAY_MS)
    assert set(found) == {"norm:delayed.logistic", "figures:all"}
    assert health.dumps() == other.dumps()

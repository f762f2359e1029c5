"""Reasons name what moved the score, with sign, value, what is usual, and a sentence."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.event import Event
from features.spec import Spec
from models.decision import Reason
from models.reasons import CONTRIBUTION_MIN, Explaining, code_of
from models.scaling import LEFT_OUT
from models.scorer_local import LocalScorer
from models.weights import Weights
from tests.builders_weights import an_ensemble, probed, some_weights, with_arrays
from tests.fakes_serving import a_spec, an_event
from tests.oracle_forward import logit_of

COUNT = "card.count_over_10m"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return a_spec(tmp_path_factory.mktemp("spec"))


def explained(
    spec: Spec, weights: Weights, X: NDArray[np.float32], at_most: int = 5
) -> tuple[list[list[Reason]], float]:
    scorer = LocalScorer(spec.digest, spec.n_features, "test", "cpu")
    scorer.load(weights, "s")
    explaining, events = Explaining(spec), [an_event() for _ in X]
    with scorer.snapshot() as snapshot:
        found = explaining.explain_many(snapshot, X, events, at_most)
        assert explaining.explain_many(snapshot, X, events, at_most) == found
        return found, snapshot.baseline


def usual_of(weights: Weights) -> NDArray[np.float64]:
    mean = weights.arrays["scaler.mean"].astype(np.float64)
    return np.asarray(np.sign(mean) * np.expm1(np.abs(mean)))


def test_the_largest_contributions_come_first_with_their_sign_and_baseline(spec: Spec) -> None:
    weights = some_weights(spec.digest, spec.n_features)
    X = (np.random.default_rng(4).normal(size=(6, spec.n_features)) * 30).astype(np.float32)
    reasons, _ = explained(spec, weights, X)
    usual = usual_of(weights)
    for x, why in zip(X, reasons, strict=True):
        assert len(why) == 5
        sizes = [abs(r.contribution) for r in why]
        assert sizes == sorted(sizes, reverse=True)
        i = spec.feature_names.index(why[0].feature)
        assert why[0].value == pytest.approx(float(x[i]))
        without = x.copy()
        without[i] = usual[i]  # taking it back to usual moves the score the other way
        moved = logit_of(weights, x[None])[0] - logit_of(weights, without[None])[0]
        assert np.sign(moved) == np.sign(why[0].contribution)


def a_vector(spec: Spec, **values: float) -> NDArray[np.float32]:
    x = np.full((1, spec.n_features), np.nan, np.float32)
    for name, value in values.items():
        x[0, spec.feature_names.index(name.replace("__", "."))] = value
    return x


def the_reason(spec: Spec, x: NDArray[np.float32], feature: str) -> Reason:
    weights = some_weights(spec.digest, spec.n_features)
    (reasons,), _ = explained(spec, weights, x, spec.n_features)
    return next(reason for reason in reasons if reason.feature == feature)


def test_usual_is_the_entitys_own_where_the_vector_says_it(spec: Spec) -> None:
    x = a_vector(spec, card__count_over_10m=9, card__count_over_1h=12)
    reason = the_reason(spec, x, COUNT)
    assert (reason.baseline, reason.baseline_of) == (2.0, "entity")
    assert reason.code == "card_count_over_10m_above_usual"
    assert reason.text == "9 payments of this card in 10 minutes; usual for this card: 2"


def test_else_it_is_the_mean_that_the_model_has_seen(spec: Spec) -> None:
    mean = usual_of(some_weights(spec.digest, spec.n_features))
    for x in (
        a_vector(spec, card__count_over_10m=4, card__count_over_1h=4),  # hardly known
        a_vector(spec, card__count_over_10m=9),
    ):
        reason = the_reason(spec, x, COUNT)
        assert reason.baseline_of == "population"
        assert reason.baseline == pytest.approx(mean[0], abs=1e-6)
        assert reason.text is not None
        assert "this card:" not in reason.text


def test_what_hardly_moved_the_score_is_no_reason(spec: Spec) -> None:
    weights = some_weights(spec.digest, spec.n_features)
    usual = usual_of(weights).astype(np.float32)[None]
    missing = np.full((1, spec.n_features), np.nan, np.float32)
    assert explained(spec, weights, np.vstack([usual, missing]))[0] == [[], []]
    assert CONTRIBUTION_MIN > 0


def test_codes_are_readable_and_stable() -> None:
    assert code_of(COUNT, 9.0, 1.2) == "card_count_over_10m_above_usual"
    assert code_of("card.since_last", 1.0, 300.0) == "card_since_last_below_usual"
    assert code_of("card.since_last", None, 300.0) == "card_since_last_missing"
    assert code_of("mcc", 7.0, 0.0, category=True) == "mcc_category"
    assert code_of("mcc", None, 0.0, category=True) == "mcc_missing"


def test_what_is_missing_and_what_is_a_category_are_called_so(spec: Spec) -> None:
    """Trees learn that a value is missing, and embeddings what a category means."""
    n = spec.n_features
    weights = an_ensemble(spec.digest, n)
    scale = weights.arrays["scaler.scale"].copy()
    scale[1] = LEFT_OUT
    weights = probed(with_arrays(weights, scaler__scale=scale))
    X = np.full((1, n), np.nan, np.float32)
    X[0, 1] = 31.0
    (reasons,), baseline = explained(spec, weights, X, n)
    total = baseline + sum(reason.contribution for reason in reasons)
    by_name = {reason.feature: reason for reason in reasons}
    category = by_name.pop("card.count_over_1h")
    assert (category.code, category.value) == ("card_count_over_1h_category", 31.0)
    assert by_name
    for name, reason in by_name.items():
        assert (reason.code, reason.value) == (f"{name.replace('.', '_')}_missing", None)
        assert reason.text
        assert reason.text.endswith(": not known")
    assert total == pytest.approx(float(logit_of(weights, X)[0]), abs=n * CONTRIBUTION_MIN)


def test_each_vector_is_told_in_its_own_events_words(tmp_path: Path) -> None:
    spec = a_spec(tmp_path)
    weights = some_weights(spec.digest, spec.n_features)
    scorer = LocalScorer(spec.digest, spec.n_features, "test", "cpu")
    scorer.load(weights, "s")
    X = np.full((2, spec.n_features), np.nan, np.float32)
    X[:, spec.feature_names.index("event.hour_sin")] = -5.0
    events: list[Event] = [an_event(), an_event(at_ms=0)]
    with scorer.snapshot() as snapshot:
        found = Explaining(spec).explain_many(snapshot, X, events, 1)
    assert [why[0].text for why in found] == ["at 12:00 UTC", "at 00:00 UTC"]

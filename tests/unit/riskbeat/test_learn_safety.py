"""Guard, caps and limiter as a learner gets them: what is withheld, thawed, bounded and shown."""

from dataclasses import replace

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest

from models.learner import Space
from models.slew import ALPHA
from models.weights import Weights
from pipeline.guard_metrics import PSI_TOP, GuardMetrics
from riskbeat.learn_safety import SafePublishing, make_guard, make_influence, step_bounds
from riskbeat.settings_safety import SafetySettings
from tests.builders_weights import an_ensemble, with_arrays

N = 30
DIGEST = "ab" * 32
SPACE = Space(DIGEST, tuple(f"card.f{number}" for number in range(N)))
SETTINGS = SafetySettings()
DAY_MS = 86_400_000
PUBLISHED = replace(an_ensemble(DIGEST, N, seed=1), labels_learned=10_000)


def exploded() -> Weights:
    linear = PUBLISHED.arrays["delayed.logistic.linear"] * np.float32(100)
    return with_arrays(PUBLISHED, delayed__logistic__linear=linear)


def test_a_version_is_withheld_by_name_bounded_and_after_a_thaw_published() -> None:
    guard = make_guard(SETTINGS, SPACE)
    safe = SafePublishing(guard, step_bounds(SETTINGS))
    same, reasons = safe.inspect(PUBLISHED, PUBLISHED)
    assert not reasons
    assert same.metrics[ALPHA] == 1
    out, reasons = safe.inspect(exploded(), PUBLISHED)
    assert [reason.partition(":")[0] for reason in reasons] == ["norm delayed.logistic"]
    assert 0 < out.metrics[ALPHA] < 1
    assert 0 < out.step.mean_logit <= SETTINGS.step_mean_logit
    assert out.step.max_logit <= SETTINGS.step_max_logit
    _, again = safe.inspect(exploded(), PUBLISHED)
    assert [reason.partition(":")[0] for reason in again] == ["norm delayed.logistic"], "no thaw"
    guard.hear_frozen(True)
    guard.hear_frozen(False)  # an operator saw the reasons, and thawed
    out, reasons = safe.inspect(exploded(), PUBLISHED)
    assert not reasons
    assert 0 < out.step.mean_logit <= SETTINGS.step_mean_logit


def test_a_blessed_version_is_what_figures_are_held_against() -> None:
    guard = make_guard(SETTINGS, SPACE)
    safe = SafePublishing(guard, step_bounds(SETTINGS))
    figures = {
        "judged": 9_000.0,
        "fraud_rate": 0.01,
        "average_precision": 0.3,
        "recall_at_half_percent_fpr": 0.3,
    }
    candidate = replace(PUBLISHED, metrics=figures)
    assert not safe.inspect(candidate, PUBLISHED)[1]
    safe.reference = {"average_precision": 0.7, "recall_at_half_percent_fpr": 0.6}
    (reason,) = safe.inspect(candidate, PUBLISHED)[1]
    assert reason.startswith("figures all: fell below the reference: average_precision 0.300")


def test_what_is_watched_can_be_read_on_the_page() -> None:
    registry = CollectorRegistry()
    metrics = GuardMetrics(registry)
    guard = make_guard(SETTINGS, SPACE)
    rng = np.random.default_rng(1)
    for day in range(3):
        X = rng.normal(day, 1, (300, N)).astype(np.float32)
        guard.observe_decided(X, np.full(300, 0.1), np.full(300, (20_000 + day) * DAY_MS))
    safe = SafePublishing(guard, step_bounds(SETTINGS))
    out, _ = safe.inspect(exploded(), PUBLISHED)
    metrics.watched(guard.gauges())
    metrics.watched(guard.gauges())
    metrics.stepped(out.step, out.metrics)
    influence = make_influence(SETTINGS)
    card = np.full(500, 7)
    influence.admit(["partner"] * 500, card, np.ones(500, np.float32))
    metrics.capped(influence.counts())
    metrics.capped(influence.counts())
    page = generate_latest(registry).decode()
    assert 'riskbeat_publishing_cause{cause="norm"} 1.0' in page
    assert 'riskbeat_publishing_cause{cause="figures"} 0.0' in page
    assert page.count("riskbeat_feature_psi{feature=") == PSI_TOP < N
    assert 'riskbeat_drifts_found{stream="precision.feedback"} 0.0' in page
    assert "riskbeat_learning_pace 1.0" in page
    assert f'riskbeat_weights_step{{measure="mean_logit"}} {out.step.mean_logit}' in page
    capped = influence.counts()["entity"]
    assert capped > 0
    assert f'riskbeat_labels_capped_total{{key="entity"}} {float(capped)}' in page
    for family in registry.collect():
        assert family.name.startswith("riskbeat_")
        assert family.documentation.endswith(".")

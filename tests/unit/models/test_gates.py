"""What a scorer asks of a version: each fault by its name, and the active one goes on."""

import dataclasses

import msgspec
import numpy as np
import pytest

from models.gates import GateBounds
from models.recent import BATCH_SAMPLE, RECENT_ROWS, Recent
from models.scorer import GATES, WeightsRefused
from models.scorer_local import LocalScorer
from models.slew import movement
from models.weights import Step, Weights
from tests.builders_weights import probed, some_rows, some_weights, with_arrays
from tests.oracle_forward import logit_of

DIGEST = "d" * 64
N = 9
BOUNDS = GateBounds(step_logit=2.0, psi=0.25, alert_share=0.05, alert_ratio=3.0)
LEARNED = 9_000


def a_scorer(seen: int = 0, **changes: object) -> LocalScorer:
    """A scorer of a learned version that has scored some traffic."""
    scorer = LocalScorer(DIGEST, N, "test", "cpu", dataclasses.replace(BOUNDS, **changes))
    scorer.load(first(), "one")
    for row in traffic(seen):
        with scorer.snapshot() as held:
            held.score_many(row[None])
    return scorer


def traffic(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return (rng.normal(size=(count, N)) * 5).astype(np.float32)


def first() -> Weights:
    return dataclasses.replace(some_weights(DIGEST, N, version=1), labels_learned=LEARNED)


def moved(by: float, version: int = 2, since: Weights | None = None, **changes: object) -> Weights:
    """The next version, all of whose log-odds are higher by `by`."""
    since = since or first()
    lane = msgspec.structs.replace(since.lanes[0], b=since.lanes[0].b + by)
    weights = dataclasses.replace(since, version=version, lanes=(lane,), **changes)
    return probed(weights)


def flattened(version: int = 2) -> Weights:
    """A version that calls everything alike, and says the same of the probe as the first."""
    weights = first()
    silent = {
        f"delayed__network__{name}": np.zeros_like(weights.arrays[f"delayed.network.{name}"])
        for name in ("w2", "linear")
    }
    probe = np.zeros((0, N), np.float32)
    flat = with_arrays(weights, **silent, probe__x=probe, probe__logit=probe[:, 0])
    return dataclasses.replace(flat, version=version)


def refused_by(scorer: LocalScorer, weights: Weights) -> str:
    before = scorer.snapshot().weights
    with pytest.raises(WeightsRefused) as refused:
        scorer.load(weights, "next")
    assert refused.value.version == weights.version
    assert refused.value.gate in GATES
    with scorer.snapshot() as held:
        found = held.score_many(traffic(5), 8).logit
    np.testing.assert_allclose(found, logit_of(before, traffic(5)), rtol=1e-5, atol=1e-5)
    return refused.value.gate


@pytest.mark.parametrize("by", [1.9, -1.9])
def test_a_step_within_the_limit_is_taken(by: float) -> None:
    scorer = a_scorer()
    scorer.load(moved(by), "two")
    assert scorer.snapshot().weights.version == 2


@pytest.mark.parametrize("by", [2.1, -2.1, 400.0])
def test_a_step_beyond_the_limit_is_not(by: float) -> None:
    scorer = a_scorer()
    assert refused_by(scorer, moved(by)) == "step"
    scorer.load(moved(0.1), "two")


def test_versions_that_were_never_offered_may_have_moved_too() -> None:
    scorer = a_scorer()
    scorer.load(moved(7.9, version=5), "five")
    assert refused_by(a_scorer(), moved(8.1, version=5)) == "step"


def test_a_refused_version_paves_no_way_for_those_after_it() -> None:
    scorer = a_scorer()
    for version in range(2, 40):
        assert refused_by(scorer, moved(20.0, version=version)) == "step"
    scorer.load(moved(1.0, version=40), "back among the living")
    scorer.load(moved(1.0, version=45, since=moved(1.0)), "45")
    scorer.load(moved(7.0, version=49), "4 later")


def test_a_willed_version_may_lie_anywhere() -> None:
    scorer = a_scorer()
    scorer.load(moved(400.0), "two", willed=True)
    assert scorer.snapshot().weights.version == 2


def test_a_canary_may_lie_anywhere() -> None:
    scorer = a_scorer()
    scorer.load(moved(400.0), "two", "canary")
    assert scorer.recall(2), "who promotes it has judged it"


def test_a_young_model_may_move_as_it_likes() -> None:
    scorer = LocalScorer(DIGEST, N, "test", "cpu", BOUNDS)
    scorer.load(dataclasses.replace(first(), labels_learned=4_999), "one")
    scorer.load(dataclasses.replace(moved(30.0), labels_learned=5_001), "two")
    young = dataclasses.replace(moved(60.0, 3), labels_learned=0)
    assert refused_by(scorer, young) == "step", "the active one's age counts"


@pytest.mark.parametrize("share", [0.5, 0.99, 1.0, 2.0])
def test_a_manifest_may_not_say_less_than_the_step_is(share: float) -> None:
    scorer = a_scorer()
    honest = movement(*(logit_of(w, first().arrays["probe.x"]) for w in (first(), moved(1.0))))
    said = Step(max_logit=honest.max_logit * share)
    told = moved(1.0, parent_sha256="1" * 64, step=said)
    scorer.load(moved(0.0), "1" * 64)  # the parent, by its bytes
    if share < 1:
        assert refused_by(scorer, told) == "step"
    else:
        scorer.load(told, "two")


def test_scores_that_lose_their_shape_are_refused() -> None:
    assert refused_by(a_scorer(seen=300), flattened()) == "scores"
    a_scorer(seen=10).load(flattened(), "too few vectors to tell")


@pytest.mark.parametrize("by", [1.5, -1.5])
def test_another_share_of_alerts_is_refused(by: float) -> None:
    scorer = a_scorer(seen=300, psi=50.0, alert_ratio=1.01)
    assert refused_by(scorer, moved(by)) == "alerts"


def test_where_all_vectors_are_alike_a_small_step_is_no_other_distribution() -> None:
    scorer = LocalScorer(DIGEST, N, "test", "cpu", BOUNDS)
    scorer.load(first(), "one")
    for _ in range(300):
        with scorer.snapshot() as held:
            held.score_many(traffic(1))
    scorer.load(moved(0.05), "two")
    assert refused_by(scorer, moved(1.0, 3, moved(0.05))) == "scores"


def test_what_is_scored_for_an_audit_or_a_shadow_is_no_traffic() -> None:
    scorer = a_scorer()
    scorer.load(moved(0.1), "two", "shadow")
    for _ in range(300):
        with scorer.snapshot() as held, scorer.snapshot("shadow") as shadow:
            held.score_many(traffic(1), 1)
            shadow.score_many(traffic(1))
    scorer.load(flattened(3), "nobody knows better")


def test_a_sample_holds_the_newest_rows_and_few_of_a_batch() -> None:
    recent = Recent(2)
    assert recent.rows().shape == (0, 2)
    recent.observe(np.arange(20, dtype=np.float32).reshape(10, 2))
    assert recent.rows().tolist() == [[0, 1], [4, 5], [8, 9], [12, 13]]
    recent.observe(np.full((1, 2), 7, np.float32))
    assert len(recent.rows()) == BATCH_SAMPLE + 1
    for number in range(2 * RECENT_ROWS):
        recent.observe(np.full((1, 2), number, np.float32))
    assert sorted(recent.rows()[:, 0].tolist()) == list(range(RECENT_ROWS, 2 * RECENT_ROWS))


def test_rows_of_all_magnitudes_pass_an_equal_version() -> None:
    scorer = LocalScorer(DIGEST, N, "test", "cpu", BOUNDS)
    scorer.load(first(), "one")
    with scorer.snapshot() as held:
        for row in some_rows(400, N):
            held.score_many(row[None])
    scorer.load(dataclasses.replace(first(), version=2), "two")

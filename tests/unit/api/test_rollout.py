"""In a rollout each event is answered by its arm, and a shadow changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from api.rollout_counts import ArmTally
from models.decision import RolloutRef
from models.decision_codec import answer_of, decode_record, decode_vector, encode_record
from models.rollout import Selector
from models.scorer import ACTIVE, Scores
from models.scorer_local import LocalScorer
from tests.builders_weights import some_weights
from tests.fakes_serving import a_stand, an_event
from tests.oracle_forward import logit_of
from tests.rollout_stand import MANY, RIVAL, arms, begin, decide, events, run


async def test_each_event_is_answered_by_its_arm_and_names_it(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    run(stand, 0.4)
    records = await decide(stand, events())
    assert [r.event_id for r in records] == [f"p{i}" for i in range(MANY)]
    found = arms(records)
    assert 10 < found.count("candidate") < 40
    assert found.count("candidate") + found.count("stable") == MANY
    for record, arm in zip(records, found, strict=True):
        assert record.weights is not None and record.scored_by is not None
        version, model = (RIVAL, "rival") if arm == "candidate" else (1, "champion")
        assert (record.weights.version, record.weights.model) == (version, model)
        assert record.weights.sha256 == f"{version:064x}"
        x = decode_vector(record.vector)[None, :]
        weights = some_weights(stand.spec.digest, stand.spec.n_features, version=version)
        expected = float(logit_of(weights, x)[0])
        assert record.score.logit == pytest.approx(expected, abs=1e-5)
        assert decode_record(encode_record(record)) == record
        assert answer_of(record).rollout == record.rollout
    again = await decide(
        stand, [an_event(f"q{i}", card=f"c{i}", merchant="m") for i in range(MANY)]
    )
    assert arms(again) == found  # a card sticks to its arm


async def test_alone_or_in_a_batch_an_event_gets_the_same_score(tmp_path: Path) -> None:
    """Each arm has a bucket of its own, and the decision names it."""
    stand = a_stand(tmp_path)
    stand.load(1)
    rival = run(stand, 0.4)
    for record in await decide(stand, events()):
        assert record.rollout is not None and record.scored_by is not None
        scorer = rival if record.rollout.arm == "candidate" else stand.scorer
        with scorer.snapshot() as snapshot:
            x = decode_vector(record.vector)[None, :]
            again = snapshot.score_many(x, record.scored_by.bucket)
        assert float(again.logit[0]) == record.score.logit


class Faulty:
    """A candidate whose forward pass fails in the way that a test chooses."""

    def __init__(self, scorer: LocalScorer, fail: Callable[[Scores], Scores]) -> None:
        self._scorer = scorer
        self._fail = fail

    def snapshot(self, slot: str = ACTIVE) -> Any:
        fail, lease = self._fail, self._scorer.snapshot(slot)

        class Lease:
            weights, sha256, baseline = lease.weights, lease.sha256, 0.0

            def __enter__(self) -> "Lease":
                lease.__enter__()
                return self

            def __exit__(self, *error: Any) -> None:
                lease.__exit__(*error)

            def score_many(self, X: NDArray[np.float32], bucket: int | None = None) -> Scores:
                return fail(lease.score_many(X, bucket))

            def explain_many(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
                return lease.explain_many(X)

        return Lease()


def out_of_memory(scores: Scores) -> Scores:
    raise RuntimeError("CUDA out of memory")


def overflown(scores: Scores) -> Scores:
    return scores._replace(logit=np.full_like(scores.logit, np.nan))


@pytest.mark.parametrize("fail", [out_of_memory, overflown])
async def test_where_the_candidate_fails_the_stable_arm_answers(
    tmp_path: Path, fail: Callable[[Scores], Scores]
) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    faulty = Faulty(run(stand, 0.5), fail)
    begin(stand, faulty, 0.5, shadow=True)  # type: ignore[arg-type]
    records = await decide(stand, events())
    assert set(arms(records)) == {"stable", "fallback"}
    for record in records:
        assert record.weights is not None and record.rollout is not None
        assert (record.weights.version, record.degraded) == (1, [])
        states = [one.state for one in record.shadow]
        assert states == (["failed"] if record.rollout.arm == "stable" else [])


async def test_a_candidate_that_is_not_there_yet_takes_no_part(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    empty = LocalScorer(stand.spec.digest, stand.spec.n_features, "test", "cpu")
    begin(stand, empty, 1.0, shadow=True)
    records = await decide(stand, events(5))
    assert arms(records) == [None] * 5
    assert {r.weights.version for r in records if r.weights} == {1}


async def test_without_a_stable_version_nothing_is_rolled_out(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    run(stand, 1.0)
    [record] = await decide(stand, events(1))
    assert (record.degraded, record.rollout, record.model) == (["model"], None, None)


async def test_events_that_take_no_part_are_answered_as_ever(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    run(stand, 1.0, shadow=True, selector=Selector(tenants=("acme",)))
    records = await decide(stand, events(5))
    assert (arms(records), [r.shadow for r in records]) == ([None] * 5, [[]] * 5)


async def test_what_the_arms_did_is_counted(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    run(stand, 0.4, shadow=True)
    tally = ArmTally()
    tally.begin(3, 0)
    records = await decide(stand, events())
    tally.observe(records)
    stable, candidate, shadow, beside = tally.counted()
    found = arms(records)
    assert (stable.decisions, candidate.decisions) == (
        found.count("stable"),
        found.count("candidate"),
    )
    assert shadow.decisions == beside.decisions == stable.decisions
    alerts = [r.outcome != "approve" for r in records]
    pairs = list(zip(found, alerts, strict=True))
    assert candidate.alerts == sum(alert for arm, alert in pairs if arm == "candidate")
    assert stable.alerts == beside.alerts == sum(alert for arm, alert in pairs if arm == "stable")
    assert beside.scores == stable.scores
    assert sum(shadow.scores) == sum(shadow.model_ms) == shadow.decisions
    said = [(r.shadow[0], r.score.logit) for r in records if r.shadow]
    assert shadow.agreed == sum(one.outcome == one.beside for one, _ in said)
    apart = sum(abs((one.logit or 0.0) - (logit or 0.0)) for one, logit in said)
    assert shadow.apart == pytest.approx(apart)


async def test_only_the_present_step_is_counted(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    run(stand, 1.0)
    tally = ArmTally()
    records = await decide(stand, events(4))
    tally.observe(records)
    assert tally.counted().candidate.decisions == 0
    tally.begin(3, 0)
    tally.observe(records)
    tally.begin(3, 0)
    assert tally.counted().candidate.decisions == 4
    failed = RolloutRef(number=3, step=0, arm="fallback", pass_ms=1.0)
    lost = [
        msgspec.structs.replace(record, rollout=failed, degraded=["features"]) for record in records
    ]
    tally.observe(lost)
    assert tally.counted().candidate.fallbacks == 4
    tally.begin(3, 1)
    assert tally.counted().candidate.decisions == 0

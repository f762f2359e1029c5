"""Past decisions follow from log, versions and policy, bit for bit; every change of one is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from features.event import Amount
from features.spec import Spec
from models.decision import DecisionRecord
from models.decision_codec import decode_vector, encode_vector
from models.policy_cel import CelCompiler
from models.policy_ruling import compile_policy
from models.weights import encode, sha256_of
from pipeline.featurize import Place
from pipeline.recompute import Recomputed, recompute_many
from pipeline.skew_log import Placed
from riskbeat.recompute import PastAnswers, PastVersions
from tests.backfilling import SPEC_TEXT, OnlinePath, a_log
from tests.builders_versions import versions_of
from tests.builders_weights import KEYS, SIGNER, an_ensemble
from tests.fakes_featurize import EVENTS, LABELS, UPDATES_PARTITIONS
from tests.fakes_serving import POLICY_TEXT

VERSIONS = 6


class Past:
    """Decisions by versions that followed each other, and all that they can be made from again."""

    def __init__(self, spec: Spec, published: dict[int, bytes], path: OnlinePath) -> None:
        self.spec = spec
        self.published = published
        self.records: list[DecisionRecord] = []
        self._path = path

    @property
    def log(self) -> list[Placed]:
        return [
            Placed("events" if topic == EVENTS else "label_updates", 0, r.offset, r.timestamp, body)
            for topic in (EVENTS, LABELS)
            for r in self._path.log.records[Place(topic, 0)]
            if (body := r.value) is not None
        ]

    def again(self, *records: DecisionRecord, policy: str = POLICY_TEXT) -> list[Recomputed]:
        book = compile_policy(policy, "policy.yaml", self.spec, CelCompiler)
        versions = PastVersions(self.published, KEYS)
        answers = PastAnswers(self.spec, versions, {book.policy.version: book}.get, "cpu", "test")
        chosen = records or tuple(self.records)
        return recompute_many(self.spec, UPDATES_PARTITIONS, self.log, chosen, answers)


@pytest.fixture
async def past(tmp_path: Path) -> Past:
    path = tmp_path / "features.yaml"
    path.write_text(SPEC_TEXT)
    spec = Spec.load(path)
    made, published = versions_of(spec, SIGNER, VERSIONS)
    online = OnlinePath(spec, tmp_path, 0)
    await online.start()
    found = Past(spec, published, online)
    bodies = list(a_log(1))
    for number, body in enumerate(bodies):
        weights = made[number * VERSIONS // len(bodies)]
        online.scorer.load(weights, sha256_of(published[weights.version]), willed=True)
        record = await online.take(body)
        if record is not None:
            found.records.append(record)
    return found


def test_every_decision_is_made_again_bit_for_bit(past: Past) -> None:
    assert {r.weights.version for r in past.records if r.weights} == set(range(1, VERSIONS + 1))
    assert any(record.reasons for record in past.records)
    found = past.again()
    assert len(found) == len(past.records) > 50
    assert [(one.differences, one.unknown) for one in found if one.differences or one.unknown] == []
    assert all(one.exact for one in found)


def changed_vector(record: DecisionRecord) -> str:
    x = decode_vector(record.vector)
    x[0] += 1
    return encode_vector(x)


CHANGES: list[tuple[str, Callable[[DecisionRecord], dict[str, Any]]]] = [
    ("vector: ", lambda r: {"vector": changed_vector(r)}),
    ("logit: ", lambda r: {"score": msgspec.structs.replace(r.score, logit=0.125)}),
    ("score.value: ", lambda r: {"score": msgspec.structs.replace(r.score, value=0.125)}),
    ("outcome: ", lambda r: {"outcome": "challenge"}),
    ("propensity: ", lambda r: {"propensity": 0.5}),
    ("weights: ", lambda r: {"weights": msgspec.structs.replace(r.weights, sha256="0" * 64)}),
    ("reasons: ", lambda r: {"reasons": r.reasons[1:]}),
    (
        "reason 1, text: ",
        lambda r: {"reasons": [msgspec.structs.replace(r.reasons[0], text="no"), *r.reasons[1:]]},
    ),
    (
        "event.amount: ",
        lambda r: {"event": msgspec.structs.replace(r.event, amount=Amount(1, "EUR"))},
    ),
    (
        "event: the log does not hold it",
        lambda r: {"event": msgspec.structs.replace(r.event, event_id="never")},
    ),
]


@pytest.mark.parametrize(("begins", "change"), CHANGES, ids=[begins for begins, _ in CHANGES])
def test_what_was_changed_is_named(
    past: Past, begins: str, change: Callable[[DecisionRecord], dict[str, Any]]
) -> None:
    honest = next(r for r in past.records if r.reasons)
    forged = msgspec.structs.replace(honest, **change(honest))
    (one,) = past.again(forged)
    assert any(text.startswith(begins) for text in one.differences), one


def test_another_version_of_the_same_number_is_told(past: Past) -> None:
    honest = past.records[0]
    other = an_ensemble(past.spec.digest, past.spec.n_features, version=1, seed=9)
    past.published[1] = encode(other, SIGNER)
    (one,) = past.again(honest)
    assert {text.split(":")[0] for text in one.differences} >= {"weights", "logit"}


def test_what_is_not_at_hand_is_said_and_is_no_difference(past: Past) -> None:
    honest = past.records[0]
    (one,) = past.again(honest, policy=POLICY_TEXT.replace("version: 3", "version: 4"))
    assert one.differences == ()
    assert one.unknown == ("policy: version 3 is not at hand (--policy FILE)",)
    (gone,) = past.again(msgspec.structs.replace(honest, spec_digest="0" * 64))
    assert gone.unknown == ("vector: made under another feature spec",)
    (late,) = past.again(past.records[-1])
    assert late.exact
    assert late.unknown == ()
    del past.published[1]
    (one,) = past.again(honest)
    assert one.unknown == (
        "weights: version 1 is not whole in the weights topic, which holds 2 to 6",
    )


def test_on_another_build_it_is_held_to_a_tolerance(past: Past) -> None:
    honest = past.records[0]
    assert honest.scored_by is not None
    assert honest.score.logit is not None
    elsewhere = msgspec.structs.replace(honest.scored_by, build="another")
    near = msgspec.structs.replace(honest.score, logit=honest.score.logit * (1 + 2e-6))
    far = msgspec.structs.replace(honest.score, logit=honest.score.logit + 1e-3)
    for score, told in ((near, False), (far, True)):
        record = msgspec.structs.replace(honest, scored_by=elsewhere, score=score)
        (one,) = past.again(record)
        assert not one.exact
        assert bool(one.differences) == told

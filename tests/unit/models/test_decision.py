"""What is recorded reads back equal, to the bit."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event import EventRejected
from models.decision import (
    Applied,
    Decision,
    DecisionRecord,
    FeaturesRef,
    PolicyRef,
    RecordedScore,
    Source,
    Timings,
    answer_in,
    answer_of,
    decode_record,
    decode_vector,
    encode_decision,
    encode_record,
    encode_vector,
    encode_vectors,
    repeat_of,
)
from tests.fakes_serving import NOW_MS, an_event


def a_record(logit: float) -> DecisionRecord:
    return DecisionRecord(
        decision_id="dec_1",
        event_id="pay_1",
        outcome="review",
        score=RecordedScore(value=0.5, percentile=None, risk_level="normal", logit=logit),
        reasons=[],
        policy=PolicyRef(1),
        model=None,
        features=FeaturesRef(as_of=None, staleness_ms=None, missing=[]),
        degraded=[],
        timings_ms=Timings(features=0.5, model=0.25, total=1.0),
        tenant="default",
        event=an_event(),
        vector=encode_vector(np.zeros(2, np.float32)),
        spec_digest="d" * 64,
        weights=None,
        applied={"0": Applied(e=[3], l=[])},
        overlay=[],
        scored_by=None,
        source=Source(door="http"),
        decided_at_ms=NOW_MS,
    )


def test_log_odds_survive_the_wire_bit_for_bit() -> None:
    for logit in np.random.default_rng(1).normal(size=200).astype(np.float32):
        record = a_record(float(logit))
        read = decode_record(encode_record(record))
        assert read == record
        assert np.float32(read.score.logit).tobytes() == logit.tobytes()


def test_a_vector_survives_bit_for_bit_with_its_holes() -> None:
    x = np.random.default_rng(2).normal(size=50).astype(np.float32)
    x[[0, 7]] = np.nan, -0.0
    assert decode_vector(encode_vector(x)).tobytes() == x.tobytes()


@pytest.mark.parametrize("text", ["§", "AAA", "AAAA"])
def test_what_is_no_vector_is_refused(text: str) -> None:
    with pytest.raises(EventRejected) as refused:
        decode_vector(text)
    assert refused.value.pointer == "/vector"


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"\xff"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(EventRejected):
        decode_record(data)


def test_an_answer_tells_the_caller_nothing_of_the_record_alone() -> None:
    answer = answer_of(a_record(0.25))
    assert type(answer) is Decision
    body = encode_decision(answer)
    assert b"logit" not in body and b"vector" not in body
    assert repeat_of(body) == body.replace(b'"status":"new"', b'"status":"duplicate"')


@given(st.text(), st.floats(allow_nan=False), st.sampled_from(["normal", "not_assessed"]))
def test_the_answer_in_a_records_bytes_is_the_answer(name: str, p: float, level: str) -> None:
    tricky = f'{name},"tenant":"}}","logit":1,"risk_level":'
    score = RecordedScore(value=p, percentile=None, risk_level=level, logit=None)
    for logit in (None, -p):
        record = msgspec.structs.replace(
            a_record(0.5), event_id=tricky, score=msgspec.structs.replace(score, logit=logit)
        )
        assert answer_in(encode_record(record)) == encode_decision(answer_of(record))


def test_vectors_are_encoded_alike_one_by_one_and_together() -> None:
    X = np.random.default_rng(3).normal(size=(5, 50)).astype(np.float32)
    assert encode_vectors(X) == [encode_vector(x) for x in X]

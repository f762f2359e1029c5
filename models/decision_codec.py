"""DecisionRecord ↔ bytes of `decisions.v1`, and the answer that stands inside them."""

import base64
import binascii

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.event import EventRejected
from features.event_wire import UNREADABLE
from models.decision import Decision, DecisionRecord, Score

_encoder = msgspec.json.Encoder()
_records = msgspec.json.Decoder(DecisionRecord)
_decisions = msgspec.json.Decoder(Decision)
_ANSWER_FIELDS = tuple(
    name for name in Decision.__struct_fields__ if name not in ("score", "status")
)


def encode_record(record: DecisionRecord) -> bytes:
    """Return the bytes that go to `decisions.v1`."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> DecisionRecord:
    """Read a record of `decisions.v1`.

    Raises:
        EventRejected: The bytes are no decision record.
    """
    try:
        return _records.decode(data)
    except UNREADABLE as error:
        raise EventRejected("malformed_decision", "", str(error)) from error


def answer_of(record: DecisionRecord) -> Decision:
    """Return the part of a record that answers the caller."""
    score = Score(
        value=record.score.value,
        percentile=record.score.percentile,
        risk_level=record.score.risk_level,
    )
    fields = {name: getattr(record, name) for name in _ANSWER_FIELDS}
    return Decision(score=score, status=record.status, **fields)


def answer_in(record: bytes) -> bytes:
    """Return the body of the answer that a record's bytes begin with: `answer_of`, encoded once.

    A quote inside a string is escaped, so each mark stands where the field begins, nowhere else.
    """
    end = record.index(b',"tenant":"')
    score = record.index(b'"risk_level":')
    logit = record.index(b',"logit":', score)
    return b"%b%b}" % (record[:logit], record[record.index(b"}", logit) : end])


def encode_decision(decision: Decision) -> bytes:
    """Return the body of an answer."""
    return _encoder.encode(decision)


def repeat_of(body: bytes) -> bytes:
    """Return an answer's body again, for a repeat of the question: its status is `duplicate`."""
    return _encoder.encode(msgspec.structs.replace(_decisions.decode(body), status="duplicate"))


def encode_vector(x: NDArray[np.float32]) -> str:
    """Return base64 of a vector, shape (n_features,), as little-endian float32."""
    return binascii.b2a_base64(x.astype("<f4", copy=False).tobytes(), newline=False).decode("ascii")


def encode_vectors(X: NDArray[np.float32]) -> list[str]:
    """Return base64 of vectors, shape (m, n_features), each as `encode_vector` does."""
    data, size = memoryview(X.astype("<f4", copy=False).tobytes()), 4 * X.shape[1]
    encode = binascii.b2a_base64
    return [
        encode(data[at : at + size], newline=False).decode("ascii")
        for at in range(0, len(data), size)
    ]


def decode_vector(text: str) -> NDArray[np.float32]:
    """Read a vector back, bit for bit, shape (n_features,).

    Raises:
        EventRejected: The text is no base64, or no whole number of float32.
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
    except ValueError as error:
        raise EventRejected("malformed_decision", "/vector", str(error)) from error

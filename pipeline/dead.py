"""a rejected record → `dead.v1`: the bytes, why they were rejected, and where they came from."""

import base64

import msgspec

from pipeline.source_records import Reject

DEAD_BODY_MAX_BYTES = 256 * 1024


class DeadLetter(msgspec.Struct, frozen=True):
    """The value on the dead-letter topic (JSON).

    Attributes:
        code: Closed set of reasons.
        pointer: JSON pointer of the field at fault; empty for the whole document.
        body: Base64 of the rejected bytes, at most the first `DEAD_BODY_MAX_BYTES` of them.
        body_bytes: How many bytes were rejected.
    """

    topic: str
    partition: int
    offset: int
    code: str
    pointer: str
    detail: str
    at_ms: int
    body: str
    body_bytes: int


_encoder = msgspec.json.Encoder()


def dead_letter(topic: str, partition: int, reject: Reject, at_ms: int) -> bytes:
    """Return the dead letter's bytes."""
    body = base64.b64encode(reject.body[:DEAD_BODY_MAX_BYTES]).decode()
    return _encoder.encode(
        DeadLetter(
            topic, partition, reject.offset, reject.code, reject.pointer, reject.detail,
            at_ms, body, len(reject.body),
        )
    )  # fmt: skip

"""a request's `traceparent` → headers of the records that it makes (W3C Trace Context).

We add no span of our own, so the context is handed on as it came, as the recommendation asks of
those in between. What does not parse is dropped, never refused: tracing must not cost a payment.
"""

import re
from collections.abc import Mapping
from typing import Final

TRACESTATE_MAX_BYTES: Final = 512
NO_TRACE: Final[tuple[tuple[str, bytes], ...]] = ()

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")


def trace_of(headers: Mapping[bytes, bytes]) -> tuple[tuple[str, bytes], ...]:
    """Return the trace context of a request as headers of a record; nothing if it has none."""
    parent = headers.get(b"traceparent")
    if parent is None or _TRACEPARENT.fullmatch(parent) is None:
        return NO_TRACE
    state = headers.get(b"tracestate", b"")
    if len(state) > TRACESTATE_MAX_BYTES or _TRACESTATE.fullmatch(state) is None:
        return (("traceparent", parent),)
    return (("traceparent", parent), ("tracestate", state))

"""headers of a request or a record → trace contexts, and the spans of what was done for them.

W3C Trace Context. What does not parse is dropped, never refused: tracing must not cost a payment.
A context is the text of a `traceparent`. Where nothing is traced there is no `Tracer`, and callers
ask for that alone: contexts are then handed on as they came, as the recommendation asks of those in
between.

Chance draws of events that the log brings without a context are a function of their place in it, so
that all who read an event agree, each by itself, on whether it is traced and as which trace.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

TRACESTATE_MAX_BYTES: Final = 512
LINKS_MAX: Final = 128
"""Contexts that one span links; of more it says how many were left out."""

Headers = tuple[tuple[str, bytes], ...]
NO_TRACE: Final[Headers] = ()

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")
_SAMPLED = 1
_TWO_64 = float(1 << 64)
_STEP, _FIRST, _SECOND = (
    np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class OpenSpan(NamedTuple):
    """A span that goes on.

    Attributes:
        context: Its own, for what is done next to name as its parent.
        parent: Whose child it is; empty for the first of its trace.
        state: The caller's `tracestate`, which goes with it.
    """

    context: str
    parent: str
    began_ns: int
    state: bytes = b""

    @property
    def headers(self) -> Headers:
        """The headers of a record that was made within it."""
        made = (("traceparent", self.context.encode()),)
        return (*made, ("tracestate", self.state)) if self.state else made

    @property
    def trace_id(self) -> str:
        """Of its trace."""
        return trace_id_of(self.context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that was done: when, for whom, and its facts.

    Attributes:
        links: Contexts that it was done for as well, beside its parent's.
        facts: Ids, counts and versions; never a payload, nor what an entity is called.
    """

    name: str
    context: str
    parent: str = ""
    began_ns: int
    ended_ns: int
    links: Sequence[str] = ()
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


class Tracer(Protocol):
    """Takes spans and sends them away; never waits, and never raises.

    Implementation: `riskbeat.tracer_otel.OtelTracer`.

    Attributes:
        share: Of what comes without a context, so much is traced: 0 to 1.
    """

    share: float

    def begin(self, trace: Headers, root: str = "") -> OpenSpan | None:
        """Begin a span.

        Args:
            trace: The caller's context; its sampled flag decides.
            root: A context that was drawn for it, if it came without one.

        Returns:
            None when it is not to be traced.
        """

    def child_of(self, parent: str) -> str:
        """Return a context of the same trace; of a new one where the parent is empty."""

    def take(self, span: Span) -> None:
        """Take a span that ended."""

    def tell(self, count: Callable[[str, int], None]) -> None:
        """Name who counts spans, by what became of them; from another thread."""

    def close(self) -> None:
        """Send what waits, within bounds."""


def trace_of(headers: Mapping[bytes, bytes]) -> Headers:
    """Return the trace context of a request as headers of a record; nothing if it has none."""
    parent = headers.get(b"traceparent")
    if parent is None or _TRACEPARENT.fullmatch(parent) is None:
        return NO_TRACE
    state = headers.get(b"tracestate", b"")
    if len(state) > TRACESTATE_MAX_BYTES or _TRACESTATE.fullmatch(state) is None:
        return (("traceparent", parent),)
    return (("traceparent", parent), ("tracestate", state))


def trace_in(headers: Iterable[tuple[str, bytes]]) -> Headers:
    """Return the trace context among a record's headers, to be handed on; nothing if none."""
    named = {name.encode(): value or b"" for name, value in headers}
    return trace_of(named) if b"traceparent" in named else NO_TRACE


def sampled_in(headers: Iterable[tuple[str, bytes]]) -> str:
    """Return the context in a record's headers if it is to be traced, else nothing."""
    trace = trace_in(headers)
    return sampled(trace) if trace else ""


def sampled(trace: Headers) -> str:
    """Return the context of headers if its flag says that it is traced, else nothing."""
    parent = trace[0][1].decode()
    return parent if int(parent[-2:], 16) & _SAMPLED else ""


def trace_id_of(context: str) -> str:
    """Return the trace's id, 32 hexadecimal digits."""
    return context[3:35]


def span_id_of(context: str) -> str:
    """Return the span's id, 16 hexadecimal digits."""
    return context[36:52]


def context_of(trace_id: str, span_id: str) -> str:
    """Return the context of a span that is traced."""
    return f"00-{trace_id}-{span_id}-01"


def context_of_version(sha256: str) -> str:
    """Return the context under which a version of weights is published.

    The digest of its bytes names it, so whoever loads or names a version knows its trace.
    """
    return context_of(sha256[:32], sha256[32:48])


def draw(topic: str, partition: int, offsets: Sequence[int], share: float) -> dict[int, str]:
    """Return offset → root context of those that chance picked.

    A bijection of the offset, mixed until its bits look independent, is held against the share.
    Source: SplitMix64; Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators"
    (2014).
    """
    if not offsets or share <= 0.0:
        return {}
    seed = np.uint64(xxhash.xxh3_64_intdigest(f"{topic}:{partition}".encode()))
    low = _mixed(np.array(offsets, np.uint64) + seed)
    picked = np.flatnonzero(low < share * _TWO_64) if share < 1.0 else np.arange(low.size)
    if not picked.size:
        return {}
    lows, highs = low[picked], _mixed(low[picked] ^ _FIRST)
    spans = _mixed(highs ^ _SECOND)
    rows = zip(picked.tolist(), highs.tolist(), lows.tolist(), spans.tolist(), strict=True)
    return {
        offsets[index]: context_of(f"{high:016x}{low:016x}", f"{span or 1:016x}")
        for index, high, low, span in rows
    }


def linked(contexts: Iterable[str]) -> tuple[str, list[str], int]:
    """Return the parent of a span that was done for many, its links, and how many were left out.

    The first is the parent, so that one of them shows the span in its own trace.
    """
    distinct = list(dict.fromkeys(contexts))
    if not distinct:
        return "", [], 0
    return distinct[0], distinct[1 : 1 + LINKS_MAX], max(0, len(distinct) - 1 - LINKS_MAX)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = z + _STEP
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
        return z ^ (z >> np.uint64(31))

"""batches of featurize → their spans: one for each batch, for all the traced events in it.

A batch's span is the child of its first traced event and links the others. The records that it
made name it, so the span of the commit that applied them is its child in turn.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from features.trace import NO_TRACE, Span, Tracer, draw, linked, sampled, trace_in
from features.trace_metrics import TraceMetrics
from pipeline.chunk import Applied
from pipeline.featurize import Layout, LogRecord, Place
from pipeline.metrics import FeaturizeMetrics
from pipeline.route import Routed

HAS_DECIDED = "riskbeat-decided"
"""On an event that HTTP decided: what is traced of these, HTTP chose, and said so beside it."""


@dataclass(frozen=True, slots=True)
class Routing:
    """A batch that is being routed for traced events.

    Attributes:
        context: Of its span; the records that it makes name it.
    """

    context: str
    events: Sequence[str]
    began_ns: int


class StepTraces:
    """Makes the spans of both steps of a worker."""

    def __init__(self, tracer: Tracer, layout: Layout, metrics: FeaturizeMetrics) -> None:
        """Take who keeps spans; what becomes of them is counted beside the worker's metrics."""
        self._tracer = tracer
        self._layout = layout
        tracer.tell(TraceMetrics(metrics.registry).count)

    def begin(self, batches: Sequence[tuple[Place, Sequence[LogRecord]]]) -> Routing | None:
        """Begin to route batches; None when none of their events is traced."""
        events = [context for place, batch in batches for context in self._events(place, batch)]
        if not events:
            return None
        return Routing(self._tracer.child_of(events[0]), events, time.time_ns())

    def _events(self, place: Place, batch: Sequence[LogRecord]) -> list[str]:
        """Return the contexts of a batch's traced events, in its order."""
        found: dict[int, str] = {}
        if self._layout.sources[place.topic] == "e":
            offsets = [record.offset for record in batch]
            found = draw(*place, offsets, self._tracer.share)
        for record in batch:
            trace = trace_in(record.headers) if record.headers else NO_TRACE
            if trace or any(name == HAS_DECIDED for name, _ in record.headers):
                found.pop(record.offset, None)
            if trace and (context := sampled(trace)):
                found[record.offset] = context
            elif record.offset in found:
                self._begin_trace(found[record.offset], record)
        return [found[offset] for offset in sorted(found)]

    def _begin_trace(self, context: str, record: LogRecord) -> None:
        """Take the first span of an event that chance picked: its way through the log to us."""
        self._tracer.take(
            Span(
                name="event.appended",
                context=context,
                began_ns=record.timestamp * 1_000_000,
                ended_ns=time.time_ns(),
                facts={"offset": record.offset},
            )
        )

    def routed(self, routing: Routing, done: Sequence[Routed]) -> None:
        """Take the span of batches whose records are acknowledged."""
        parent, links, left_out = linked(routing.events)
        self._tracer.take(
            Span(
                name="featurize.route",
                context=routing.context,
                parent=parent,
                links=links,
                began_ns=routing.began_ns,
                ended_ns=time.time_ns(),
                facts={
                    "traced_events": len(routing.events),
                    "links_left_out": left_out,
                    "accepted": sum(routed.accepted for routed in done),
                    "rejected": sum(len(routed.rejects) for routed in done),
                    "records": sum(len(routed.records) for routed in done),
                },
            )
        )

    def committed(self, done: Sequence[Applied], began_ms: int) -> None:
        """Take the span of a round of commits, if anything traced was in it."""
        parent, links, left_out = linked(trace for applied in done for trace in applied.traces)
        if not parent:
            return
        self._tracer.take(
            Span(
                name="featurize.commit",
                context=self._tracer.child_of(parent),
                parent=parent,
                links=links,
                began_ns=began_ms * 1_000_000,
                ended_ns=time.time_ns(),
                facts={
                    "links_left_out": left_out,
                    "partitions": len(done),
                    "rows": sum(applied.rows for applied in done),
                    "states": sum(applied.states for applied in done),
                    "commits": sum(applied.commits for applied in done),
                },
            )
        )

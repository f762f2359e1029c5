"""what the learner's loop does → spans: what was learned from, and the version that holds it."""

import time

from features.trace import LINKS_MAX, Span, Tracer, context_of_version, linked
from pipeline.learn_ports import Published
from pipeline.position import StepCounts

LEARNED_MAX = LINKS_MAX
"""Steps that a version's span links; of more, the first."""


class LearnTraces:
    """Makes the spans; knows which steps no version holds yet."""

    def __init__(self, tracer: Tracer) -> None:
        """Take who keeps spans."""
        self._tracer = tracer
        self._learned: list[str] = []

    def stepped(self, counts: StepCounts, seconds: float) -> None:
        """Take the span of a step, if anything traced was learned or labelled in it."""
        parent, links, left_out = linked(counts.traces)
        if not parent:
            return
        context, now_ns = self._tracer.child_of(parent), time.time_ns()
        self._tracer.take(
            Span(
                name="learn.step",
                context=context,
                parent=parent,
                links=links,
                began_ns=now_ns - round(seconds * 1e9),
                ended_ns=now_ns,
                facts={
                    "links_left_out": left_out,
                    "decisions": sum(counts.decisions.values()),
                    "labels": sum(counts.labels.values()),
                },
            )
        )
        if len(self._learned) < LEARNED_MAX:
            self._learned.append(context)

    def published(self, done: Published) -> None:
        """Take the span of a version: first of a trace of its own, that links what it learned."""
        links, self._learned = self._learned, []
        now_ns = time.time_ns()
        self._tracer.take(
            Span(
                name="weights.publish",
                context=context_of_version(done.sha256),
                links=links,
                began_ns=now_ns - round(done.seconds * 1e9),
                ended_ns=now_ns,
                facts={
                    "weights_version": done.version,
                    "base_version": done.base,
                    "size_bytes": done.size_bytes,
                    "labels": len(done.label_waits_s),
                },
            )
        )

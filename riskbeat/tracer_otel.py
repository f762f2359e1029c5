"""spans → an OTLP collector, or a file of JSON lines: OpenTelemetry, in a thread of its own.

What is traced appends a value to a queue and goes on; the thread turns values into OpenTelemetry's
spans and exports them. The queue is bounded: while nobody takes spans they are dropped and counted.
"""

import importlib.metadata
import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from features.trace import Headers, OpenSpan, Span, context_of, sampled, span_id_of, trace_id_of

QUEUE_MAX_SPANS: Final = 8_192
BATCH_MAX_SPANS: Final = 512
EXPORT_EVERY_S: Final = 0.5
EXPORT_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 3.0
TRACES_PATH: Final = "/v1/traces"

log = structlog.get_logger("traces")


def open_tracer(share: float, exporter: str, service: str) -> "OtelTracer":
    """Return a tracer that sends to a collector's URL or to a file.

    Raises:
        OSError: The file cannot be written.
    """
    resource = Resource.create(
        {
            "service.name": service,
            "service.version": importlib.metadata.version("riskbeat"),
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    return OtelTracer(share, exporter_of(exporter), resource)


def exporter_of(exporter: str) -> SpanExporter:
    """Return OpenTelemetry's exporter for a collector's URL or a file's path.

    Raises:
        OSError: The file cannot be written.
    """
    if exporter.startswith(("http://", "https://")):
        names_path = urlsplit(exporter).path.strip("/")
        endpoint = exporter if names_path else exporter.rstrip("/") + TRACES_PATH
        return OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
    return _Lines(Path(exporter))


class _Lines(ConsoleSpanExporter):
    """Appends to a file; lines of several processes may go to one, for each is written at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1, encoding="utf-8")
        super().__init__(out=self._file, formatter=lambda span: span.to_json(indent=None) + "\n")

    def shutdown(self) -> None:
        self._file.close()


class OtelTracer:
    """See `features.trace.Tracer`."""

    def __init__(self, share: float, exporter: SpanExporter, resource: Resource) -> None:
        """Start the thread.

        Args:
            share: Of what comes without a context, so much is traced.
            exporter: Where spans go.
            resource: Whose they are.
        """
        self.share = share
        self._exporter = exporter
        self._made = _Maker(resource)
        self._queue: deque[Span] = deque()
        self._dropped = 0
        self._away = False
        self._count: Callable[[str, int], None] = lambda _outcome, _spans: None
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="traces", daemon=True)
        self._thread.start()

    def begin(self, trace: Headers, root: str = "") -> OpenSpan | None:
        """Begin a span; see the port."""
        if trace:
            parent = sampled(trace)
            if not parent:
                return None
            state = trace[1][1] if len(trace) > 1 else b""
            return OpenSpan(self.child_of(parent), parent, time.time_ns(), state)
        if root or random.random() < self.share:
            return OpenSpan(self.child_of(root), root, time.time_ns())
        return None

    def child_of(self, parent: str) -> str:
        """Return a context; see the port."""
        trace_id = trace_id_of(parent) if parent else f"{random.getrandbits(128) or 1:032x}"
        return context_of(trace_id, f"{random.getrandbits(64) or 1:016x}")

    def take(self, span: Span) -> None:
        """Take a span that ended; see the port."""
        if len(self._queue) >= QUEUE_MAX_SPANS:
            self._dropped += 1
            return
        self._queue.append(span)
        if len(self._queue) == BATCH_MAX_SPANS:
            self._wake.set()

    def tell(self, count: Callable[[str, int], None]) -> None:
        """Name who counts spans; see the port."""
        self._count = count

    def close(self) -> None:
        """Send what waits, within bounds; see the port."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        self._exporter.shutdown()

    def _work(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(EXPORT_EVERY_S)
            self._wake.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while self._queue:
            count = min(len(self._queue), BATCH_MAX_SPANS)
            self._send([self._queue.popleft() for _ in range(count)])
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._count("dropped", dropped)

    def _send(self, spans: Sequence[Span]) -> None:
        try:
            result = self._exporter.export(self._made.make_many(spans))
            failed = None if result is SpanExportResult.SUCCESS else result.name
        except Exception as error:  # the top of the thread: spans may be lost, never a payment
            failed = type(error).__name__
        self._count("failed" if failed else "exported", len(spans))
        if failed and not self._away:
            log.warning("traces.away", reason=failed)
        elif self._away and not failed:
            log.info("traces.back")
        self._away = failed is not None


class _Maker:
    """Makes OpenTelemetry's spans of ours, with the ids that they have already."""

    def __init__(self, resource: Resource) -> None:
        self._ids, self._ended = _Ids(), _Ended()
        provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("riskbeat")

    def make_many(self, spans: Sequence[Span]) -> list[ReadableSpan]:
        made: list[ReadableSpan] = []
        self._ended.spans = made
        for span in spans:
            self._ids.trace_id = int(trace_id_of(span.context), 16)
            self._ids.span_id = int(span_id_of(span.context), 16)
            parent = Context()
            if span.parent:
                parent = set_span_in_context(NonRecordingSpan(_known(span.parent)), parent)
            begun = self._tracer.start_span(
                span.name,
                context=parent,
                attributes=span.facts,
                links=[Link(_known(context)) for context in span.links],
                start_time=span.began_ns,
            )
            begun.end(max(span.began_ns, span.ended_ns))
        return made


class _Ids(IdGenerator):
    """Gives out what it was told last."""

    trace_id = span_id = 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class _Ended(SpanProcessor):
    """Keeps spans that ended."""

    spans: list[ReadableSpan]

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def _known(context: str) -> SpanContext:
    return SpanContext(
        int(trace_id_of(context), 16),
        int(span_id_of(context), 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )

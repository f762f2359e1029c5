"""Spans reach their file with the ids that they had, and never hold anybody up."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from features.trace import Span, context_of, span_id_of, trace_id_of
from riskbeat.settings_load import SettingInvalid, SettingMissing, load_settings
from riskbeat.tracer_otel import (
    BATCH_MAX_SPANS,
    QUEUE_MAX_SPANS,
    OtelTracer,
    exporter_of,
    open_tracer,
)
from riskbeat.tracing import open_tracer as open_by_settings

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = context_of(TRACE_ID, "00f067aa0ba902b7")
OTHER = context_of("a" * 32, "b" * 16)
WAIT_S = 30.0


def a_span(tracer: OtelTracer, **changes: Any) -> Span:
    told: dict[str, Any] = {"name": "s", "began_ns": 5, "ended_ns": 9, "parent": PARENT} | changes
    return Span(context=tracer.child_of(told["parent"]), **told)


class Gate(SpanExporter):
    """Takes spans when it is opened; until then whoever brings them stands before it."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.entered, self.opened = threading.Event(), threading.Event()
        self.batches: list[int] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.opened.wait(WAIT_S)
        self.batches.append(len(spans))
        return self.result

    def shutdown(self) -> None:
        pass


def test_a_file_holds_one_line_for_each_span(tmp_path: Path) -> None:
    path = tmp_path / "new" / "spans.jsonl"
    tracer = open_tracer(0.5, str(path), "riskbeat-test")
    child = a_span(tracer, links=[OTHER], facts={"rows": 3}, ended_ns=2)  # clocks differ
    root = a_span(tracer, name="root", parent="")
    tracer.take(child)
    tracer.take(root)
    tracer.close()
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["context"]["trace_id"] == f"0x{TRACE_ID}"
    assert first["context"]["span_id"] == f"0x{span_id_of(child.context)}"
    assert first["parent_id"] == "0x00f067aa0ba902b7"
    assert [one["context"]["trace_id"] for one in first["links"]] == [f"0x{'a' * 32}"]
    assert first["attributes"] == {"rows": 3}
    assert first["start_time"] == first["end_time"]
    assert first["resource"]["attributes"]["service.name"] == "riskbeat-test"
    assert second["parent_id"] is None
    assert second["context"]["trace_id"] == f"0x{trace_id_of(root.context)}"


def test_a_caller_decides_and_chance_decides_for_who_says_nothing(tmp_path: Path) -> None:
    tracer = open_tracer(0.0, str(tmp_path / "spans"), "riskbeat-test")
    asked = tracer.begin((("traceparent", PARENT.encode()), ("tracestate", b"a=1")))
    assert asked is not None
    assert (asked.trace_id, asked.parent) == (TRACE_ID, PARENT)
    assert asked.headers == (("traceparent", asked.context.encode()), ("tracestate", b"a=1"))
    assert tracer.begin((("traceparent", PARENT[:-2].encode() + b"00"),)) is None
    assert tracer.begin(()) is None
    drawn = tracer.begin((), OTHER)
    assert drawn is not None
    assert (drawn.trace_id, drawn.parent) == ("a" * 32, OTHER)
    tracer.share = 1.0
    by_chance = tracer.begin(())
    assert by_chance is not None
    assert by_chance.parent == ""
    tracer.close()


def test_a_full_queue_drops_and_counts_and_nobody_waits() -> None:
    gate, counted, done = Gate(), Counter[str](), threading.Event()
    tracer = OtelTracer(1.0, gate, Resource({}))

    def count(outcome: str, spans: int) -> None:
        counted[outcome] += spans
        if counted.total() == 1 + QUEUE_MAX_SPANS + 7:
            done.set()

    tracer.tell(count)
    tracer.take(a_span(tracer))
    assert gate.entered.wait(WAIT_S)  # the thread stands before the gate now
    for _ in range(QUEUE_MAX_SPANS + 7):
        tracer.take(a_span(tracer))
    gate.opened.set()
    assert done.wait(WAIT_S)  # `close` waits for so long only
    tracer.close()
    assert counted == {"exported": 1 + QUEUE_MAX_SPANS, "dropped": 7}
    assert max(gate.batches) == BATCH_MAX_SPANS


@pytest.mark.parametrize("raises", [False, True])
def test_what_nobody_takes_is_counted_and_the_thread_lives(raises: bool) -> None:
    gate, counted = Gate(SpanExportResult.FAILURE), Counter[str]()
    gate.opened.set()
    tracer = OtelTracer(1.0, gate, Resource({}))
    heard = threading.Event()

    def count(outcome: str, spans: int) -> None:
        counted[outcome] += spans
        heard.set()

    tracer.tell(count)
    broken = a_span(tracer, began_ns="never") if raises else a_span(tracer)
    tracer.take(broken)
    assert heard.wait(WAIT_S)
    gate.result = SpanExportResult.SUCCESS
    tracer.take(a_span(tracer))
    tracer.close()
    assert counted == {"failed": 1, "exported": 1}


def test_a_collector_that_is_not_there_costs_spans_and_nothing_else() -> None:
    tracer = OtelTracer(1.0, exporter_of("http://127.0.0.1:9"), Resource({}))
    counted = Counter[str]()
    tracer.tell(lambda outcome, spans: counted.update({outcome: spans}))
    tracer.take(a_span(tracer))
    tracer.close()
    assert counted["exported"] == 0


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://collector/otlp/v1/traces", "https://collector/otlp/v1/traces"),
    ],
)
def test_a_collector_without_a_path_is_asked_at_the_usual_one(given: str, endpoint: str) -> None:
    assert vars(exporter_of(given))["_endpoint"] == endpoint


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RISKBEAT_REDIS_URL", "redis://127.0.0.1:1")
    return monkeypatch


def test_a_sample_needs_somewhere_to_go(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RISKBEAT_TRACE_SAMPLE", "0.01")
    with pytest.raises(SettingMissing, match=r"^RISKBEAT_TRACE_EXPORTER: not set"):
        load_settings()
    environment.setenv("RISKBEAT_TRACE_EXPORTER", "/proc/no/such/file")
    with pytest.raises(SettingInvalid, match=r"^RISKBEAT_TRACE_EXPORTER: "):
        open_by_settings(load_settings(), "serve")


def test_nothing_is_opened_where_nothing_is_traced(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RISKBEAT_TRACE_EXPORTER", "/proc/no/such/file")
    assert open_by_settings(load_settings(), "serve") is None


def test_untraced_processes_import_no_tracing_library() -> None:
    # the Redis client imports OpenTelemetry's metrics where they are installed; spans are ours
    asked = (
        "import sys, riskbeat.serve, riskbeat.featurize, riskbeat.learn\n"
        "ours = ('riskbeat.tracer_otel', 'opentelemetry.sdk.trace', 'opentelemetry.exporter')\n"
        "sys.exit(' '.join(name for name in sys.modules if name.startswith(ours)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""settings → the tracer of a process, or none: then no tracing library is even imported."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from features.trace import Tracer
from features.trace_metrics import TraceMetrics
from riskbeat.settings import Settings
from riskbeat.settings_load import SettingInvalid


def open_tracer(settings: Settings, process: str, registry: Any = None) -> Tracer | None:
    """Return what takes the spans of this process; None when nothing is traced.

    Args:
        settings: Of the process.
        process: What spans call it.
        registry: Of the metrics among which spans are counted; None: somebody else counts them.

    Raises:
        SettingInvalid: Spans cannot go where they should.
    """
    if not settings.trace_sample or settings.trace_exporter is None:
        return None
    door: Any = importlib.import_module("riskbeat.tracer_otel")
    try:
        tracer: Tracer = door.open_tracer(
            settings.trace_sample, settings.trace_exporter, f"riskbeat-{process}"
        )
    except (OSError, ValueError) as error:
        raise SettingInvalid("RISKBEAT_TRACE_EXPORTER", str(error)) from error
    if registry is not None:
        tracer.tell(TraceMetrics(registry).count)
    return tracer


@contextmanager
def tracing(settings: Settings, process: str, registry: Any = None) -> Iterator[Tracer | None]:
    """Hold a tracer while a process runs; see `open_tracer`."""
    tracer = open_tracer(settings, process, registry)
    try:
        yield tracer
    finally:
        if tracer is not None:
            tracer.close()

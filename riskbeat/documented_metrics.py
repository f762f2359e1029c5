"""registries → `docs/metrics.md`: what every process exports, with its type, labels and meaning.

`docs/metrics.md` is made from this file (`riskbeat metrics --markdown`); a test keeps them equal,
and a live one holds the page against what running processes answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from api.metrics import ServeMetrics
from api.rollout_metrics import RolloutMetrics
from features.trace_metrics import TraceMetrics
from pipeline.guard_metrics import PSI_TOP, GuardMetrics
from pipeline.held_metrics import HeldMetrics
from pipeline.judged_metrics import JudgeMetrics
from pipeline.learn_metrics import LearnMetrics
from pipeline.metrics import FeaturizeMetrics
from riskbeat.metric_labels import CLOSED, NAMED_ELSEWHERE
from riskbeat.room_metrics import DiskMetrics, StoreMetrics

PROCESSES = ("featurize", "learn", "serve")
WHERE = {
    "featurize": "`riskbeat featurize`, on `RISKBEAT_METRICS_PORT`; so does `riskbeat rebuild`.",
    "learn": "`riskbeat learn`, on `RISKBEAT_METRICS_PORT`.",
    "serve": "`riskbeat serve`, on its HTTP port; without that door on `RISKBEAT_METRICS_PORT`.",
}
HEAD = f"""\
# Metrics

Each process answers `GET /metrics` in Prometheus' text format. This page is made by
`riskbeat metrics --markdown`, and held against running processes by a test.

The unit is the end of the name (before `_total`): seconds, bytes, records; `_timestamp_seconds`
are since 1970. A histogram `x` has the series `x_bucket`, `x_count` and `x_sum`. Beside counters
and histograms of a process that is alone on its port stand gauges `…_created`: when they began.

**Several processes on one port** (`RISKBEAT_HTTP_WORKERS`): any of them answers for all. Counts and
histograms are sums; a gauge has one series for each worker, with its name as the label `pid`.

A label has the values that stand behind it, or those that the named file closes. None holds an id.
`riskbeat_trace_spans_total` is there where traces are on, and
of `riskbeat_feature_psi` the {PSI_TOP} features are shown that moved most.

Alerts on these stand in `deploy/prometheus/alerts.yml`; each has a page in `docs/runbooks`.

"""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a process.

    Attributes:
        name: As a query has it: of a counter with `_total`, of a histogram without its endings.
        kind: `counter`, `gauge` or `histogram`.
        labels: In order, without `pid`.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{end}" for end in ("bucket", "count", "sum"))


def documented(process: str) -> list[Metric]:
    """Return all metrics of a process, by name."""
    registry = _registry_of(process)
    TraceMetrics(registry)
    return sorted(
        (_metric_of(collector) for collector in registry._collector_to_names),
        key=lambda metric: metric.name,
    )


def metrics_page() -> str:
    """Return `docs/metrics.md`: one table per process."""
    lines = [HEAD]
    for process in PROCESSES:
        lines += [f"## {process}", "", WHERE[process], ""]
        lines += ["| name | type | labels | meaning |", "|---|---|---|---|"]
        for metric in documented(process):
            labels = "; ".join(_said_of(metric.name, label) for label in metric.labels)
            lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _said_of(name: str, label: str) -> str:
    values: Sequence[str] | None = CLOSED.get((name, label))
    if values is None:
        return f"`{label}`: {NAMED_ELSEWHERE[name, label]}"
    return f"`{label}`: " + ", ".join(f"`{value}`" for value in values)


def _registry_of(process: str) -> CollectorRegistry:
    if process == "featurize":
        return FeaturizeMetrics().registry
    if process == "learn":
        registry = LearnMetrics(float).registry
        for part in (GuardMetrics, JudgeMetrics, HeldMetrics, DiskMetrics, StoreMetrics):
            part(registry)
        return registry
    registry = ServeMetrics().registry
    RolloutMetrics(registry)
    DiskMetrics(registry)
    return registry


def _metric_of(collector: Collector) -> Metric:
    (family,) = collector.collect()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = tuple(getattr(collector, "_labelnames", ()))
    return Metric(name, family.type, labels, family.documentation)

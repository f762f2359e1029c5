"""What operators read of metrics is what the processes' registries hold."""

import re
from pathlib import Path

import pytest

from riskbeat.documented_metrics import PROCESSES, Metric, documented, metrics_page
from riskbeat.metric_labels import CLOSED, NAMED_ELSEWHERE

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
METRICS = [(process, metric) for process in PROCESSES for metric in documented(process)]
# https://prometheus.io/docs/practices/naming: one unit, the base one, in the plural.
FOREIGN = re.compile(
    r"_(ms|us|ns|milliseconds|minutes|hours|days_ago|kb|mb|gb|kib|mib|percent)(_|$)"
)


def named(value: str | Metric) -> str:
    return value if isinstance(value, str) else value.name


def test_the_page_is_made_from_the_registries() -> None:
    assert PAGE.read_text() == metrics_page(), "riskbeat metrics --markdown > docs/metrics.md"


@pytest.mark.parametrize("process, metric", METRICS, ids=named)
def test_a_name_keeps_the_rules(process: str, metric: Metric) -> None:
    assert re.fullmatch(r"riskbeat_[a-z]+(_[a-z]+)*", metric.name)
    assert not FOREIGN.search(metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert metric.meaning.endswith(".")


@pytest.mark.parametrize("process, metric", METRICS, ids=named)
def test_every_label_is_closed_by_somebody(process: str, metric: Metric) -> None:
    for label in metric.labels:
        assert ((metric.name, label) in CLOSED) != ((metric.name, label) in NAMED_ELSEWHERE)
        assert not label.endswith("id")


def test_no_set_stands_for_a_metric_that_is_gone() -> None:
    known = {(metric.name, label) for _, metric in METRICS for label in metric.labels}
    assert CLOSED.keys() | NAMED_ELSEWHERE.keys() == known


def test_what_has_one_name_in_two_processes_means_one_thing() -> None:
    by_name: dict[str, tuple[str, tuple[str, ...]]] = {}
    for _, metric in METRICS:
        assert by_name.setdefault(metric.name, (metric.kind, metric.labels)) == (
            metric.kind,
            metric.labels,
        )

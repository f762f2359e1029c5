"""A real Prometheus over a running stack has an answer to every question of every dashboard."""

import json
import math
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from riskbeat.dashboards import DASHBOARDS, encode_dashboard
from riskbeat.stack import LocalStack
from tests.live.prometheus import Prometheus, a_prometheus
from tests.live.servers import Unavailable
from tests.watched import EVENTS, PATIENT, READY_S, feed

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

ANSWERED_S = 120
UNKNOWN = {  # a query whose answer may be no number here, and why
    "riskbeat_feature_psi": "no whole event day has passed",
}


@pytest.fixture
async def stack() -> AsyncIterator[LocalStack]:
    async with LocalStack(environment=PATIENT) as running:
        await running.wait_ready(READY_S)
        yield running


@pytest.fixture
def prometheus(stack: LocalStack, tmp_path: Path) -> Iterator[Prometheus]:
    """Scrapes the stack under the job names of deploy/prometheus, with its alerts."""
    targets = {name: [url.split("/")[2]] for name, url in stack.metrics_urls.items()}
    try:
        with a_prometheus(tmp_path, targets, interval_s=1.0) as running:
            yield running
    except Unavailable as reason:
        pytest.skip(str(reason))


async def test_every_panel_shows_something(stack: LocalStack, prometheus: Prometheus) -> None:
    queries = {
        target["expr"]: panel["title"]
        for dashboard in DASHBOARDS
        for panel in json.loads(encode_dashboard(dashboard))["panels"]
        for target in panel["targets"]
    }
    await feed(stack)
    deadline = time.monotonic() + ANSWERED_S
    began, silent = EVENTS, dict(queries)
    while silent and time.monotonic() < deadline:
        await feed(stack, began)  # rates need what happens between two scrapes
        began += EVENTS
        for query in list(silent):
            values = [float(one["value"][1]) for one in prometheus.ask(query)]
            excused = any(name in query for name in UNKNOWN)
            if values and (excused or any(map(math.isfinite, values))):
                del silent[query]
    assert not silent, silent
    up = {one["metric"]["job"] for one in prometheus.ask("up == 1")}
    assert up == set(stack.metrics_urls)
    assert not prometheus.broken_rules()
    assert "RiskbeatDown" not in prometheus.firing()

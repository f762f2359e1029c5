"""What running processes export is what docs/metrics.md says, and nothing else."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from riskbeat.documented_metrics import PROCESSES, documented
from riskbeat.metric_labels import CLOSED
from riskbeat.stack import LocalStack
from tests.watched import PATIENT, READY_S, feed, page_of, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

TRACED = {"riskbeat_trace_spans_total"}  # only where traces are on
NEEDED = {  # what this traffic must have moved: a metric that nobody sets is none
    "featurize": (
        *("riskbeat_events_total", "riskbeat_rejects_total", "riskbeat_cache_bytes"),
        "riskbeat_event_freshness_seconds_count",
    ),
    "learn": (
        *("riskbeat_labels_total", "riskbeat_learn_rejects_total", "riskbeat_join_bytes"),
        *("riskbeat_join_rows", "riskbeat_join_max_bytes", "riskbeat_weights_version"),
        *("riskbeat_redis_memory_bytes", "riskbeat_redis_memory_max_bytes"),
        *("riskbeat_data_free_bytes", "riskbeat_data_size_bytes"),
        "riskbeat_judgement",
    ),
    "serve": (
        *("riskbeat_decisions_total", "riskbeat_score_count", "riskbeat_score_sum"),
        *("riskbeat_label_serving_seconds_count", "riskbeat_weights_created_timestamp_seconds"),
        *("riskbeat_index_as_of_timestamp_seconds", "riskbeat_spool_max_bytes"),
        *("riskbeat_stream_rejected_events_total", "riskbeat_repeated_requests_total"),
        *("riskbeat_weights_scorers", "riskbeat_data_free_bytes", "riskbeat_policy_version"),
    ),
}


async def check_page(stack: LocalStack, process: str, *, shared: bool = False) -> None:
    known = {metric.name: metric for metric in documented(process)}
    found, moved = set(), set()
    for family in text_string_to_metric_families(await page_of(stack, process)):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.endswith("_created"):
            continue
        found.add(name)
        assert name in known, f"{process} exports {name}, which docs/metrics.md does not have"
        assert family.type == known[name].kind, name
        for sample in family.samples:
            if sample.value > 0:
                moved.add(sample.name)
            labels = sample.labels.keys() - {"le"} - ({"pid"} if shared else set())
            if not sample.name.endswith("_created"):
                assert labels == set(known[name].labels), sample
            for label, value in sample.labels.items():
                closed = CLOSED.get((name, label))
                assert closed is None or value in closed, sample
    assert moved >= set(NEEDED[process]), set(NEEDED[process]) - moved
    if not shared:  # workers that share a page leave out what has not happened yet
        assert found | TRACED == known.keys(), known.keys() - found


async def test_every_documented_metric_is_exported_and_no_other() -> None:
    async with LocalStack(environment=PATIENT) as stack:
        await stack.wait_ready(READY_S)
        await feed(stack)
        await until(stack, "serve", "riskbeat_index_as_of_timestamp_seconds", 1)
        await until(stack, "serve", "riskbeat_weights_scorers", 1)
        await until(stack, "learn", "riskbeat_judgement", 1)
        await asyncio.gather(*(check_page(stack, process) for process in PROCESSES))


async def test_workers_on_one_port_tell_version_and_age_each() -> None:
    environment = PATIENT | {"RISKBEAT_HTTP_WORKERS": "2"}
    async with LocalStack(environment=environment) as stack:
        await stack.wait_ready(READY_S)
        await feed(stack)
        await until(stack, "serve", "riskbeat_index_as_of_timestamp_seconds", 1)
        await until(stack, "serve", "riskbeat_weights_scorers", 2)
        await check_page(stack, "serve", shared=True)
        page = await page_of(stack, "serve")
        for name in ("riskbeat_weights_version", "riskbeat_weights_created_timestamp_seconds"):
            lines = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
            assert {line.split('pid="')[1].split('"')[0] for line in lines} == {"0", "1"}
            assert all(float(line.rsplit(" ", 1)[1]) > 0 for line in lines)

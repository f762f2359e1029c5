"""A worker says on its metrics page how it fares, and does not stand still in silence."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.featurizing import SETTLED_S, Stage, produce, staged, wait_until_opened
from tests.live.servers import Server, wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]


@pytest.fixture
async def stage(
    kafka_bootstrap: str, redis_server: Server, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with staged(
        kafka_bootstrap, redis_server.address, topic_prefix, "liveness:", tmp_path
    ) as made:
        yield made


def page_of(stage: Stage) -> dict[str, float]:
    """Read the newest worker's metrics page: name and labels → value."""
    port = re.findall(r"metrics\.served.*?\bport=(\d+)", stage.log.read_text())[-1]
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return {
        sample.name + "".join(f" {v}" for k, v in sorted(sample.labels.items()) if k != "le"): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_live_worker_tells_what_it_does(stage: Stage) -> None:
    with stage.running() as worker:
        await wait_until_opened(stage, worker)
        assert page_of(stage)["riskbeat_commits_total conflict"] == 0  # before the first fault
        await produce(stage, random.Random(8), 1_000, 0)
        await stage.settle(await stage.logs(), worker)
        await produce(stage, random.Random(9), 100, 0)  # of entities that are known by now
        await stage.settle(await stage.logs(), worker)

        def caught_up() -> bool:
            page = page_of(stage)
            return all(
                page.get(f"riskbeat_lag_records {step}") == 0 for step in ("route", "aggregate")
            )

        await asyncio.to_thread(wait_until, caught_up, "lag is told as none", SETTLED_S)
        page = page_of(stage)
    for name in (
        "riskbeat_events_total accepted",
        "riskbeat_events_total rejected",
        "riskbeat_rejects_total wrong_type",
        "riskbeat_label_updates_total accepted",
        "riskbeat_updates_total applied",
        "riskbeat_updates_total late",
        "riskbeat_updates_total duplicate",
        "riskbeat_commits_total ok",
        "riskbeat_states_written_total",
        "riskbeat_cache_lookups_total hit",
        "riskbeat_cache_lookups_total miss",
        "riskbeat_cache_states",
        "riskbeat_cache_bytes",
        "riskbeat_event_freshness_seconds_count",
        "riskbeat_featurize_seconds_count route",
        "riskbeat_featurize_seconds_count aggregate",
        "riskbeat_partitions_owned route",
        "riskbeat_partitions_owned aggregate",
    ):
        assert page.get(name, 0) > 0, (name, sorted(page))
    assert page["riskbeat_cache_evicted_total"] == 0


async def test_a_worker_that_stands_still_with_lag_ends_itself(
    stage: Stage, redis_server: Server
) -> None:
    assert redis_server.host is not None
    stage.env |= {"RISKBEAT_STALL_S": "4", "RISKBEAT_STORE_WAIT_S": "3600"}
    with stage.running() as worker:
        await wait_until_opened(stage, worker)
        redis_server.host.pause()
        try:
            await produce(stage, random.Random(10), 200, 0)
            assert await asyncio.to_thread(worker.wait, SETTLED_S) == 1
        finally:
            redis_server.host.resume()
    assert re.search(r"WorkerStalled.*records behind", stage.log.read_text())

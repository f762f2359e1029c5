"""Two feature specs side by side: the old one answers all the while the new one is filled, served
and made the only one."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml

from features.client_redis import connect_redis
from features.spec import Spec
from features.topics import Topics
from pipeline.topics_kafka import list_topics
from tests.fakes_featurize import expected_states
from tests.live.featurizing import Stage
from tests.live.running import (
    READY_TIMEOUT_S,
    UPDATES_PARTITIONS,
    Deployment,
    deployment,
    wait_until,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PAUSE_S = 0.05
CARDS = 7
SOME = 30
EARLIER = datetime.now(UTC) - timedelta(minutes=50)


class Traffic:
    """Payments, one after the other, to a door that may change; every answer is kept."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self._stop = threading.Event()
        self._next = 0

    def pay(self, url: str) -> dict[str, Any]:
        number, self._next = self._next, self._next + 1
        body = {
            "event_type": "card_payment",
            "event_id": f"pay_{number}",
            "event_time": (EARLIER + timedelta(seconds=number)).isoformat(),
            "entities": {
                "card": f"tok_{number % CARDS}",
                "merchant": f"m_{number % 3}",
                "device": f"d_{number % 5}",
                "ip": "203.0.113.9",
            },
            "amount": {"value": 100 * (number % 50 + 1), "currency": "EUR"},
        }
        answer = httpx.post(f"{url}/v1/decisions", json=body, timeout=30)
        self.answers.append((answer.status_code, answer.json()))
        return self.answers[-1][1]

    def _flow(self, url: str) -> None:
        while not self._stop.wait(PAUSE_S):
            self.pay(url)

    @contextmanager
    def flowing(self, url: str) -> Iterator[None]:
        self._stop.clear()
        thread = threading.Thread(target=self._flow, args=(url,))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def more_windows(folder: Path) -> Path:
    """Write a spec that asks more of a card than the shipped one does."""
    document = yaml.safe_load((ROOT / "features.yaml").read_text())
    document["entities"]["card"]["count"] = ["10m", "1h", "3h", "24h", "7d", "30d"]
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.fixture
def old(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    more = {"SPEC_PATH": str(ROOT / "features.yaml")}
    made = deployment(
        kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path / "old", more
    )
    with made.processes:
        made.start("featurize", "learn", "serve")
        wait_until(made.ready, "the old scorer is ready", READY_TIMEOUT_S)
        yield made


@pytest.fixture
def new(old: Deployment, redis_url: str, redis_prefix: str, tmp_path: Path) -> Iterator[Deployment]:
    more = {
        "SPEC_PATH": str(more_windows(tmp_path)),
        "SIGNING_KEY_PATH": old.env["RISKBEAT_SIGNING_KEY_PATH"],
        "PUBLIC_KEY_PATHS": old.env["RISKBEAT_PUBLIC_KEY_PATHS"],
        "LEARN_SENDS_LABELS": "false",
    }
    made = deployment(old.kafka, redis_url, old.topic_prefix, redis_prefix, tmp_path / "new", more)
    with made.processes:
        yield made


def ends_with(house: Deployment, *arguments: str) -> tuple[int, str]:
    """Run `riskbeat …` of a deployment to its end; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "riskbeat", *arguments],
        env={**os.environ, **house.env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def listed(house: Deployment) -> dict[int, dict[str, Any]]:
    rows = [json.loads(line) for line in house.run("store", "list", "--json").stdout.splitlines()]
    return {row["epoch"]: row for row in rows}


async def assert_states_are_recomputed(house: Deployment, redis_url: str, prefix: str) -> None:
    """The states of a deployment's spec equal the log, applied in one go by the brute force."""
    spec = Spec.load(Path(house.env["RISKBEAT_SPEC_PATH"]))
    client = connect_redis(redis_url)
    worker = house.processes.running["featurize"]
    stage = Stage(
        spec, house.kafka, Topics(house.topic_prefix), client, prefix, house.env, worker.log
    )
    try:
        logs = await stage.logs()
        await stage.settle(logs, worker.popen)
        expected = expected_states(spec, logs, stage.layout)
        assert expected
        assert await stage.states(list(expected)) == expected
    finally:
        await client.aclose()


async def test_a_new_spec_takes_over_without_a_worse_answer(
    old: Deployment, new: Deployment, redis_url: str, redis_prefix: str
) -> None:
    spec_of = {h.http_url: Spec.load(Path(h.env["RISKBEAT_SPEC_PATH"])) for h in (old, new)}
    before, after = spec_of[old.http_url].digest, spec_of[new.http_url].digest
    assert before != after
    traffic = Traffic()
    with traffic.flowing(old.http_url):
        wait_until(lambda: len(traffic.answers) > SOME, "some traffic", 60)
        for process, code in (("featurize", 1), ("serve", 3)):
            status, said = ends_with(new, process)
            assert status == code, said
            assert "riskbeat rebuild" in said
        new.run("rebuild")
        for process in ("featurize", "learn"):
            new.processes.start(process)
        new.processes.start("serve", "--no-stream")
        wait_until(new.ready, "the new scorer is ready", READY_TIMEOUT_S)
        so_far = len(traffic.answers)
        wait_until(lambda: len(traffic.answers) > so_far + SOME, "more traffic", 60)
        states = listed(old)
        assert [(row["spec"], row["state"]) for row in states.values()] == [
            (before, "alive"),
            (after, "alive"),
        ]
        status, said = ends_with(new, "store", "retire", before[:12])
        assert status == 2
        assert "was written" in said
    assert {code for code, _ in traffic.answers} == {200}
    assert [answer for _, answer in traffic.answers if answer["degraded"]] == []
    assert {answer["model"]["schema"] for _, answer in traffic.answers} == {before}

    old_answers = len(traffic.answers)
    for _ in range(SOME):
        traffic.pay(new.http_url)
    newest = [answer for _, answer in traffic.answers[old_answers:]]
    assert [answer for answer in newest if answer["degraded"]] == []
    assert {answer["model"]["schema"] for answer in newest} == {after}
    await assert_states_are_recomputed(new, redis_url, redis_prefix)
    await assert_states_are_recomputed(old, redis_url, redis_prefix)

    old.processes.stop()
    said = new.run("store", "retire", before[:12], "--force").stdout
    assert f"topic {old.topic_prefix}updates.v1 deleted" in said
    assert [row["spec"] for row in listed(new).values()] == [after]
    with redis.Redis.from_url(redis_url) as client:
        left = {key.decode() for key in client.scan_iter(f"{redis_prefix}0:*")}
        lines = list(client.scan_iter(f"{redis_prefix}{{weights.{before[:12]}}}:*"))
    assert left == {f"{redis_prefix}0:{{{p}}}:meta" for p in range(UPDATES_PARTITIONS)}
    assert lines == []
    topics = await list_topics({"bootstrap_servers": new.kafka})
    assert f"{old.topic_prefix}updates.v1" not in topics
    status, said = ends_with(old, "featurize")
    assert status == 1
    assert "riskbeat rebuild" in said
    assert traffic.pay(new.http_url)["degraded"] == []
    await assert_states_are_recomputed(new, redis_url, redis_prefix)

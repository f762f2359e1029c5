"""A log through a real broker: each record once, in order, whatever kills the sender."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from features.event import Event, Label, identity_of
from pipeline.generate import GenerateConfig, generate
from pipeline.generate_write import write_log
from pipeline.mapping import LogMapping, find_mapping
from pipeline.mapping_rows import ColumnMapping
from pipeline.replay_kafka import HEADER
from pipeline.replay_order import in_order, look_at
from pipeline.replay_rows import EVENT
from pipeline.replay_source import open_log
from tests.live.running import Deployment, deployment, wait_until

pytestmark = pytest.mark.live

EVENTS = 12_000
KILLS = 4
REPLAY_SECONDS = 12.0


@pytest.fixture
def stack(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Deployment:
    return deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "payments.parquet"
    write_log(path, generate(GenerateConfig(events=EVENTS, days=10)))
    return path


def expected(log: Path) -> tuple[list[bytes], list[bytes]]:
    source, mapping = open_log(log), ColumnMapping(LogMapping.load(find_mapping("generator")))
    items = pl.concat(p.items for p in in_order(source, mapping, look_at(source, mapping)))
    events = items.filter(pl.col("kind") == EVENT)["body"].to_list()
    return events, items.filter(pl.col("kind") != EVENT)["body"].to_list()


def numbers_in(records: list[Any]) -> list[int]:
    return [int(dict(r.headers)[HEADER].split(b":")[1]) for r in records]


def check_whole(stack: Deployment, log: Path) -> None:
    """Every item is in its topic once, ordered within its partition, keyed as producers key it."""
    events, labels = expected(log)
    for topic, bodies, kind in (("events.v1", events, Event), ("labels.v1", labels, Label)):
        records = stack.read(topic)
        assert sorted(r.value for r in records) == sorted(bodies)
        partitions: dict[int, list[Any]] = {}
        for record in records:
            partitions.setdefault(record.partition, []).append(record)
            value = msgspec.json.decode(record.value, type=kind)
            if isinstance(value, Event):
                assert record.key == f"default\x1fcard\x1f{value.entities['card']}".encode()
            else:
                assert record.key == identity_of(value).encode()
        for found in partitions.values():
            assert numbers_in(found) == sorted(set(numbers_in(found)))


def test_a_replay_sends_everything_once(stack: Deployment, log: Path) -> None:
    done = stack.run("replay", str(log), "--mapping", "generator", "--no-progress")
    assert done.stdout.startswith(f"{EVENTS:,} events")
    check_whole(stack, log)


def test_a_killed_replay_goes_on_and_sends_nothing_twice(stack: Deployment, log: Path) -> None:
    speed = 10 * 86_400 / REPLAY_SECONDS
    command = [sys.executable, "-m", "riskbeat", "replay", str(log), "--mapping", "generator"]
    command += ["--speed", f"{speed:g}", "--no-progress"]
    stack.run("topics")
    for kill in range(1, KILLS + 1):
        sender = subprocess.Popen(
            command, env={**os.environ, **stack.env}, stderr=subprocess.DEVNULL
        )
        goal = EVENTS * kill // (KILLS + 1)
        try:
            wait_until(lambda goal=goal: len(stack.read("events.v1")) >= goal, "sent enough", 60)
            assert sender.poll() is None, "the replay ended before it could be killed"
        finally:
            sender.send_signal(signal.SIGKILL)
            sender.wait()
    done = stack.run("replay", str(log), "--mapping", "generator", "--no-progress")
    assert "sent before" in done.stdout
    check_whole(stack, log)


def test_an_interrupted_replay_says_how_to_go_on(stack: Deployment, log: Path) -> None:
    command = [sys.executable, "-m", "riskbeat", "replay", str(log), "--mapping", "generator"]
    stack.run("topics")
    sender = subprocess.Popen(
        [*command, "--speed", "1000", "--no-progress"],
        env={**os.environ, **stack.env},
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: len(stack.read("events.v1")) > 0, "begun", 60)
    sender.send_signal(signal.SIGINT)
    _, words = sender.communicate(timeout=30)
    assert sender.returncode == 130
    assert b"goes on from there" in words
    stack.run("replay", str(log), "--mapping", "generator", "--no-progress")
    check_whole(stack, log)


def test_a_topic_is_replayed_into_another_deployment(
    stack: Deployment, log: Path, tmp_path: Path, redis_url: str, redis_prefix: str
) -> None:
    stack.run("replay", str(log), "--mapping", "generator", "--no-progress", "--limit", "500")
    prefix = stack.topic_prefix
    other = deployment(stack.kafka, redis_url, f"{prefix}b.", redis_prefix, tmp_path / "b")
    source = f"kafka:{prefix}events.v1,{prefix}labels.v1"
    other.run("replay", source, "--no-progress")
    for topic in ("events.v1", "labels.v1"):
        sent = sorted((r.key, r.value) for r in stack.read(topic))
        assert sorted((r.key, r.value) for r in other.read(topic)) == sent
    assert len(other.read("events.v1")) == 500


@pytest.mark.timeout(240)
def test_through_the_barrier_every_slice_is_decided_learned_and_answered_with(
    kafka_bootstrap: str,
    redis_url: str,
    topic_prefix: str,
    redis_prefix: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "payments.csv"
    write_log(path, generate(GenerateConfig(events=400, days=4, label_delay_scale=0.05)))
    stack = deployment(
        kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path,
        {"LEGIT_AFTER_S": "43200"},
    )  # fmt: skip
    with stack.processes:
        stack.start("featurize", "learn", "serve")
        wait_until(stack.ready, "serve is ready", 90)
        done = stack.run(
            "replay", str(path), "--mapping", "generator", "--no-progress", "--barrier", "1d"
        )
        assert done.stdout.startswith("400 events")
        decisions = [json.loads(r.value) for r in stack.read("decisions.v1")]
    assert len({d["event_id"] for d in decisions}) == 400
    by_day: dict[str, set[int]] = {}
    for decision in decisions:
        day = decision["event"]["event_time"][:10]
        by_day.setdefault(day, set()).add(decision["weights"]["version"])
    days = sorted(by_day)
    for before, after in pairwise(days):
        assert max(by_day[before]) < min(by_day[after])

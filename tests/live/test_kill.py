"""Processes are killed at random while a log flows; then the log is asked what should have been."""

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import redis

from features.event import parse_event, partition_of
from features.spec import Spec
from features.topics import Topics
from features.update import LabelTransition
from models.decision import DecisionRecord
from models.decision_codec import decode_record, decode_vector
from tests.live.running import (
    READY_TIMEOUT_S,
    UPDATES_PARTITIONS,
    Deployment,
    deployment,
    wait_until,
)
from tests.recompute import LogIndex

pytestmark = [pytest.mark.live, pytest.mark.apache, pytest.mark.long]

ROOT = Path(__file__).parents[2]
KILLS = 20
EVENTS = 4_000
SECONDS = 75
DAYS = 20
PAUSE_S = (1.0, 5.0)
SEED = 7
WHOLE_SHARE = 0.9  # a scorer that has just started may find the store slow
PROCESSES = ("featurize", "learn", "serve")


@pytest.fixture
def stack(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    running = deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path)
    with running.processes:
        running.start(*PROCESSES)
        wait_until(running.ready, "serve is ready", READY_TIMEOUT_S)
        yield running


def by_partition(records: list[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for record in records:
        found[record.partition].append(record)
    return found


def index_of(stack: Deployment, spec: Spec) -> LogIndex:
    index = LogIndex(spec, UPDATES_PARTITIONS)
    for partition, records in by_partition(stack.read("events.v1")).items():
        index.add_events(
            partition,
            [(r.offset, parse_event(r.value, spec.event_rules, r.timestamp)) for r in records],
        )
    transition = msgspec.json.Decoder(LabelTransition)
    for partition, records in by_partition(stack.read("label_updates.v1")).items():
        index.add_transitions(partition, [(r.offset, transition.decode(r.value)) for r in records])
    return index


def stored_states(url: str, prefix: str, keys: list[bytes], epoch: int = 0) -> dict[bytes, bytes]:
    with redis.Redis.from_url(url) as client:
        names = [
            f"{prefix}{epoch}:{{{partition_of(key, UPDATES_PARTITIONS)}}}:s:".encode() + key
            for key in keys
        ]
        return {k: v or b"" for k, v in zip(keys, client.mget(names), strict=True)}


def test_twenty_kills_lose_and_double_nothing(
    stack: Deployment, redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    log = tmp_path / "payments.parquet"
    stack.run(
        *("generate", str(log), "--events", str(EVENTS), "--days", str(DAYS)),
        *("--seed", str(SEED), "--fraud-rate", "0.03", "--no-progress"),
    )
    replay = stack.processes.start(
        *("replay", str(log), "--mapping", "generator", "--no-tail", "--no-progress"),
        *("--speed", str(DAYS * 86_400 / SECONDS)),
    )
    draw = random.Random(SEED)
    killed: Counter[str] = Counter()
    for _ in range(KILLS):
        time.sleep(draw.uniform(*PAUSE_S))  # the random instant is what is tested
        name = draw.choice(PROCESSES)
        victim = stack.processes.running[name].popen
        victim.kill()
        victim.wait()
        killed[name] += 1
        stack.processes.start(name)
    wait_until(lambda: replay.popen.poll() is not None, "the replay ends", 120)
    assert replay.popen.returncode == 0, replay.log.read_text()
    del stack.processes.running["replay"]

    spec = Spec.load(ROOT / "features.yaml")
    wait_until(lambda: decided(stack) >= EVENTS, "every event has its decision", 120)
    wait_until(lambda: quiet(stack, spec, redis_url, redis_prefix), "the states catch up", 120)
    index = index_of(stack, spec)
    assert len(index.events) == EVENTS, f"killed {killed}"

    keys = list(index.rows)
    stored = stored_states(redis_url, redis_prefix, keys)
    wrong = [key for key in keys if stored[key] != index.state(key)]
    assert wrong == [], f"killed {killed}: {len(wrong)} of {len(keys)} states differ"
    check_vectors(stack, index)
    check_versions(stack, spec)

    stack.run("rebuild")
    again = stored_states(redis_url, redis_prefix, keys, epoch=1)
    assert again == stored, "the same log into an empty store gives other bytes"


def decided(stack: Deployment) -> int:
    stack.processes.look()
    return len({json.loads(r.value)["event_id"] for r in stack.read("decisions.v1")})


def quiet(stack: Deployment, spec: Spec, redis_url: str, redis_prefix: str) -> bool:
    """Whether every record of both sources is in the states."""
    stack.processes.look()
    index = index_of(stack, spec)
    keys = list(index.rows)
    stored = stored_states(redis_url, redis_prefix, keys)
    return all(stored[key] == index.state(key) for key in keys)


def check_vectors(stack: Deployment, index: LogIndex) -> None:
    """Every decision's vector is its recomputation at the watermarks that it names."""
    records = [decode_record(r.value) for r in stack.read("decisions.v1")]
    whole = [record for record in records if "features" not in record.degraded]
    assert len(whole) > WHOLE_SHARE * len(records)
    different = [words for record in whole if (words := difference(index, record))]
    assert not different, f"{len(different)} of {len(records)}: {different[:3]}"


def difference(index: LogIndex, record: DecisionRecord) -> str:
    """Say how a decision's vector differs from its recomputation; empty if it does not."""
    again, scored = index.vector(record), decode_vector(record.vector)
    if np.array_equal(again, scored, equal_nan=True):
        return ""
    odd = ~((again == scored) | (np.isnan(again) & np.isnan(scored)))
    features = [
        f"{index.spec.feature_names[i]}: scored {scored[i]}, again {again[i]}"
        for i in np.flatnonzero(odd)
    ]
    marks = {p: (mark.e, mark.l) for p, mark in record.applied.items()}
    return (
        f"{record.event_id} of {record.event.entities} at {record.source.offset} in "
        f"{record.source.partition}, late {record.late_question}, applied {marks}, "
        f"overlay {record.overlay}: {features}"
    )


def check_versions(stack: Deployment, spec: Spec) -> None:
    """Versions are 1, 2, 3 …: none lost, and none with two contents."""
    hashes: dict[int, set[bytes]] = defaultdict(set)
    for record in stack.read(Topics("").weights(spec.digest)):
        hashes[int(record.key.decode().rpartition(":")[2])].add(record.value)
    newest = httpx.get(f"{stack.http_url}/v1/model", timeout=5).json()
    assert sorted(hashes) == list(range(1, max(hashes) + 1)), newest
    assert all(len(contents) == 1 for contents in hashes.values())

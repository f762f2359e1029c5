"""The offline commands on a real log: scored vectors are made again, a backfill reads topics."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.live.running import READY_TIMEOUT_S, Deployment, deployment, wait_until
from tests.live.test_path import decide, payment

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
PAYMENTS = 30


@pytest.fixture
def stack(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    running = deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path)
    with running.processes:
        running.start("featurize", "learn", "serve")
        wait_until(running.ready, "serve is ready", READY_TIMEOUT_S)
        yield running


def riskbeat(stack: Deployment, *arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "riskbeat"), *map(str, arguments)]
    env = stack.processes.env
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def test_what_was_scored_is_made_again_from_the_topics(stack: Deployment, tmp_path: Path) -> None:
    for number in range(PAYMENTS):
        entities = {"card": f"tok_{number % 3}", "merchant": f"m_{number % 2}"}
        assert decide(stack, payment(number, entities=entities))["degraded"] == []
    copy, out = tmp_path / "copy", tmp_path / "skew.json"
    done = riskbeat(stack, "skew", "--save", copy, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    online = json.loads(out.read_text())
    assert online["compared"] == PAYMENTS, online["left_out"]
    assert online["defective"] == 0
    again = ["--decisions", copy / "decisions.parquet", "--log", copy / "log.parquet"]
    assert riskbeat(stack, "skew", *again, "--out", out).returncode == 0
    assert json.loads(out.read_text()) == online

    vectors = tmp_path / "vectors.parquet"
    topics = f"kafka:{stack.processes.env['RISKBEAT_TOPIC_PREFIX']}events.v1"
    done = riskbeat(stack, "backfill", topics, "--out", vectors, "--no-progress")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = pl.read_parquet(vectors)["card.count_over_1h"]
    assert counts.to_list() == [n // 3 + 1 for n in range(PAYMENTS)]

"""The OpenAPI document against the process that serves it, by Schemathesis."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.topics import Topics
from pipeline.topics_kafka import TopicPlan, ensure_topics
from tests.live.stage import ROOT, on_stage
from tests.live.test_api import SECRET, riskbeat, settings

pytestmark = pytest.mark.live
HERE = Path(__file__).parent
EXAMPLES_MAX = 5  # of each operation; `load_tests.fuzz` sends a hundred thousand
RUN_TIMEOUT_S = 400
UNTOLD = "positive_data_acceptance"
"""A schema cannot say that a time lies too far ahead, or that 1.0 is no integer here."""


async def test_the_document_is_true(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    env = settings(kafka_bootstrap, redis_url, topic_prefix, redis_prefix)
    audit = TopicPlan(Topics(topic_prefix).audit, 1, 3_600_000)
    await ensure_topics({"bootstrap_servers": kafka_bootstrap}, [audit])
    scopes = [f"--scope={scope}" for scope in ("decide", "ingest", "label", "read", "admin")]
    made = riskbeat(env, "keys", "create", "tester", *scopes, "--tenant", "*", "--json")
    keyed = {"RISKBEAT_KEYS_SECRET": SECRET, "RISKBEAT_AUTH": "on"}
    places = (tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix)
    async with on_stage(*places, **keyed) as stage:
        await stage.publish(1)
        await stage.publish(2)
        document = f"{stage.http.base_url}/openapi.json"
        done = await asyncio.to_thread(_tested, document, made["token"])
    assert done.returncode == 0, done.stdout[-20_000:]


def _tested(document: str, token: str) -> subprocess.CompletedProcess[str]:
    schemathesis = [str(Path(sys.executable).with_name("schemathesis"))]
    return subprocess.run(
        [
            *schemathesis,
            *("--config-file", str(HERE / "schemathesis.toml")),
            *("run", document, "--exclude-checks", UNTOLD, "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", str(EXAMPLES_MAX), "--seed", "1", "--continue-on-failure"),
            *("--header", f"Authorization: Bearer {token}", "--no-color"),
        ],
        cwd=ROOT,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.live.schemathesis_hooks"},
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )

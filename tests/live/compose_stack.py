"""The stack in containers, as a Compose project of a test's own.

`RISKBEAT_CONTAINER_SETUP` may name a script that brings Docker up; without Docker the test skips.
"""

import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from riskbeat.ports import LOOPBACK, free_ports
from tests.live.servers import Unavailable, check_docker

ROOT = Path(__file__).parents[2]
UP_TIMEOUT_S = 1200.0
COMMAND_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Stack:
    """One Compose project of the test's own, on free loopback ports.

    Attributes:
        files: Compose files; none for the usual one.
        asking: What requests are made with: an authority, a key.
    """

    project: str
    environment: dict[str, str]
    http_url: str
    kafka: str
    redis_url: str
    files: tuple[str, ...] = ()
    asking: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        named = [part for name in self.files for part in ("-f", name)]
        return ["docker", "compose", *named, "-p", self.project]

    def compose(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run `docker compose …`; its failure fails the test with its words."""
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:] + self.last_words()
        return done.stdout

    def last_words(self) -> str:
        command = [*self.command, "logs", "--tail", "30"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return f"\n{done.stdout[-8000:]}"

    def up(self) -> None:
        self.compose("up", "--build", "--wait", timeout_s=UP_TIMEOUT_S)

    def decide(self, event_id: str, card: str, event_time: str) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.http_url}/v1/decisions",
            json={
                "event_type": "card_payment",
                "event_id": event_id,
                "event_time": event_time,
                "entities": {"card": card, "merchant": "m_7"},
                "amount": {"value": 12550, "currency": "EUR"},
            },
            timeout=10,
            **self.asking,
        )
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        assert body["degraded"] == [], body
        return body

    def report_fraud(self, event_id: str) -> None:
        answer = httpx.post(
            f"{self.http_url}/v1/labels",
            json={
                "event_type": "card_payment",
                "event_id": event_id,
                "label": "fraud",
                "source": "chargeback",
                "label_time": now(),
            },
            timeout=10,
            **self.asking,
        )
        assert answer.is_success, answer.text


@contextmanager
def a_stack(
    folder: Path,
    scheme: str = "http",
    files: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """A stack that is not up yet; at the end it is taken down with all it kept."""
    setup = os.environ.get("RISKBEAT_CONTAINER_SETUP")
    if setup:
        subprocess.run([setup], check=True, timeout=UP_TIMEOUT_S)
    try:
        check_docker()
    except Unavailable as reason:
        pytest.skip(str(reason))
    if subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode:
        pytest.skip("Docker answers, but has no Compose")
    http, kafka, redis, prometheus = free_ports(4)
    folder.chmod(0o755)
    stack = Stack(
        f"riskbeat-test-{uuid.uuid4().hex[:8]}",
        {
            "RISKBEAT_IMAGE": "riskbeat:compose-test",
            "RISKBEAT_PORT": str(http),
            "RISKBEAT_KAFKA_PORT": str(kafka),
            "RISKBEAT_REDIS_PORT": str(redis),
            "RISKBEAT_PROMETHEUS_PORT": str(prometheus),
            "RISKBEAT_LOGS": str(folder),
            "RISKBEAT_FEATURES_TIMEOUT_S": "5",  # the test's machine may be slow
            "RISKBEAT_DEADLINE_S": "20",
            "RISKBEAT_ACK_TIMEOUT_S": "10",
            **(environment or {}),
        },
        f"{scheme}://{LOOPBACK}:{http}",
        f"{LOOPBACK}:{kafka}",
        f"redis://{LOOPBACK}:{redis}/0",
        files,
    )
    try:
        yield stack
    finally:
        stack.compose("--profile", "replay", "down", "--volumes", "--remove-orphans")


def now() -> str:
    return datetime.now(UTC).isoformat()

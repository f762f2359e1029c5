"""The processes of a live test, run by the users' command; and what they left in the log."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from load_tests.processes import Processes
from riskbeat.ports import free_ports
from tests.live.servers import wait_until

LOOPBACK = "127.0.0.1"
ONE_SHOT_TIMEOUT_S = 120
READY_TIMEOUT_S = 240
READ_TIMEOUT_S = 60
PATIENT = {  # a test machine may be slow; what is degraded by slowness is tested elsewhere
    "FEATURES_TIMEOUT_S": "5",
    "DEADLINE_S": "20",
    "ACK_TIMEOUT_S": "10",
    "STREAM_FEATURES_TIMEOUT_S": "5",
}
PARTITIONS = 2
UPDATES_PARTITIONS = 4


@dataclass
class Deployment:
    """One deployment's environment, with a prefix of its own on shared servers."""

    env: dict[str, str]
    http_url: str
    processes: Processes
    kafka: str
    topic_prefix: str

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `riskbeat …` to its end; its failure fails the test with its words."""
        done = subprocess.run(
            [sys.executable, "-m", "riskbeat", *arguments],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=ONE_SHOT_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr or done.stdout
        return done

    def start(self, *names: str) -> None:
        """Make topics and keys, then start these processes."""
        self.run("topics")
        self.run("keys")
        for name in names:
            self.processes.start(name)

    def ready(self) -> bool:
        """Whether `serve` can answer a decision."""
        self.processes.look()
        try:
            return httpx.get(f"{self.http_url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def read(self, topic: str) -> list[Any]:
        """Return every record of a topic, as it stands now, ordered within partitions."""
        return asyncio.run(read_topic(self.kafka, f"{self.topic_prefix}{topic}"))

    def send(self, topic: str, *values: bytes) -> None:
        """Append records as they are, whatever they are."""
        asyncio.run(send_many(self.kafka, f"{self.topic_prefix}{topic}", values))


def deployment(
    kafka: str,
    redis_url: str,
    topic_prefix: str,
    redis_prefix: str,
    folder: Path,
    more: Mapping[str, str] | None = None,
) -> Deployment:
    """Return a deployment that has not started anything."""
    (port,) = free_ports(1)
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "REDIS_URL": redis_url,
        "TOPIC_PREFIX": topic_prefix,
        "REDIS_PREFIX": redis_prefix,
        "DATA_DIR": str(folder / "data"),
        "SIGNING_KEY_PATH": str(folder / "keys" / "signing.pem"),
        "PUBLIC_KEY_PATHS": f'["{folder / "keys" / "public.pem"}"]',
        "EVENTS_PARTITIONS": str(PARTITIONS),
        "DECISIONS_PARTITIONS": str(PARTITIONS),
        "LABELS_PARTITIONS": str(PARTITIONS),
        "UPDATES_PARTITIONS": str(UPDATES_PARTITIONS),
        "AUTH": "off",
        "HTTP_HOST": LOOPBACK,
        "HTTP_PORT": str(port),
        **PATIENT,
        **(more or {}),
    }
    env = {f"RISKBEAT_{name}": value for name, value in settings.items()}
    env["OMP_NUM_THREADS"] = "1"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    http_url = f"http://{LOOPBACK}:{port}"
    return Deployment(env, http_url, Processes(env, folder / "logs"), kafka, topic_prefix)


async def read_topic(kafka: str, topic: str) -> list[Any]:
    """Read a topic from its beginning to the ends that it has now."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        records: list[Any] = []
        async with asyncio.timeout(READ_TIMEOUT_S):
            ends = await consumer.end_offsets(list(consumer.assignment()))
            for partition, end in ends.items():
                while await consumer.position(partition) < end:
                    batch = await consumer.getmany(partition, timeout_ms=200, max_records=5_000)
                    records += batch.get(partition, [])
        return records
    finally:
        await consumer.stop()


async def send_many(kafka: str, topic: str, values: Sequence[bytes]) -> None:
    """Append records to partition 0 of a topic, in order."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=4_000_000)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


__all__ = ["Deployment", "deployment", "read_topic", "wait_until"]

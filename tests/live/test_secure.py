"""The secured stack in containers: it decides and learns, and opens to nobody who may not."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError
from redis.exceptions import NoPermissionError

from features.topics import Topics
from riskbeat.access import ROLES
from riskbeat.ports import LOOPBACK
from riskbeat.probe_kafka import KafkaSilent, probe_kafka
from tests.live.compose_stack import ROOT, UP_TIMEOUT_S, Stack, a_stack, now
from tests.live.servers import wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.compose,
    pytest.mark.long,
    pytest.mark.timeout(2400),
]

TOPICS = Topics()
WEIGHTS = f"{TOPICS.prefix}weights.v1."
FILES = ("docker-compose.yml", "docker-compose.secure.yml")
ANSWER_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 5.0
LEARNED_TIMEOUT_S = 180.0
EVENTS = 1_000
TARGETS = {"featurize", "learn", "serve"}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    riskbeat("secrets", "--out", str(folder))
    return folder


@pytest.fixture
def stack(tmp_path: Path, secrets: Path) -> Iterator[Stack]:
    logs = tmp_path / "logs"
    logs.mkdir()
    image = "redis:7" if without_tls("valkey/valkey:9") else "valkey/valkey:9"
    environment = {"RISKBEAT_SECRETS": str(secrets), "RISKBEAT_VALKEY_IMAGE": image}
    with a_stack(logs, "https", FILES, environment) as stack:
        stack.asking["verify"] = ssl.create_default_context(cafile=secrets / "public" / "ca.pem")
        yield stack


def test_the_secured_stack_works_and_opens_to_nobody_who_may_not(
    stack: Stack, secrets: Path, tmp_path: Path
) -> None:
    stack.compose("build", timeout_s=UP_TIMEOUT_S)
    scopes = ("decide", "label", "read")
    made = stack.compose(
        *("run", "--rm", "operate", "keys", "create", "shop", "--json"),
        *(part for scope in scopes for part in ("--scope", scope)),
    )
    stack.up()
    url = f"{stack.http_url}/v1/model"
    assert httpx.get(url, **stack.asking).status_code == 401
    token = json.loads(made.splitlines()[-1])["token"]
    stack.asking["headers"] = {"authorization": f"Bearer {token}"}
    assert httpx.get(url, **stack.asking).status_code == 200

    _a_log_is_replayed_decided_and_learned(stack, secrets, tmp_path / "logs" / "log.jsonl")
    _nobody_comes_without_tls(stack)
    asyncio.run(_each_may_in_kafka_what_it_needs(stack, secrets))
    _each_may_in_redis_what_it_needs(stack, secrets)
    wait_until(lambda: scraped(stack) == TARGETS, "everybody is scraped", ANSWER_TIMEOUT_S)
    _secrets_change_and_work_goes_on(stack, secrets)


def _a_log_is_replayed_decided_and_learned(stack: Stack, secrets: Path, log: Path) -> None:
    options = ["--events", str(EVENTS), "--days", "30", "--seed", "11", "--no-progress"]
    riskbeat("generate", str(log), *options)
    log.chmod(0o644)
    stack.compose("run", "--rm", "replay", "/logs/log.jsonl", "--mapping", "generator")
    wait_until(
        lambda: asyncio.run(records_in(stack, secrets, TOPICS.decisions)) >= EVENTS,
        "every event is decided",
        LEARNED_TIMEOUT_S,
    )
    learns(stack, "pay_a", "tok_a")


def learns(stack: Stack, event_id: str, card: str) -> None:
    """A decision is made, its label is reported, and a newer version answers."""
    before = stack.decide(event_id, card, now())["model"]["version"]
    stack.report_fraud(event_id)
    wait_until(
        lambda: version_of(stack) > before, "a version that learned it answers", LEARNED_TIMEOUT_S
    )


def version_of(stack: Stack) -> int:
    active = httpx.get(f"{stack.http_url}/v1/model", timeout=10, **stack.asking).json()["active"]
    return int(active["version"]) if active else 0


def _nobody_comes_without_tls(stack: Stack) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(stack.http_url.replace("https", "http") + "/healthz", timeout=10)
    with pytest.raises(redis.RedisError), redis.Redis.from_url(stack.redis_url) as client:
        client.ping()
    with pytest.raises(KafkaSilent):
        asyncio.run(probe_kafka({"bootstrap_servers": stack.kafka}, PROBE_TIMEOUT_S))


def kafka_of(stack: Stack, secrets: Path, role: str) -> dict[str, Any]:
    return {
        "bootstrap_servers": stack.kafka,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": role,
        "sasl_plain_password": (secrets / role / "kafka.password").read_text(),
        "ssl_context": ssl.create_default_context(cafile=secrets / "public" / "ca.pem"),
    }


async def records_in(stack: Stack, secrets: Path, topic: str) -> int:
    """How many records a topic got."""
    async with AIOKafkaConsumer(topic, **kafka_of(stack, secrets, "operate")) as consumer:
        return sum((await consumer.end_offsets(consumer.assignment())).values())


async def topics_of(stack: Stack, secrets: Path) -> set[str]:
    async with AIOKafkaConsumer(**kafka_of(stack, secrets, "operate")) as consumer:
        return set(await consumer.topics())


async def _each_may_in_kafka_what_it_needs(stack: Stack, secrets: Path) -> None:
    [weights] = [t for t in await topics_of(stack, secrets) if t.startswith(WEIGHTS)]
    ours = {weights, TOPICS.updates, TOPICS.events, TOPICS.decisions, TOPICS.labels, TOPICS.audit}
    ours |= {TOPICS.label_updates, TOPICS.dead}
    writes = {
        "featurize": {TOPICS.updates, TOPICS.dead},
        "learn": {weights, TOPICS.label_updates, TOPICS.audit, TOPICS.dead},
        "serve": {TOPICS.events, TOPICS.decisions, TOPICS.labels, TOPICS.audit, TOPICS.dead},
        "replay": {TOPICS.events, TOPICS.labels},
    }
    for role, may in writes.items():
        async with AIOKafkaProducer(**kafka_of(stack, secrets, role)) as producer:
            for topic in sorted(ours - may):
                with pytest.raises(TopicAuthorizationFailedError):
                    await producer.send_and_wait(topic, b"forged")
    wrong = kafka_of(stack, secrets, "serve") | {"sasl_plain_password": "guessed"}
    with pytest.raises(KafkaSilent):
        await probe_kafka(wrong, PROBE_TIMEOUT_S)


def redis_of(stack: Stack, secrets: Path, role: str, url: str = "") -> Any:
    port = stack.redis_url.rpartition(":")[2]
    login = (url or (secrets / role / "redis.url").read_text()).rpartition("@")[0]
    ca = secrets / "public" / "ca.pem"
    return redis.Redis.from_url(f"{login}@{LOOPBACK}:{port}", ssl_ca_certs=str(ca))


def _each_may_in_redis_what_it_needs(stack: Stack, secrets: Path) -> None:
    state, version = "riskbeat:0:{1}:s:forged", "riskbeat:{weights.0123456789ab}:v:1"
    with redis_of(stack, secrets, "serve") as scorer:
        for key in (state, version):
            with pytest.raises(NoPermissionError):
                scorer.set(key, b"forged")
    with redis_of(stack, secrets, "featurize") as worker, pytest.raises(NoPermissionError):
        worker.set(version, b"forged")


def scraped(stack: Stack) -> set[str]:
    """Whom Prometheus reached at its last try."""
    port = stack.environment["RISKBEAT_PROMETHEUS_PORT"]
    asked = httpx.get(f"http://{LOOPBACK}:{port}/api/v1/query", params={"query": "up == 1"})
    return {row["metric"]["job"] for row in asked.json()["data"]["result"]}


def _secrets_change_and_work_goes_on(stack: Stack, secrets: Path) -> None:
    port = int(stack.environment["RISKBEAT_PORT"])
    since = started(stack)
    before = ssl.get_server_certificate((LOOPBACK, port))
    old = {role: (secrets / role / "redis.url").read_text() for role in ROLES}
    riskbeat("secrets", "--out", str(secrets), *("--renew", "certificates"))
    assert ssl.get_server_certificate((LOOPBACK, port)) != before
    for _ in range(2):  # after the second, what was there at first opens nothing
        riskbeat("secrets", "--out", str(secrets), *("--renew", "redis"))
        stack.compose("exec", "-T", "valkey", "sh", "/riskbeat/ask", "ACL", "LOAD")
    riskbeat("secrets", "--out", str(secrets), *("--renew", "kafka"))
    stack.compose("exec", "-T", "kafka", "bash", "/riskbeat/passwords")
    for role in ROLES:
        with redis_of(stack, secrets, role) as client:
            assert client.ping()
        with redis_of(stack, secrets, role, old[role]) as late, pytest.raises(redis.RedisError):
            late.ping()
    assert asyncio.run(records_in(stack, secrets, TOPICS.decisions)) >= EVENTS
    wait_until(lambda: whole(stack), "answers are whole again", ANSWER_TIMEOUT_S)
    learns(stack, "pay_after", "tok_a")
    assert started(stack) == since


def started(stack: Stack) -> list[str]:
    """When each container was started, and how often it was started again."""
    containers = stack.compose("ps", "--quiet").split()
    form = ["--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}"]
    command = ["docker", "inspect", *form, *containers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return sorted(done.stdout.splitlines())


def whole(stack: Stack) -> bool:
    ready = httpx.get(f"{stack.http_url}/readyz", timeout=10, **stack.asking)
    return ready.status_code == 200 and ready.json()["parts"]["features"] == "ok"


def riskbeat(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "riskbeat", *arguments], cwd=ROOT, check=True)


def without_tls(image: str) -> bool:
    """Whether a store's image was built without TLS."""
    command = ["docker", "run", "--rm", "--entrypoint", "valkey-server", image]
    asked = [*command, "--port", "0", "--tls-port", "6379"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    return "Failed finding TLS support" in done.stdout

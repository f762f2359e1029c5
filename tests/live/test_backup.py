"""A deployment that lost its store and its disk comes back from an archive and the log."""

import json
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from typer.testing import CliRunner

from features.spec import Spec
from riskbeat.__main__ import app
from tests.live.running import Deployment, deployment
from tests.live.servers import wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
SECRET = "a secret of thirty-two characters, or more"
EARLIER = datetime.now(UTC) - timedelta(minutes=50)
PAYMENTS = 12
PATIENCE_S = 400


class Shop:
    """A caller with a key."""

    def __init__(self, house: Deployment, token: str) -> None:
        self.house = house
        self.headers = {"authorization": f"Bearer {token}"}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = httpx.post(
            f"{self.house.http_url}{path}", json=body, headers=self.headers, timeout=PATIENCE_S
        )
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def trade(self, first: int, last: int) -> None:
        """Pay, and label every third payment."""
        for number in range(first, last):
            self.post("/v1/decisions", payment(number))
        for number in range(first, last, 3):
            label = {
                "event_type": "card_payment",
                "event_id": f"pay_{number}",
                "label": "fraud" if number % 2 else "legit",
                "source": "chargeback",
                "label_time": (EARLIER + timedelta(minutes=20)).isoformat(),
            }
            self.post("/v1/labels", label)

    def ask(self) -> dict[str, Any]:
        """Try one payment; return what is said of it, without ages and durations."""
        said = self.post("/v1/decisions:dry-run", payment(1_000, card=1))
        assert said["degraded"] == []
        del said["model"]["age_ms"], said["timings_ms"], said["features"]["staleness_ms"]
        del said["features"]["as_of"]
        return said


def payment(number: int, card: int | None = None) -> dict[str, Any]:
    return {
        "event_type": "card_payment",
        "event_id": f"pay_{number}",
        "event_time": (EARLIER + timedelta(seconds=min(number, 1_000))).isoformat(),
        "entities": {
            "card": f"tok_{number % 5 if card is None else card}",
            "merchant": f"m_{number % 3}",
            "device": f"d_{number % 4}",
            "ip": "203.0.113.9",
        },
        "amount": {"value": 100 * (number % 50 + 1), "currency": "EUR"},
    }


@pytest.fixture
def house(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    more = {
        "SPEC_PATH": str(ROOT / "features.yaml"),
        "POLICY_PATH": str(ROOT / "policy.yaml"),
        "KEYS_SECRET": SECRET,
        "AUTH": "on",
        "KAFKA_SESSION_TIMEOUT_S": "60",  # nobody is declared dead for a slow machine
    }
    made = deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path, more)
    with made.processes:
        yield made


def run(house: Deployment, *words: str, code: int = 0) -> str:
    told = CliRunner().invoke(app, words, env=house.env)
    assert told.exit_code == code, (told.output, told.exception)
    return told.output


def listed(house: Deployment) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(house, "model", "list", "--json"))
    return found


def settled(house: Deployment, labels: int) -> int:
    """Wait until a version holds every label and is the last one owed; return its number."""
    seen = [0, -1]

    def quiet() -> bool:
        house.processes.look()
        found = listed(house)
        seen[:] = [found["latest"], seen[0]]
        rows = found["versions"]
        return bool(rows) and rows[0]["labels_learned"] >= labels and seen[0] == seen[1]

    wait_until(quiet, f"{labels} labels are learned", PATIENCE_S)
    return seen[0]


def stop(house: Deployment, name: str) -> None:
    popen = house.processes.running.pop(name).popen
    popen.send_signal(signal.SIGTERM)
    assert popen.wait(PATIENCE_S) == 0


def lose(house: Deployment, redis_url: str, prefix: str, folder: Path) -> None:
    """Take all keys out of the store, and the data directory and key pair from the disk."""
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{prefix}*", count=1000):
            client.unlink(key)
    shutil.rmtree(folder / "data")
    shutil.rmtree(folder / "keys")


def test_a_deployment_without_store_and_disk_comes_back_and_goes_on(
    house: Deployment, redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    run(house, "topics")
    run(house, "keys")
    scopes = ("--scope", "decide", "--scope", "label")
    shop = Shop(house, json.loads(run(house, "keys", "create", "shop", *scopes, "--json"))["token"])
    for name in ("featurize", "learn", "serve"):
        house.processes.start(name)
    wait_until(house.ready, "the scorer is ready", PATIENCE_S)
    shop.trade(0, PAYMENTS)
    pinned = settled(house, PAYMENTS // 3)
    run(house, "policy", "list", "add", "watch", "card", "tok_1", "--why", "a drill")
    run(house, "model", "pin", str(pinned), "--why", "a drill")
    archive = str(tmp_path / "kept.tar")
    assert "stop it first" in run(house, "backup", "--out", archive, code=2)
    stop(house, "learn")
    assert "read back and verified" in run(house, "backup", "--out", archive)

    house.processes.start("learn")
    shop.trade(PAYMENTS, 2 * PAYMENTS)
    newest = settled(house, 2 * PAYMENTS // 3)
    assert newest > pinned
    before = shop.ask()
    assert before["model"]["version"] == pinned
    house.processes.stop()
    lose(house, redis_url, redis_prefix, tmp_path)

    assert "would put back" in run(house, "restore", archive, "--dry-run")
    assert not (tmp_path / "keys").exists()
    run(house, "restore", archive)
    assert "would be replaced: nothing was done" in run(house, "restore", archive, code=2)
    assert house.processes.start("rebuild").popen.wait(PATIENCE_S) == 0
    del house.processes.running["rebuild"]
    house.processes.start("learn", "--catch-up")
    for name in ("featurize", "serve"):
        house.processes.start(name)
    wait_until(house.ready, "the scorer is ready", PATIENCE_S)
    assert shop.ask() == before
    wait_until(lambda: listed(house)["latest"] == newest, "versions are given back", PATIENCE_S)
    assert (listed(house)["active"], listed(house)["pinned"]) == (pinned, True)

    shop.trade(2 * PAYMENTS, 3 * PAYMENTS)
    last = settled(house, PAYMENTS)
    house.processes.stop()
    assert listed(house)["versions"][0]["labels_learned"] == PAYMENTS  # each once
    weights = f"weights.v1.{Spec.load(ROOT / 'features.yaml').digest[:12]}"
    numbers = [int(record.key.rpartition(b":")[2]) for record in house.read(weights)]
    assert numbers == list(range(1, last + 1))
    verified = json.loads(run(house, "model", "verify", "--json").splitlines()[-1])
    assert verified == {"compared": last, "different": 0}

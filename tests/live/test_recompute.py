"""Past decisions follow from the log, bit for bit; what was changed is told, and who did what."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from features.event import Amount
from models.decision import DecisionRecord, decode_record, encode_record
from tests.live.running import READY_TIMEOUT_S, Deployment, deployment, wait_until

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
EARLIER = datetime.now(UTC) - timedelta(minutes=30)
PAYMENTS = 200
LABEL_EVERY = 10


@pytest.fixture
def stack(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    policy = tmp_path / "policy.yaml"
    text = (ROOT / "policy.yaml").read_text()
    policy.write_text(text.replace("approved_too: false", "approved_too: true"))
    more = {"POLICY_PATH": str(policy), "PUBLISH_INTERVAL_S": "0.2", "WEIGHTS_FULL_EVERY": "5"}
    running = deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path, more)
    with running.processes:
        running.start("featurize", "learn", "serve")
        wait_until(running.ready, "serve is ready", READY_TIMEOUT_S)
        yield running


def decide(stack: Deployment, number: int) -> dict[str, Any]:
    body = {
        "event_type": "card_payment",
        "event_id": f"pay_{number}",
        "event_time": (EARLIER + timedelta(seconds=number)).isoformat(),
        "entities": {"card": f"tok_{number % 7}", "merchant": f"m_{number % 3}"},
        "amount": {"value": 1000 + 37 * number, "currency": "EUR"},
    }
    answer = httpx.post(f"{stack.http_url}/v1/decisions", json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def tell(stack: Deployment, number: int) -> None:
    label = {
        "event_type": "card_payment",
        "event_id": f"pay_{number}",
        "label": "fraud" if number % 20 else "legit",
        "source": "chargeback",
        "label_time": datetime.now(UTC).isoformat(),
    }
    assert httpx.post(f"{stack.http_url}/v1/labels", json=label, timeout=10).status_code == 202


def run(stack: Deployment, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "riskbeat", *words],
        env={**os.environ, **stack.env},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_past_decisions_follow_from_the_log_and_a_changed_one_is_told(
    stack: Deployment, tmp_path: Path
) -> None:
    answers = []
    for number in range(PAYMENTS):
        answers.append(decide(stack, number))
        if number % LABEL_EVERY == 0:
            tell(stack, number)
    assert sum(bool(answer["reasons"]) for answer in answers) > PAYMENTS // 4
    assert all(reason["text"] for answer in answers for reason in answer["reasons"])
    assert len({answer["model"]["version"] for answer in answers}) >= 3
    code, out, err = run(stack, "recompute", "--last", str(PAYMENTS), "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert [one for one in found if one["differences"] or one["unknown"]] == [], err
    assert code == 0, err
    assert len(found) == PAYMENTS
    assert all(one["exact"] for one in found)

    code, out, err = run(stack, "recompute", answers[3]["decision_id"])
    assert (code, "1 bit for bit" in out) == (0, True), out + err

    records = {r.event_id: r for r in (decode_record(r.value) for r in stack.read("decisions.v1"))}
    honest = next(r for r in reversed(records.values()) if r.reasons)
    assert honest.weights is not None
    forged = {
        "logit": change(honest, score=msgspec.structs.replace(honest.score, logit=1.25)),
        "outcome": change(honest, outcome="decline"),
        "event.amount": change(
            honest, event=msgspec.structs.replace(honest.event, amount=Amount(1, "EUR"))
        ),
        "weights": change(honest, weights=msgspec.structs.replace(honest.weights, sha256="0" * 64)),
        "reason 1, contribution": change(
            honest,
            reasons=[
                msgspec.structs.replace(honest.reasons[0], contribution=9.0),
                *honest.reasons[1:],
            ],
        ),
    }
    for what, record in forged.items():
        path = tmp_path / "forged.jsonl"
        path.write_bytes(encode_record(record))
        code, out, err = run(stack, "recompute", "--all-of", str(path))
        assert code == 1, out + err
        assert what in out

    version = answers[-1]["model"]["version"]
    assert run(stack, "model", "pin", str(version), "--why", "a drill", "--by", "ann")[0] == 0
    assert run(stack, "model", "unpin", "--why", "it is over", "--by", "bob")[0] == 0
    code, out, err = run(stack, "audit", "--json")
    acts = [json.loads(line) for line in out.splitlines()]
    told = [(a["verb"], a["by"], a["why"], a["state"]) for a in acts]
    assert told == [("pin", "ann", "a drill", "done"), ("unpin", "bob", "it is over", "done")], err
    assert acts[0]["after"]["what"] == f"version {version}"
    assert "4 entries" in run(stack, "audit", "--verify")[1]
    assert "bob" not in run(stack, "audit", "--who", "ann", "--since", "1h")[1]


def change(record: DecisionRecord, **changes: Any) -> DecisionRecord:
    return msgspec.structs.replace(record, **changes)

"""The API on real servers: keys, decisions looked up, dry runs, trace context."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from features.topics import Topics
from models.signing import ensure_keys
from pipeline.topics_kafka import TopicPlan, ensure_topics
from tests.live.servers import Server, answering
from tests.live.stage import Stage, body_of, ends_well, on_stage, until

pytestmark = pytest.mark.live
SECRET = "a secret of the tests, long enough"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def riskbeat(stage_env: dict[str, str], *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "riskbeat", *arguments],
        env={**os.environ, **stage_env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


def settings(kafka: str, redis_url: str, topic_prefix: str, redis_prefix: str) -> dict[str, str]:
    return {
        "RISKBEAT_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "RISKBEAT_REDIS_URL": redis_url,
        "RISKBEAT_TOPIC_PREFIX": topic_prefix,
        "RISKBEAT_REDIS_PREFIX": redis_prefix,
        "RISKBEAT_KEYS_SECRET": SECRET,
        "RISKBEAT_AUTH": "on",
    }


async def looked_up(stage: Stage, decision_id: str) -> httpx.Response:
    async def found() -> httpx.Response | None:
        response = await stage.http.get(f"/v1/decisions/{decision_id}")
        return response if response.status_code == 200 else None

    answer: httpx.Response = await until(f"{decision_id} is in the index", found)
    return answer


async def test_what_was_answered_can_be_looked_up_after_the_index_was_killed_too(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    places = (tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix)
    async with on_stage(*places) as stage:
        await stage.publish(1)
        first = (await stage.decide("pay_1")).json()
        assert (await looked_up(stage, first["decision_id"])).json() == first
        await stage.decide("pay_1")  # a repeat is no other decision
        [index] = [
            child
            for child in psutil.Process(stage.process.pid).children()
            if "index" in child.cmdline()
        ]
        index.kill()
        second = (await stage.decide("pay_2")).json()
        assert (await looked_up(stage, second["decision_id"])).json() == second
        assert (await looked_up(stage, first["decision_id"])).json() == first

        async def unknown() -> bool:
            missing = await stage.http.get("/v1/decisions/dec_" + "0" * 32)
            return missing.status_code == 404

        await until("the index says that there is no such decision", unknown)
        await asyncio.to_thread(ends_well, stage)
    async with on_stage(*places) as stage:  # the index is where it was
        assert (await looked_up(stage, first["decision_id"])).json() == first


async def test_a_dry_run_leaves_nothing_behind(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    places = (tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix)
    async with on_stage(*places) as stage:
        for _ in range(3):
            tried = await stage.http.post("/v1/decisions:dry-run", json=body_of("pay_1"))
            assert (tried.status_code, tried.json()["status"]) == (200, "dry_run")
        real = (await stage.http.post("/v1/decisions", json=body_of("pay_1"))).json()
        assert real["status"] == "new"
        assert real["decision_id"] == tried.json()["decision_id"]
        [record] = await stage.records(1)
        assert (record.event_id, record.status, record.overlay) == ("pay_1", "new", [])
        assert len(await stage.read(stage.topics.events, 1)) == 1


async def test_a_trace_reaches_event_and_decision(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    places = (tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix)
    async with on_stage(*places) as stage:
        response = await stage.http.post(
            "/v1/decisions",
            json=body_of("pay_1"),
            headers={"traceparent": TRACE, "x-request-id": "mine"},
        )
        assert response.headers["x-request-id"] == "mine"
        for topic in (stage.topics.events, stage.topics.decisions):
            [(headers, _)] = await stage.read(topic, 1)
            assert headers["traceparent"] == TRACE.encode()


async def test_keys_open_while_they_are_valid_and_while_redis_is_away(
    tmp_path: Path, kafka_bootstrap: str, redis_server: Server, topic_prefix: str
) -> None:
    assert redis_server.host is not None
    env = settings(kafka_bootstrap, redis_server.address, topic_prefix, "t:")
    audit = TopicPlan(Topics(topic_prefix).audit, 1, 3_600_000)  # no key without its record
    await ensure_topics({"bootstrap_servers": kafka_bootstrap}, [audit])
    made = riskbeat(env, "keys", "create", "shop", "--scope", "decide", "--json")
    more = {"RISKBEAT_KEYS_SECRET": SECRET, "RISKBEAT_AUTH": "on", "RISKBEAT_KEYS_REFRESH_S": "0.2"}
    places = (tmp_path, kafka_bootstrap, redis_server.address, topic_prefix, "t:")
    async with on_stage(*places, **more) as stage:

        async def status(token: str, path: str = "/v1/decisions") -> int:
            response = await stage.http.post(
                path,
                json=body_of(f"pay_{os.urandom(4).hex()}"),
                headers={"authorization": f"Bearer {token}"} if token else {},
            )
            return response.status_code

        assert [await status(made["token"]), await status("")] == [200, 401]
        assert await status(made["token"], "/v1/events") == 403
        rotated = riskbeat(env, "keys", "rotate", "shop", "--overlap", "1h", "--json")

        async def both() -> bool:
            return {await status(one["token"]) for one in (made, rotated)} == {200}

        await until("the new key opens, and the old one still does", both)
        redis_server.host.pause()
        assert {await status(one["token"]) for one in (made, rotated)} == {200}
        redis_server.host.resume()
        await asyncio.to_thread(answering, redis_server)
        riskbeat(env, "keys", "revoke", made["id"])

        async def shut() -> bool:
            return [await status(made["token"]), await status(rotated["token"])] == [401, 200]

        await until("the revoked key opens no more", shut)


async def test_without_a_key_nothing_starts_that_asks_for_one(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    env = settings(kafka_bootstrap, redis_url, topic_prefix, redis_prefix)
    env |= {
        "RISKBEAT_DATA_DIR": str(tmp_path),
        "RISKBEAT_PUBLIC_KEY_PATHS": json.dumps([str(_public(tmp_path))]),
    }
    for change, said in (({}, "no API key is valid"), ({"RISKBEAT_KEYS_SECRET": ""}, "not set")):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "riskbeat", "serve"],
            env={**os.environ, **env, **change},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def _public(folder: Path) -> Path:
    ensure_keys(folder / "signing.pem", folder / "public.pem")
    return folder / "public.pem"

"""What an answer leans on fails, on real servers: answers are degraded and bounded, then whole.

The waits are the shipped ones but for the log's ack, so that a machine shared with others does not
spool what the log would have taken.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from features.client_redis import connect_redis
from tests.live.servers import Server
from tests.live.stage import Stage, body_of, on_stage, until

pytestmark = pytest.mark.live
QUICK = {
    "RISKBEAT_FEATURES_TIMEOUT_S": "0.025",
    "RISKBEAT_BREAKER_PAUSE_S": "0.2",
    "RISKBEAT_CLAIM_TTL_S": "30",
}
BOUND_S = 5.0
"""No wait of a degraded answer comes near it; a client would wait longer for a hung one."""


async def ask(stage: Stage, **changes: Any) -> dict[str, Any]:
    answer = await stage.http.post(
        "/v1/decisions", json=body_of(os.urandom(6).hex(), **changes), timeout=BOUND_S
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def whole(stage: Stage) -> bool:
    return bool((await ask(stage))["degraded"] == [])


async def counted(stage: Stage, line: str) -> bool:
    return any(
        found.startswith(line) and float(found.rpartition(" ")[2]) > 0
        for found in (await stage.http.get("/metrics")).text.splitlines()
    )


async def left_alone(stage: Stage, parts: list[str], stages: Mapping[str, str]) -> None:
    """Ask until the breakers are open; each answer on the way is degraded alike."""
    for name in stages:

        async def is_open(name: str = name) -> bool:
            found = await ask(stage)
            assert set(found["degraded"]) <= {"features", "idempotency"}
            line = f'riskbeat_breaker_open{{stage="{name}"}}'
            return found["degraded"] == parts and await counted(stage, line)

        await until(f"the breaker of {name} is open", is_open)
    for name, reason in stages.items():
        line = f'riskbeat_stage_failures_total{{reason="{reason}",stage="{name}"}}'
        assert await counted(stage, line), line


async def test_a_store_that_is_slow_full_failing_over_or_stopped_degrades_and_recovers(
    tmp_path: Path, kafka_bootstrap: str, redis_server: Server, topic_prefix: str
) -> None:
    assert redis_server.host is not None
    client = connect_redis(redis_server.address)
    prefixes = (topic_prefix, "t:")
    async with on_stage(
        tmp_path, kafka_bootstrap, redis_server.address, *prefixes, **QUICK
    ) as stage:
        await stage.publish(1)
        await until("nothing is degraded", lambda: whole(stage))

        redis_server.host.pause()  # slower than any wait
        both = {"features": "timeout", "claims": "unavailable"}
        await left_alone(stage, ["features", "idempotency"], both)
        dark = await ask(stage)
        assert (dark["outcome"], dark["score"]["risk_level"]) == ("review", "not_assessed")
        redis_server.host.resume()
        await until("it recovers from a slow store", lambda: whole(stage))

        await client.execute_command("CONFIG", "SET", "maxmemory", "1")
        await left_alone(stage, ["idempotency"], {"claims": "unavailable"})
        assert (await ask(stage))["model"]["version"] == 1  # reading goes on
        await client.execute_command("CONFIG", "SET", "maxmemory", "0")
        await until("it recovers from a full store", lambda: whole(stage))

        await client.execute_command("REPLICAOF", "127.0.0.1", "1")  # a primary that stepped down
        await left_alone(stage, ["idempotency"], {"claims": "unavailable"})
        await client.execute_command("REPLICAOF", "NO", "ONE")
        await until("it recovers from a failover", lambda: whole(stage))

        await client.aclose()
        redis_server.host.kill()
        both = {"features": "unavailable", "claims": "unavailable"}
        await left_alone(stage, ["features", "idempotency"], both)
        redis_server.host.start()
        await until("it recovers from a stopped store", lambda: whole(stage))


async def test_without_a_log_answers_are_spooled_up_to_the_bound_then_refused_and_none_is_lost(
    tmp_path: Path, kafka_broker: Server, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    if kafka_broker.host is None:
        pytest.skip("the broker is not ours to pause")
    prefixes = (topic_prefix, redis_prefix)
    more = {"RISKBEAT_ACK_TIMEOUT_S": "0.3", "RISKBEAT_SPOOL_MAX_BYTES": str(1 << 20)}
    padding = {"note": "x" * 60_000}  # few fill the spool
    async with on_stage(tmp_path, kafka_broker.address, redis_url, *prefixes, **more) as stage:
        assert (await stage.decide("before")).status_code == 200
        kept, refused = ["before"], ""
        kafka_broker.host.pause()
        try:
            for n in range(40):
                answer = await stage.decide(f"away_{n}", attributes=padding)
                if answer.status_code == 503:
                    refused = f"away_{n}"
                    assert answer.json()["type"] == "urn:riskbeat:problem:not_recorded"
                    assert "retry-after" in answer.headers
                    break
                assert answer.status_code == 200
                kept.append(f"away_{n}")
        finally:
            kafka_broker.host.resume()
        assert refused and len(kept) > 2

        async def again() -> bool:  # its claim was given back: it is new
            answer = await stage.decide(refused, attributes=padding)
            return answer.status_code == 200 and bool(answer.json()["status"] == "new")

        await until("what was refused is decided when it is sent again", again)
        names = {*kept, refused}

        async def all_there() -> bool:
            return names <= {record.event_id for record in await stage.records(len(names))}

        await until("every decision that was answered is in the log", all_there)

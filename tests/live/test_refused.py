"""Versions that a scorer must not take, put into a real registry: each is named, none answers."""

import dataclasses
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from features.client_redis import connect_redis
from models.registry import Activation
from models.signing import ensure_keys
from models.weights import Weights, encode
from tests.builders_weights import some_weights, with_arrays
from tests.live.stage import Stage, ends_well, on_stage, until

pytestmark = pytest.mark.live

LEARNED = 1_000_000


def a_version(stage: Stage, version: int, seed: int = 1) -> Weights:
    weights = some_weights(stage.spec.digest, stage.spec.n_features, version=version, seed=seed)
    return dataclasses.replace(weights, labels_learned=LEARNED)


async def refused(stage: Stage) -> dict[str, int]:
    page = (await stage.http.get("/metrics")).text
    found = re.findall(r'riskbeat_weights_refused_total\{gate="(\w+)"\} (\d+)', page)
    return {gate: int(count) for gate, count in found}


async def answers_with(stage: Stage, version: int) -> bool:
    answer = (await stage.decide(os.urandom(8).hex())).json()
    return bool(answer["model"] and answer["model"]["version"] == version)


def faulty(stage: Stage, folder: Path) -> dict[str, Callable[[int], bytes]]:
    """What is wrong → a version that is; the first word is the gate."""
    bias = "delayed.network.b0"
    stranger = ensure_keys(folder / "stranger.pem", folder / "stranger.pub")

    def corrupted(version: int) -> bytes:
        data = bytearray(encode(a_version(stage, version), stage.signer))
        data[len(data) // 2] ^= 1
        return bytes(data)

    def unsigned(version: int) -> bytes:
        return encode(a_version(stage, version), stage.signer)[:-64] + bytes(64)

    def not_finite(version: int) -> bytes:
        weights = a_version(stage, version)
        changed = {bias.replace(".", "__"): np.full_like(weights.arrays[bias], np.nan)}
        return encode(with_arrays(weights, **changed), stage.signer)

    def of_another_spec(version: int) -> bytes:
        other = dataclasses.replace(a_version(stage, version), schema_digest="e" * 64)
        return encode(other, stage.signer)

    def of_another_learner(version: int) -> bytes:
        weights = a_version(stage, version)
        probed = weights.arrays["probe.logit"] + np.float32(0.01)
        return encode(with_arrays(weights, probe__logit=probed), stage.signer)

    return {
        "step: wildly different": lambda v: encode(a_version(stage, v, seed=77), stage.signer),
        "signature: corrupted": corrupted,
        "signature: of a stranger": lambda v: encode(a_version(stage, v), stranger),
        "signature: unsigned": lambda v: (
            encode(a_version(stage, v), stage.signer)[:-64] + bytes(64)
        ),
        "content: not finite": not_finite,
        "content: an old one under a new number": lambda v: encode(
            a_version(stage, v - 1), stage.signer
        ),
        "digest: of another spec": of_another_spec,
        "golden: computed otherwise": of_another_learner,
    }


async def test_each_is_named_and_the_old_one_goes_on_answering(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with on_stage(tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix) as stage:
        await stage.registry.publish(1, encode(a_version(stage, 1), stage.signer))
        await until("version 1 answers", lambda: answers_with(stage, 1))
        counted: dict[str, int] = {}
        faults = faulty(stage, tmp_path)
        for version, (what, make) in enumerate(faults.items(), start=2):
            gate = what.partition(":")[0]
            counted[gate] = counted.get(gate, 0) + 1
            await stage.registry.publish(version, make(version))

            async def named(wanted: dict[str, int] = counted) -> bool:
                return await refused(stage) == wanted

            await until(what, named)
            assert await answers_with(stage, 1), what
            assert set((await stage.registry.active_versions()).values()) == {1}
        last = len(faults) + 2
        await stage.registry.publish(last, encode(a_version(stage, last), stage.signer))
        await until("a sound one heals", lambda: heals(stage, last))
        await going_back(stage, redis_url, last, counted)
        ends_well(stage)


async def heals(stage: Stage, version: int) -> bool:
    return set((await stage.registry.active_versions()).values()) == {version}


async def going_back(stage: Stage, redis_url: str, newest: int, counted: dict[str, int]) -> None:
    """Somebody moves the pointer by hand, then as it should be done."""
    client = connect_redis(redis_url)
    base = stage.registry._base  # no other way leads to the pointer without an act
    await client.hset(f"{base}state", "active", "1")
    await client.xadd(f"{base}news", {"v": "1"})

    async def stale() -> bool:
        return await refused(stage) == {**counted, "stale": 1}

    await until("stale", stale)
    assert await answers_with(stage, newest)
    await client.aclose()
    await stage.registry.pin(1, "operator", "the newest is wrong", 1)
    steps: list[Callable[[], Awaitable[bool]]] = [
        lambda: heals(stage, 1),
        lambda: answers_with(stage, 1),
    ]
    for step in steps:
        await until("gone back", step)
    acts = await stage.registry.history()
    assert acts[0] == Activation(
        act="pin", version=1, by="operator", why="the newest is wrong", at_ms=1
    )

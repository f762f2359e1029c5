"""Candidates are tried beside what answers, and take over in steps, or are turned back."""

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.registry_redis import RedisWeightsRegistry
from models.weights import Weights, encode
from tests.builders_weights import probed, some_weights
from tests.live.stage import DEADLINE_S, ROOT, Stage, body_of, ends_well, on_stage, until

pytestmark = [pytest.mark.live, pytest.mark.long]

SETTINGS = {
    "RISKBEAT_ROLLOUT_POLL_S": "0.1",
    "RISKBEAT_ROLLOUT_BAKE_S": "0",
    "RISKBEAT_ROLLOUT_DECISIONS_MIN": "100",
    "RISKBEAT_ROLLOUT_COMPARE_MIN": "100",
    "RISKBEAT_ROLLOUT_MODEL_MS_FREE": "1000",  # tests share a machine; none asserts a time
    "RISKBEAT_QUEUE_TARGET_S": "5",
    "RISKBEAT_ROLLOUT_SHADOW_BUDGET_S": "1",
    "RISKBEAT_ROLLOUT_SHADOW_UNTIL_S": "5",
}
CARDS = 2_000  # a card's scores are alike: few cards are a small sample
AT_ONCE = 40
SHIFT = 3.0


@dataclasses.dataclass
class Show:
    """A stage, and the command line beside it."""

    stage: Stage
    env: dict[str, str]
    answers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    sent: int = 0

    async def rollout(self, *arguments: str, code: int = 0) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "riskbeat", "rollout", *arguments],
            env=self.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout + done.stderr

    async def row(self) -> dict[str, Any]:
        row: dict[str, Any] = (await self.stage.http.get("/v1/model/rollout")).json()
        return row

    async def publish(self, weights: Weights, line: str = "") -> None:
        registry = self.stage.registry if not line else self.line(line)
        await registry.publish(weights.version, encode(weights, self.stage.signer))

    def line(self, name: str) -> RedisWeightsRegistry:
        main = self.stage.registry
        prefix = self.env["RISKBEAT_REDIS_PREFIX"]
        return RedisWeightsRegistry(main._client, prefix, self.stage.spec.digest, line=name)

    async def pay_until(self, is_done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for decisions, each of which must be answered whole, until the page says so."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                row = await self.row()
                if is_done(row):
                    return row
                await self.pay()

    async def pay(self) -> list[dict[str, Any]]:
        names = [f"p{self.sent + i}" for i in range(AT_ONCE)]
        self.sent += AT_ONCE
        found = await asyncio.gather(
            *(
                self.stage.http.post(
                    "/v1/decisions",
                    json=body_of(
                        name,
                        entities={"card": f"c{int(name[1:]) % CARDS}", "merchant": "m1"},
                        amount={"value": 100 + 7 * int(name[1:]) % 5000, "currency": "EUR"},
                    ),
                )
                for name in names
            )
        )
        for response in found:
            assert response.status_code == 200, response.text
        answers = [response.json() for response in found]
        for answer in answers:
            assert answer["degraded"] == []
        self.answers += answers
        return answers


def is_over(row: dict[str, Any]) -> bool:
    rollout = row["rollout"]
    return rollout["stage"] != "running" and (rollout["stage"] != "promoted" or rollout["settled"])


def weights_of(show: Show, model: str, version: int, *, shift: float = 0.0) -> Weights:
    """Weights that all score alike, but for the shift of their log-odds."""
    spec = show.stage.spec
    weights = some_weights(spec.digest, spec.n_features, version=version, seed=1)
    lanes = [msgspec.structs.replace(lane, b=lane.b + shift) for lane in weights.lanes]
    return probed(dataclasses.replace(weights, model=model, lanes=tuple(lanes)))


@asynccontextmanager
async def a_show(
    folder: Path, kafka: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> AsyncIterator[Show]:
    async with on_stage(folder, kafka, redis_url, topic_prefix, redis_prefix, **SETTINGS) as stage:
        show = Show(stage, stage.env)
        await show.publish(weights_of(show, "champion", 1))

        async def active() -> Any:
            return (await stage.http.get("/v1/model")).json()["active"]

        await until("version 1 is active", active)
        yield show


async def test_a_good_candidate_is_promoted_and_a_bad_one_turned_back(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with a_show(tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix) as show:
        said = await show.rollout("start", "rival", "--why", "too early", code=2)
        assert "no version has been published in line rival" in said
        await show.publish(weights_of(show, "rival", 1), "rival")
        steps = ("--steps", "shadow,20,60,100")
        await show.rollout("start", "rival", *steps, "--why", "trees", "--by", "ann")
        row = await show.pay_until(is_over)
        assert row["rollout"]["stage"] == "promoted", row["rollout"]["because"]
        assert row["line"] == "rival"
        await good_answers(show)
        acts = json.loads(await show.rollout("status", "--json"))["acts"]
        assert [act["act"] for act in acts][::-1] == [
            "start",
            "advance",
            "advance",
            "advance",
            "promote",
            "settle",
        ]
        assert [act["share"] for act in acts][::-1] == [0.0, 0.2, 0.6, 1.0, 1.0, 1.0]
        assert (acts[-1]["by"], acts[-1]["why"]) == ("ann", "trees")

        await show.publish(weights_of(show, "shifted", 1, shift=SHIFT), "shifted")
        await show.rollout("start", "shifted", "--steps", "30,100", "--why", "a try")
        began = len(show.answers)
        row = await show.pay_until(is_over)
        assert row["rollout"]["stage"] == "rolled_back"
        assert "PSI" in row["rollout"]["because"]
        assert row["line"] == "rival"
        tried = show.answers[began:]
        assert {a["model"]["name"] for a in tried} == {"rival", "shifted"}
        assert {a["rollout"]["step"] for a in tried if a["rollout"]} == {0}

        async def all_by_rival() -> bool:
            return {a["model"]["name"] for a in await show.pay()} == {"rival"}

        await until("nobody is answered by the candidate", all_by_rival)
        text = await show.rollout("status")
        assert "rollout 2 of shifted was rolled back" in text
        await asyncio.to_thread(ends_well, show.stage)


async def good_answers(show: Show) -> None:
    """What was answered while the good candidate went through its steps."""
    seen = [a for a in show.answers if a["rollout"]]
    assert {a["rollout"]["step"] for a in seen} == {0, 1, 2, 3}
    before = 0
    for start in range(0, len(show.answers), AT_ONCE):  # one round of payments after another
        turn = show.answers[start : start + AT_ONCE]
        steps = [a["rollout"]["step"] for a in turn if a["rollout"]] or [before]
        assert min(steps) >= before
        before = max(steps)
    for answer in seen:
        arm, model = answer["rollout"]["arm"], answer["model"]["name"]
        assert (arm, model) in {("stable", "champion"), ("candidate", "rival")}
        last = answer["rollout"]["step"] == 3
        if last and not answer["shadow"]:
            continue  # promoted already, and about to be settled
        if arm == "stable" or last:
            [shadow] = answer["shadow"]
            assert shadow["state"] == "scored"
            assert {shadow["model"], model} == {"champion", "rival"}
            assert shadow["value"] == pytest.approx(answer["score"]["value"], abs=1e-6)
            assert shadow["outcome"] == shadow["beside"]
    assert any(a["shadow"] for a in seen if a["rollout"]["step"] == 3)
    shadowed = {a["rollout"]["arm"] for a in seen if a["rollout"]["step"] == 0}
    assert shadowed == {"stable"}
    inside: set[str] = set()
    records = {record.event_id: record for record in await show.stage.records(show.sent)}
    for step in (1, 2, 3):
        cards = {
            records[a["event_id"]].event.entities["card"]
            for a in seen
            if (a["rollout"]["step"], a["rollout"]["arm"]) == (step, "candidate")
        }
        others = {
            records[a["event_id"]].event.entities["card"]
            for a in seen
            if (a["rollout"]["step"], a["rollout"]["arm"]) == (step, "stable")
        }
        assert not cards & others
        assert not inside & others
        inside |= cards

    async def all_by_rival() -> bool:
        answers = await show.pay()
        return all((a["model"]["name"], a["rollout"]) == ("rival", None) for a in answers)

    await until("the promoted line answers", all_by_rival)


async def test_a_version_of_the_line_is_tried_while_newer_ones_come(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with a_show(tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix) as show:
        await show.rollout("start", "main@1", "--steps", "50,100", "--why", "hold it")
        for version in range(2, 6):
            await show.publish(weights_of(show, "champion", version))
        row = await show.pay_until(is_over)
        assert row["rollout"]["stage"] == "promoted", row["rollout"]["because"]
        standing = await show.stage.registry.standing()
        assert (standing.latest, standing.active, standing.pinned) == (5, 1, True)
        by_candidate = [a for a in show.answers if (a["rollout"] or {}).get("arm") == "candidate"]
        assert {a["model"]["version"] for a in by_candidate} == {1}

        async def all_by_it() -> bool:
            return {a["model"]["version"] for a in await show.pay()} == {1}

        await until("the promoted version answers", all_by_it)

        await show.rollout("start", "main@latest", "--steps", "100", "--why", "go on", "--hold")
        await show.pay_until(lambda row: row["rollout"]["signals"]["candidate"]["decisions"] >= 100)
        said = await show.rollout("promote", "--why", "looks good")
        assert "was promoted" in said
        assert not (await show.stage.registry.standing()).pinned

        async def all_by_newest() -> bool:
            return {a["model"]["version"] for a in await show.pay()} == {5}

        await until("the newest version answers", all_by_newest)
        await asyncio.to_thread(ends_well, show.stage)


async def test_a_candidate_that_no_scorer_may_load_is_turned_back(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with a_show(tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix) as show:
        spec = show.stage.spec
        foreign = some_weights("f" * 64, spec.n_features, version=1)
        await show.publish(foreign, "foreign")
        await show.rollout("start", "foreign", "--why", "a try", "--steps", "50")
        row = await show.pay_until(is_over)
        assert row["rollout"]["stage"] == "rolled_back"
        assert "digest" in row["rollout"]["because"]
        assert {a["model"]["name"] for a in show.answers} <= {"champion"}
        await asyncio.to_thread(ends_well, show.stage)

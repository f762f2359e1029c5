"""The policy is changed while a scorer answers: the next decisions name it, no request fails."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes_serving import POLICY_TEXT
from tests.live.stage import DEADLINE_S, Stage, ends_well, on_stage, until

pytestmark = [pytest.mark.live, pytest.mark.long]
RULES = """
rules:
  - {id: large, version: 1, when: amount.value > 10000, outcome: challenge, reason: large}
  - {id: tried, version: 1, when: "true", outcome: decline, shadow: true}
"""


def riskbeat(stage: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command against the stage's servers."""
    return subprocess.run(
        [sys.executable, "-m", "riskbeat", "policy", *words],
        env=os.environ | stage.env,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S * 2,
        check=False,
    )


async def run(stage: Stage, *words: str, code: int = 0) -> str:
    done = await asyncio.to_thread(riskbeat, stage, *words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


async def test_policies_and_lists_change_while_requests_are_answered(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with on_stage(tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix) as stage:
        await stage.publish(1)
        stop = asyncio.Event()
        answers: list[dict[str, Any]] = []

        async def ask_on() -> None:
            while not stop.is_set():
                answer = await stage.decide(f"pay_{len(answers)}")
                assert answer.status_code == 200, answer.text
                answers.append(answer.json())

        asking = asyncio.create_task(ask_on())

        async def named(version: int) -> bool:
            assert not asking.done(), await asking
            return bool(answers) and answers[-1]["policy"]["version"] == version

        await until("the file's version", lambda: named(3))
        new = tmp_path / "new.yaml"
        new.write_text(POLICY_TEXT.replace("version: 3", "version: 4") + RULES)
        assert "+ rules.large" in await run(stage, "diff", str(new), "--on", "topic")
        told = await run(stage, "apply", str(new), "--why", "a test")
        assert "version 4 counts" in told and "1 of 1 scorers rule by it" in told
        await until("version 4", lambda: named(4))
        last = answers[-1]
        assert last["outcome"] in ("challenge", "decline")
        assert [(r["id"], r["state"]) for r in last["rules"]] == [
            ("large", "hit"),
            ("tried", "shadow"),
        ]
        assert (last["reasons"][0]["source"], last["reasons"][0]["text"]) == ("rule", "large")
        refused = await run(stage, "apply", str(new), "--why", "again", code=2)
        assert "counts already" in refused
        new.write_text(new.read_text().replace("version: 4", "version: 5").replace("10000", "9"))
        assert "raise its version" in await run(stage, "apply", str(new), "--why", "x", code=2)

        await run(stage, "list", "add", "deny", "card", "c1", "--why", "case 7")

        async def denied() -> bool:
            reasons = answers[-1]["reasons"]
            return bool(reasons) and reasons[0]["code"] == "deny_list"

        await until("the deny entry", denied)
        assert answers[-1]["outcome"] == "decline"
        assert "deny 1" in await run(stage, "list", "show")
        await run(stage, "list", "remove", "deny", "card", "c1", "--why", "over")
        assert "version 3 counts" in await run(stage, "rollback", "--why", "a test")
        await until("version 3 again", lambda: named(3))
        stop.set()
        await asking
        assert "rollback version 3" in await run(stage, "history")
        await asyncio.to_thread(ends_well, stage)

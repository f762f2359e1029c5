"""`riskbeat policy …` against a real store: what is done, what is refused, and in which words."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from models.decision_codec import encode_record
from riskbeat.__main__ import app
from tests.builders_policy import POLICY_TEXT, SPEC_TEXT, demand, rules_text, small_spec
from tests.builders_policy_past import a_record

pytestmark = [pytest.mark.live, pytest.mark.long]


class Desk:
    """An operator's folder, and the command."""

    def __init__(self, folder: Path, redis_url: str, redis_prefix: str) -> None:
        self.folder = folder
        (folder / "features.yaml").write_text(SPEC_TEXT)
        self.env = {
            "RISKBEAT_REDIS_URL": redis_url,
            "RISKBEAT_REDIS_PREFIX": redis_prefix,
            "RISKBEAT_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "RISKBEAT_SPEC_PATH": str(folder / "features.yaml"),
            "RISKBEAT_POLICY_PATH": str(self.write("policy.yaml", POLICY_TEXT)),
        }

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def policy(self, version: int, *rules: str) -> str:
        text = rules_text(*rules).replace("version: 3", f"version: {version}", 1)
        return str(self.write(f"v{version}.yaml", text))

    def run(self, *words: str, code: int = 0) -> str:
        told: Result = CliRunner().invoke(app, ["policy", *words], env=self.env)
        assert told.exit_code == code, (told.output, told.exception)
        return told.output


@pytest.fixture
def desk(tmp_path: Path, redis_url: str, redis_prefix: str) -> Desk:
    return Desk(tmp_path, redis_url, redis_prefix)


def test_a_policy_is_checked_compared_applied_and_taken_back(desk: Desk) -> None:
    first, second = desk.policy(4, demand("r", "review")), desk.policy(5, demand("r", "decline"))
    assert "version 4" in desk.run("check", first)
    assert "nothing was applied yet" in desk.run("show")
    assert "+ rules.r: version 1: review when" in desk.run("diff", first)
    assert "no scorer is running" in desk.run("apply", first, "--why", "trial")
    assert "rule r changes and is still version 1" in desk.run(
        "apply", second, "--why", "w", code=2
    )
    second = desk.policy(5, demand("r", "decline", ", version: 2"))
    assert "~ rules.r.outcome: review → decline" in desk.run("apply", second, "--why", "tighter")
    assert "counts already" in desk.run("apply", second, "--why", "w", code=2)
    low = desk.policy(2, demand("r", "decline", ", version: 2"))
    assert "not above 5" in desk.run("apply", low, "--why", "w", code=2)
    assert "rolled back: version 4 counts" in desk.run("rollback", "--why", "too much")
    assert "version 4 counts" in desk.run("show")
    assert desk.run("show", "--text").startswith("\nversion: 4")
    assert "version 9 is not in the store" in desk.run(
        "rollback", "--to", "9", "--why", "w", code=2
    )
    history = desk.run("history").splitlines()
    assert [line.split()[1] for line in history] == ["rollback", "apply", "apply"]
    assert "too much" in history[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[", "bad.yaml:1: not YAML"),
        (rules_text('id: r, when: "card.nope > 1.0", outcome: review'), "unknown name card.nope"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "diff", "apply"])
def test_a_faulty_file_is_one_line_and_changes_nothing(
    desk: Desk, text: str, fault: str, verb: str
) -> None:
    path = str(desk.write("bad.yaml", text))
    why = ["--why", "w"] if verb == "apply" else []
    told = desk.run(verb, path, *why, code=2)
    assert fault in told and len(told.strip().splitlines()) == 1
    assert "nothing was done yet" in desk.run("history")


def test_a_rule_is_snoozed_and_resumed(desk: Desk) -> None:
    desk.run("apply", desk.policy(4, demand("r", "review")), "--why", "w")
    assert "has no rule q; it has r" in desk.run("snooze", "q", "--why", "w", code=2)
    assert "expected a duration" in desk.run("snooze", "r", "--for", "x", "--why", "w", code=2)
    assert "is snoozed until" in desk.run("snooze", "r", "--for", "2h", "--why", "noise")
    assert "snoozed until" in desk.run("show")
    assert "has its say again" in desk.run("resume", "r", "--why", "over")
    assert "neither snoozed nor halted" in desk.run("resume", "r", "--why", "over", code=2)


def test_lists_are_filled_shown_and_emptied(desk: Desk) -> None:
    add = ("list", "add", "deny", "card", "c1", "c2", "--why", "case 7", "--for", "1h")
    assert desk.run(*add) == "deny: 2 new, 0 changed\n"
    assert desk.run(*add) == "deny: 0 new, 2 changed\n"
    shown = desk.run("list", "show", "deny", "--id", "c1")
    assert shown.startswith("deny 2, watch 0, allow 0\ndeny card c1 (tenant *): case 7; by ")
    assert "Invalid enum value 'ban'" in desk.run(
        "list", "add", "ban", "card", "x", "--why", "w", code=2
    )
    text = "id,reason,until,tenant\nm1,,2020-01-01T00:00:00Z,\nm2,shop,,north\n"
    path = str(desk.write("m.csv", text))
    done = desk.run("list", "import", "watch", "merchant", path, "--why", "list of Monday")
    assert done == "watch: 2 new, 0 changed\n"
    assert "merchant m2 (tenant north): shop" in desk.run("list", "show", "watch")
    assert desk.run("list", "prune") == "1 entries taken out\n"
    gone = desk.run("list", "remove", "deny", "card", "c1", "c9", "--why", "over")
    assert gone == "deny: 1 taken out, 1 did not stand there\n"
    assert "deny 1, watch 1, allow 0" in desk.run("list", "show")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("card\nc1\n", "bad.csv:1: expected a column named id"),
        ("id,why\nc1,x\n", "bad.csv:1: why: expected columns id"),
        ("id\nc1\n\x01\n", "bad.csv:3: "),
        ("id,until\nc1,tomorrow\n", "bad.csv:2: until: "),
    ],
)
def test_a_faulty_csv_names_its_line_and_puts_nothing(desk: Desk, text: str, fault: str) -> None:
    path = str(desk.write("bad.csv", text))
    assert fault in desk.run("list", "import", "deny", "card", path, "--why", "w", code=2)
    assert "deny 0" in desk.run("list", "show")


def test_past_decisions_are_ruled_again(desk: Desk, tmp_path: Path) -> None:
    spec: Any = small_spec(tmp_path)
    records = [a_record(spec, f"p{i}", value=1000 if i < 3 else 1, p=0.1) for i in range(10)]
    log = desk.write("log.jsonl", "")
    log.write_bytes(b"\n".join(encode_record(record) for record in records))
    new = desk.policy(4, demand("r", "review"), demand("s", "decline", ", shadow: true"))
    told = desk.run("diff", new, "--on", str(log))
    assert "3 of 10 decisions (30.00%) would have had another outcome" in told
    assert "  approve → review: 3\n" in told
    assert "  rule r@1: hit 3\n  rule s@1: shadow 3\n" in told
    log.write_text("{}\n")
    assert "log.jsonl:1: " in desk.run("diff", new, "--on", str(log), code=2)
    assert "nowhere" in desk.run("diff", new, "--on", "nowhere.jsonl", code=2)

"""what was sent, answered and left in the log → what is wrong with it: nothing, it is hoped."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from features.event import EventRejected, decision_id, identity_of, parse_event
from load_tests.chaos.roles import DEADLINE_S, PARTITIONS, UPDATES_PARTITIONS
from load_tests.chaos.stage import Stage
from load_tests.chaos_features.check import Truth, different, letters_of, read_truth
from load_tests.chaos_learning.check import caught_up, check_chain, check_transitions
from load_tests.chaos_learning.load import Told as Labels
from load_tests.label_serving import read_all
from load_tests.processes import CommandFailed, run_riskbeat
from models.decision import DecisionRecord
from models.decision_codec import decode_record

SETTLE_TIMEOUT_S = 180.0
RECOMPUTED, LOOKED_UP = 500, 20
RECOMPUTE_TIMEOUT_S = 300.0
CLIENT_SLACK_S = 0.25  # the asker shares the machine with all that it asks
POLL_S = 0.25
SHOWN = 3
ROLLED = "every process is rolled"  # which loses nothing


@dataclass
class Found:
    """Counts, each of which should be 0, and what a reader wants to know of the rest.

    Attributes:
        wrong: What is wrong → how often.
        words: The first of each, as it was found.
    """

    wrong: dict[str, int] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    events: int = 0
    decisions: int = 0
    versions: int = 0
    recomputed: int = 0

    def add(self, what: str, cases: list[str]) -> None:
        """Count cases of one kind."""
        self.wrong[what] = len(cases)
        if cases:
            self.words[what] = "; ".join(cases[:SHOWN])


def judge(stage: Stage) -> Found:
    """Stop the load, let everything settle, and hold it against the log."""
    stage.say("the load ends")
    stage.load.stop()
    found = Found()
    kafka, told = stage.kafka.address, stage.load.told
    found.add("events never decided in time", _until_decided(stage))
    settled = _wait(lambda: _learned(stage), stage)
    found.add("labels or decisions never learned in time", [] if settled else ["the learner lags"])
    truth = read_truth(kafka, stage.topics, stage.spec, UPDATES_PARTITIONS)
    drained = stage.kept().settle(truth.ends, SETTLE_TIMEOUT_S, stage.crew.keep)
    found.add("features behind the log", [] if drained else ["not drained"])
    _check_features(stage, truth, found)
    _check_decisions(stage, found)
    _check_labels(stage, found)
    _check_versions(stage, found)
    _recompute(stage, found)
    found.add("asked until the end, in vain", told.lost)
    found.add("5xx that is no refusal", [w for _, w in told.faults if w[:1] == "5"])
    found.add("4xx that is no refusal", [w for _, w in told.faults if w[:1] == "4"])
    found.add("connections lost with nobody at fault", _unexplained(stage))
    found.add("answers over their deadline", _late(stage))
    found.add("second learners that were not refused", [str(s) for s in stage.rivals if s <= 0])
    return found


def _wait(true: Callable[[], bool], stage: Stage) -> bool:
    end_s = time.monotonic() + SETTLE_TIMEOUT_S
    while not true():
        if time.monotonic() > end_s:
            return False
        stage.crew.pause(POLL_S)
    return True


def _check_features(stage: Stage, truth: Truth, found: Found) -> None:
    found.events = truth.events
    states = stage.kept().states()
    found.add(
        "states that are not those of the log", [str(k) for k in different(truth.states, states)]
    )
    letters = letters_of(stage.kafka.address, stage.topics)
    found.add("rejected records without a dead letter", [str(x) for x in truth.rejected - letters])


def _decided(stage: Stage) -> dict[str, list[DecisionRecord]]:
    records = asyncio.run(read_all(stage.kafka.address, stage.topics.decisions))
    found: dict[str, list[DecisionRecord]] = defaultdict(list)
    for record in records:
        one = decode_record(record.value)
        found[one.decision_id].append(one)
    return found


def _until_decided(stage: Stage) -> list[str]:
    """Wait until every event of the log has a decision; return those that have none."""
    missing: list[str] = []

    def complete() -> bool:
        missing[:] = sorted(_taken(stage) - _decided(stage).keys())
        return not missing

    _wait(complete, stage)
    return missing


def _taken(stage: Stage) -> set[str]:
    """Return the decision ids of all events in the log."""
    taken = set()
    for record in asyncio.run(read_all(stage.kafka.address, stage.topics.events)):
        try:
            event = parse_event(record.value or b"", stage.spec.event_rules, record.timestamp)
        except EventRejected:
            continue
        taken.add(decision_id(identity_of(event)))
    return taken


def _check_decisions(stage: Stage, found: Found) -> None:
    """Every answer is in the log as it was given, with its event, and can be looked up."""
    decided, taken = _decided(stage), _taken(stage)
    found.decisions = sum(map(len, decided.values()))
    answers = {h.answer["decision_id"]: h.answer for h in stage.load.told.answers.values()}
    found.add("answers that are not in the log", [i for i in answers if i not in decided])
    found.add("answers whose event is not in the log", [i for i in answers if i not in taken])
    unlike = [i for i, a in answers.items() if i in decided and not _is_among(a, decided[i])]
    found.add("answers unlike what is in the log", unlike)
    sample = stage.draw.sample(sorted(answers), min(LOOKED_UP, len(answers)))
    absent: list[str] = []

    def all_there() -> bool:
        absent[:] = [i for i in sample if not _can_be_looked_up(stage, i)]
        return not absent

    _wait(all_there, stage)
    found.add("decisions that cannot be looked up", absent)


def _is_among(answer: dict[str, Any], records: list[DecisionRecord]) -> bool:
    """Whether some record says what the answer says."""
    said = answer["outcome"], answer["score"]["value"], (answer["model"] or {}).get("version")
    return any(
        said == (r.outcome, r.score.value, r.weights.version if r.weights else None)
        for r in records
    )


def _can_be_looked_up(stage: Stage, decision: str) -> bool:
    try:
        return stage.http.get(f"/v1/decisions/{decision}").status_code == 200
    except httpx.TransportError:
        return False


def _check_labels(stage: Stage, found: Found) -> None:
    told = Labels(net=stage.load.told.net)
    records = asyncio.run(read_all(stage.kafka.address, stage.topics.label_updates))
    out_of_turn, wrong = check_transitions(records, told)
    found.add("label transitions out of turn", ["transition"] * out_of_turn)
    found.add("events whose label was lost or counted twice", ["event"] * wrong)


def _check_versions(stage: Stage, found: Found) -> None:
    topic = stage.topics.weights(stage.spec.digest)
    found.versions, wrong = check_chain(asyncio.run(read_all(stage.kafka.address, topic)))
    found.add("versions missing, doubled, or not following", wrong)


def _recompute(stage: Stage, found: Found) -> None:
    """Let `riskbeat recompute` make the newest decisions again."""
    words, why = ("recompute", "--last", str(RECOMPUTED), "--json"), ""
    try:
        printed = run_riskbeat(stage.crew.env, *words, timeout_s=RECOMPUTE_TIMEOUT_S)
    except CommandFailed as error:  # as it does when any differs
        printed, why = error.printed, str(error)
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    found.recomputed = len(lines)
    unlike = [f"{x['decision_id']}: {x['differences'][0]}" for x in lines if x["differences"]]
    if not unlike and (why or not lines):
        unlike = [why or "none was found"]
    if unlike:
        _keep_unlike(stage, {x["decision_id"] for x in lines if x["differences"]})
    found.add("decisions that recomputation makes otherwise (mixed answers)", unlike)


def _keep_unlike(stage: Stage, ids: set[str]) -> None:
    """Write down such decisions, and where each event stands in the log; for who looks for why."""
    decided = _decided(stage)
    log = [
        (record.partition, record.offset, record.timestamp, (record.value or b"").decode("latin-1"))
        for record in asyncio.run(read_all(stage.kafka.address, stage.topics.events))
    ]
    kept = {"decisions": [decided[i] for i in ids if i in decided], "events": log}
    (stage.crew.folder / "unlike.json").write_bytes(msgspec.json.encode(kept))


def _learned(stage: Stage) -> bool:
    return asyncio.run(
        caught_up(
            stage.kafka.address,
            stage.store.server.address,
            stage.prefix,
            stage.topics,
            stage.spec.digest,
            PARTITIONS,
        )
    )


def _unexplained(stage: Stage) -> list[str]:
    """Return the connections that were lost while nothing was done that may lose one."""
    spans = [
        (b.begun_s - DEADLINE_S, b.healed_s + b.back_s) for b in stage.blows if b.kind != ROLLED
    ]
    return [
        f"{why}, {_during(stage, at_s - DEADLINE_S, at_s)}"
        for at_s, why in stage.load.told.faults
        if not why[:1].isdigit() and not any(a <= at_s <= b for a, b in spans)
    ]


def _late(stage: Stage) -> list[str]:
    """Return the answers that came after their deadline while their scorer was not frozen."""
    spans = [(b.begun_s, b.healed_s + b.back_s) for b in stage.blows if "scorer" in b.kind]
    return [
        f"{name}: {heard.took_s:.2f} s, "
        + _during(stage, heard.asked_at_s, heard.asked_at_s + heard.took_s)
        for name, heard in stage.load.told.answers.items()
        if heard.asked_at_s >= stage.steady_s
        and heard.took_s - stage.load.told.own_delay_s(heard) > DEADLINE_S + CLIENT_SLACK_S
        and not any(
            a <= heard.asked_at_s + heard.took_s and heard.asked_at_s <= b for a, b in spans
        )
    ]


def _during(stage: Stage, from_s: float, to_s: float) -> str:
    """Say what was going on between two moments."""
    for blow in stage.blows:
        if from_s <= blow.healed_s + blow.back_s and blow.begun_s <= to_s:
            return blow.kind
    return "with nothing broken"

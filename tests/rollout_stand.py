"""A scorer in memory with a candidate beside it, and events to ask it."""

import dataclasses
from typing import Any

from api.rollout import Running
from api.seen import Asked
from features.event import Event
from models.decision import DecisionRecord, Source
from models.rollout_arms import ArmPicker
from models.scorer import ACTIVE, Scorer
from models.scorer_local import LocalScorer
from tests.builders_rollout import a_plan, a_rollout
from tests.builders_weights import some_weights
from tests.fakes_serving import Stand, an_event

HTTP = Source(door="http", topic="t.events.v1")
RIVAL = 7
MANY = 60


def run(stand: Stand, share: float, *, shadow: bool = False, **changes: Any) -> LocalScorer:
    """Roll a rival out at a share; it answers with version `RIVAL`."""
    scorer = LocalScorer(stand.spec.digest, stand.spec.n_features, "test", "cpu")
    weights = some_weights(stand.spec.digest, stand.spec.n_features, version=RIVAL)
    scorer.load(dataclasses.replace(weights, model="rival"), f"{RIVAL:064x}")
    begin(stand, scorer, share, shadow=shadow, **changes)
    return scorer


def begin(
    stand: Stand, candidate: Scorer, share: float, *, shadow: bool = False, **plan: Any
) -> None:
    rollout = a_rollout(number=3, plan=a_plan((share,), automatic=False, **plan))
    picker = ArmPicker(stand.spec, rollout)
    stand.rollouts.running = Running(3, 0, picker, candidate, ACTIVE, shadow)


def events(count: int = MANY) -> list[Event]:
    return [an_event(f"p{i}", card=f"c{i}", merchant=f"m{i % 3}") for i in range(count)]


async def decide(stand: Stand, asked: list[Event]) -> list[DecisionRecord]:
    return await stand.decider.decide_many([Asked(event, HTTP) for event in asked], 5.0)


def arms(records: list[DecisionRecord]) -> list[str | None]:
    return [r.rollout.arm if r.rollout is not None else None for r in records]

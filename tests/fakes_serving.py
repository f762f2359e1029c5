"""Ports of the scorer, in memory; and builders of what it eats."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from api.answer import Answerer, Told
from api.claims import Claim, Claimed, ClaimsUnavailable
from api.decide import Decider
from api.dry_run import dry_decider
from api.overlay import Overlay
from api.publish import LogUnavailable, Outgoing, Position, SpoolingPublisher
from api.rollout import Rollouts
from api.spool import Spool
from features.event import Amount, Event, from_ms, partition_of
from features.spec import Spec
from features.store import Reads, SourceMark, StoreUnavailable, Watermarks
from features.topics import Topics
from features.update import EntityUpdates
from features.window import apply_many
from models.decision_cloud import Stamp
from models.policy_cel import CelCompiler
from models.policy_ruling import Ruler, compile_policy
from models.scorer_local import LocalScorer
from models.weights import Weights
from tests.builders_weights import NOW_MS, some_weights

SPEC_TEXT = """
money: {base: EUR, rates_version: "1", rates: {EUR: "1", USD: "0.5"}}
event_types:
  card_payment: {primary: card}
entities:
  card:
    count: [10m, 1h]
    sum: [1h]
    since_last: true
    distinct: {merchant: [1h]}
  merchant:
    count: [10m]
    mean: [1h]
calendar: [hour]
"""
SHADOW_BUDGET_S = 10.0  # no test waits so long
SHADOW_UNTIL_S = 60.0
POLICY_TEXT = """
version: 3
risk_levels: {elevated: 0.9, highest: 0.99}
default:
  bands:
    - {outcome: decline, probability: 0.8}
    - {outcome: review, probability: 0.5}
  fallback:
    - {outcome: review, amount_at_least: 10000}
"""


def an_event(
    event_id: str = "pay_1", *, at_ms: int = NOW_MS, value: int = 1000, **entities: str
) -> Event:
    return Event(
        event_type="card_payment",
        event_id=event_id,
        event_time=from_ms(at_ms),
        entities=entities or {"card": "c1", "merchant": "m1"},
        amount=Amount(value, "EUR"),
    )


class MemoryStates:
    """A feature reader over states that a test applies; it can be made to fail."""

    def __init__(self, spec: Spec, partitions: int = 2) -> None:
        self.spec = spec
        self.partitions = partitions
        self.states: dict[bytes, bytes] = {}
        self.marks = {p: Watermarks([SourceMark(0)], [SourceMark(0)]) for p in range(partitions)}
        self.fresh_until_ms = NOW_MS - 40
        self.away = False
        self.stuck = False
        self.calls = 0

    def apply(self, updates: EntityUpdates, source_partition: int, next_offset: int) -> None:
        keys = list(dict.fromkeys(updates.keys))
        slot = np.array([keys.index(key) for key in updates.keys], np.int32)
        blobs = apply_many(self.spec, [self.states.get(k, b"") for k in keys], slot, updates)
        self.states.update(zip(keys, blobs, strict=True))
        for marks in self.marks.values():
            marks.mark("e", source_partition).next_offset = next_offset

    async def read_many(self, keys: Sequence[bytes]) -> Reads:
        self.calls += 1
        if self.away:
            raise StoreUnavailable("refused", "nobody listens")
        if self.stuck:
            await asyncio.Event().wait()
        owners = [partition_of(key, self.partitions) for key in keys]
        return Reads(
            [self.states.get(key, b"") for key in keys],
            owners,
            {p: self.marks[p] for p in set(owners)},
            {p: self.fresh_until_ms for p in set(owners)},
        )


class MemoryClaims:
    """Claims in a dictionary; time passes when a test says so."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, bytes]] = {}
        self.away = False

    async def take_many(self, claims: Sequence[Claim]) -> list[Claimed]:
        self._check()
        return [self._take(claim) for claim in claims]

    async def finish_many(self, done: Sequence[tuple[Claim, bytes]]) -> None:
        self._check()
        for claim, answer in done:
            self.kept[claim.name] = (claim.body_hash, answer)

    async def release_many(self, claims: Sequence[Claim]) -> None:
        self._check()
        for claim in claims:
            self.kept.pop(claim.name, None)

    def _take(self, claim: Claim) -> Claimed:
        if claim.name not in self.kept:
            self.kept[claim.name] = (claim.body_hash, b"")
            return Claimed("new")
        body_hash, answer = self.kept[claim.name]
        if body_hash != claim.body_hash:
            return Claimed("other_body")
        return Claimed("done", answer) if answer else Claimed("in_progress")

    def _check(self) -> None:
        if self.away:
            raise ClaimsUnavailable("nobody listens")


class MemoryPublisher:
    """A log in a list; it can be away, and slow: acks come when `acks` is set."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.away = False
        self.acks = asyncio.Event()
        self.acks.set()
        self.waiting = 0
        self.stopped = False

    async def start(self) -> None:
        if self.away:
            raise LogUnavailable("no broker")

    async def publish_many(self, records: Sequence[Outgoing], timeout_s: float) -> list[Position]:
        if self.away:
            raise LogUnavailable("no ack")
        self.waiting += 1
        await self.acks.wait()
        self.waiting -= 1
        begin = len(self.records)
        self.records.extend(records)
        return [Position(0, begin + i) for i in range(len(records))]

    async def stop(self) -> None:
        self.stopped = True

    def of(self, topic: str) -> list[Outgoing]:
        return [record for record in self.records if record.topic == topic]


def a_spec(folder: Path, text: str = SPEC_TEXT) -> Spec:
    path = folder / "features.yaml"
    path.write_text(text)
    return Spec.load(path)


@dataclass
class Stand:
    """The step and everything around it, in memory.

    Attributes:
        clock_ms: What the wall clock says; a test moves it.
    """

    spec: Spec
    states: MemoryStates
    scorer: LocalScorer
    overlay: Overlay
    decider: Decider
    claims: MemoryClaims
    log: MemoryPublisher
    publisher: SpoolingPublisher
    answerer: Answerer
    topics: Topics
    repeats: list[str]
    clock_ms: list[int]
    rollouts: Rollouts
    ruler: Ruler

    def dry_decider(self) -> Decider:
        now_ms = lambda: self.clock_ms[0]  # noqa: E731
        return dry_decider(self.spec, self.ruler, self.states, self.scorer, self.overlay, now_ms)

    def load(self, version: int) -> Weights:
        weights = some_weights(self.spec.digest, self.spec.n_features, version=version)
        self.scorer.load(weights, f"{version:064x}")
        return weights


def a_stand(
    folder: Path,
    policy_text: str = POLICY_TEXT,
    spec_text: str = SPEC_TEXT,
    stamp: Stamp | None = None,
) -> Stand:
    spec = a_spec(folder, spec_text)
    clock_ms = [NOW_MS]
    states = MemoryStates(spec)
    scorer = LocalScorer(spec.digest, spec.n_features, "test", "cpu")
    overlay = Overlay(2.0, 1000, 256, spec.max_fields)
    ruler = Ruler(spec, compile_policy(policy_text, "policy.yaml", spec, CelCompiler))
    rollouts = Rollouts(SHADOW_BUDGET_S, SHADOW_UNTIL_S)
    decider = Decider(spec, ruler, states, scorer, overlay, lambda: clock_ms[0], rollouts=rollouts)
    claims, log, repeats = MemoryClaims(), MemoryPublisher(), list[str]()
    publisher = SpoolingPublisher(log, Spool(folder / "spool", 4_000), 1.0, 1.0, 0.001)
    topics = Topics("t.")
    told = Told(lambda records, seconds: None, repeats.append)
    answerer = Answerer(spec, topics, decider, claims, publisher, 5.0, told, stamp=stamp)
    return Stand(
        spec,
        states,
        scorer,
        overlay,
        decider,
        claims,
        log,
        publisher,
        answerer,
        topics,
        repeats,
        clock_ms,
        rollouts,
        ruler,
    )

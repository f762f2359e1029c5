"""A log in a file, its backfill, and the online path over the same log: one item at a time."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from api.decide import Decider
from api.overlay import Overlay
from api.seen import Asked
from features.event import from_ms, parse_event
from features.spec import Spec
from features.update import LabelTransition
from models.decision import DecisionRecord, Source
from models.decision_codec import encode_record
from models.ensemble import Ensemble
from models.policy_cel import CelCompiler
from models.policy_ruling import Ruler, compile_policy
from models.scorer_local import LocalScorer
from models.space import space_of
from pipeline.backfill import Backfill, BackfillLimits, InProcess
from pipeline.backfill_job import BackfillJob
from pipeline.backfill_judge import Judged
from pipeline.backfill_order import as_written
from pipeline.decided import parse_decided, parse_placed_label
from pipeline.featurize import Place
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.learn import LearnRules, LearnStep
from pipeline.mapping_events import EventMapping
from pipeline.replay_order import in_order, look_at
from pipeline.replay_progress import BadRows
from pipeline.replay_source import open_log
from pipeline.step_ports import Company
from tests.fakes import MemoryFeatureStore, MemoryShelf
from tests.fakes_featurize import (
    EVENTS,
    LABELS,
    NOW_MS,
    UPDATES,
    UPDATES_PARTITIONS,
    MemoryLog,
    start,
    worker_over,
)
from tests.fakes_learner import a_plan, make_in_memory
from tests.fakes_serving import POLICY_TEXT

SPEC_TEXT = """
money: {base: EUR, rates_version: "1", rates: {EUR: "1"}}
event_types:
  card_payment: {primary: card}
limits: {head_events: 4, label_head_events: 3, dedup_horizon: 10m, reorder: 5s}
entities:
  card: {count: [10m, 1h], mean: [1h], distinct: {merchant: [1h]}, fraud_count: [1h]}
  merchant: {count: [1h], mean: [1h], std: [1h], label_count: [1h], fraud_rate: [1h]}
  device: {count: [10m], since_last: true}
calendar: [hour]
ratios: [event.amount / card.mean_of_amount_over_1h]
deviations: {merchant: [1h]}
"""
MINUTE_MS = 60_000
START_MS = NOW_MS - 48 * 3_600_000


def an_event(name: str, at_ms: int, rng: random.Random) -> bytes:
    entities = {"card": f"c{rng.randrange(4)}", "merchant": f"m{rng.randrange(3)}"}
    if rng.random() < 0.7:
        entities["device"] = f"d{rng.randrange(3)}"
    return json.dumps(
        {
            "event_type": "card_payment",
            "event_id": name,
            "event_time": from_ms(at_ms).isoformat(),
            "entities": entities,
            "amount": {"value": rng.randrange(1, 9999), "currency": "EUR"},
        }
    ).encode()


def a_label(name: str, at_ms: int, rng: random.Random) -> bytes:
    return json.dumps(
        {
            "event_type": "card_payment",
            "event_id": name,
            "label": rng.choice(["fraud", "legit"]),
            "source": rng.choice(["chargeback", "manual_review"]),
            "state": rng.choice(["confirmed", "confirmed", "suspected", "reversed"]),
            "label_time": from_ms(at_ms).isoformat(),
        }
    ).encode()


def a_log(seed: int, events: int = 60, *, late: bool = True) -> list[bytes]:
    """Events in order of arrival with repeats, ties and late ones; labels among them."""
    rng = random.Random(seed)
    clock_ms, items, sent = START_MS, list[bytes](), dict[str, bytes]()
    for n in range(events):
        clock_ms += rng.choice([0, 1, 500, MINUTE_MS, 5 * MINUTE_MS, 20 * MINUTE_MS])
        at_ms = clock_ms - (rng.choice([0, 0, 0, 3_000, MINUTE_MS, 30 * MINUTE_MS]) if late else 0)
        name = f"e{n}"
        sent[name] = an_event(name, at_ms, rng)
        items.append(sent[name])
        if rng.random() < 0.2:
            items.append(sent[name])  # the client did not hear us, and sends it again
        if rng.random() < 0.5:
            told = f"e{max(rng.randrange(n + 1), 0)}"
            items.append(a_label(told, clock_ms - rng.choice([0, 0, MINUTE_MS]), rng))
    return items


def backfilled(
    spec_path: Path,
    items: Sequence[bytes],
    folder: Path,
    *,
    by_arrival: bool = True,
    limit_events: int | None = None,
    **changed: Any,
) -> tuple[pl.DataFrame, Judged]:
    """Backfill a log of JSON lines in this process; return what was written."""
    folder.mkdir(parents=True)
    path = folder / "log.jsonl"
    path.write_bytes(b"\n".join(items) + b"\n")
    asked: dict[str, Any] = {"updates_partitions": UPDATES_PARTITIONS, "entity_buckets": 2}
    asked |= {"join_buckets": 2, **changed}
    job = BackfillJob(spec_path=spec_path, folder=folder, now_ms=NOW_MS, **asked)
    mapping = EventMapping(job.spec.event_rules, lambda: NOW_MS)
    log = open_log(path, raw=True)
    facts = look_at(log, mapping)
    pieces = as_written(log, mapping) if by_arrival else in_order(log, mapping, facts)
    limits = BackfillLimits(workers=1, limit_events=limit_events)
    with BadRows(None, "log") as bad_rows:
        backfill = Backfill(job, InProcess(), limits, bad_rows)
        judged = backfill.run(pieces, folder / "out.parquet", {"riskbeat.source": "log"})
    return pl.read_parquet(folder / "out.parquet"), judged


class OnlinePath:
    """Scorer, worker and learner over one log in memory; each item is done before the next."""

    def __init__(
        self, spec: Spec, folder: Path, legit_after_ms: int, overlay_s: float = 0.0
    ) -> None:
        self.spec = spec
        self.log = MemoryLog()
        shelf = MemoryShelf()
        self.store = MemoryFeatureStore(
            shelf, partitions=UPDATES_PARTITIONS, spec_digest=spec.digest
        )
        self.owned = worker_over(spec, self.store, self.log)
        self.clock_ms = NOW_MS
        overlay = Overlay(overlay_s, 10, 10, spec.max_fields)
        self.scorer = scorer = LocalScorer(spec.digest, spec.n_features, "test", "cpu")
        ruler = Ruler(spec, compile_policy(POLICY_TEXT, "policy.yaml", spec, CelCompiler))
        self.decider = Decider(spec, ruler, self.store, scorer, overlay, lambda: self.clock_ms)
        rules = LearnRules(
            n_features=spec.n_features, label_partitions=1, legit_after_ms=legit_after_ms
        )
        self.join = SqliteJoinStore(folder / "join.sqlite")
        ensemble = Ensemble(space_of(spec), a_plan(), 1, make_in_memory)
        self.learn = LearnStep(rules, self.join, ensemble, Company())
        self.learn.restore()
        self.place = 0
        self.sent = 0
        self.transitions: list[LabelTransition] = []

    async def start(self) -> None:
        await self.store.attach()
        await start(self.owned, self.log)

    async def take(self, body: bytes) -> DecisionRecord | None:
        """Take one item of the log; return the decision on an event."""
        self.clock_ms += 10
        self.place += 1
        record = None
        if b'"label_time"' in body:
            rules = self.spec.event_rules
            self.learn.take([], [parse_placed_label(body, self.place, rules, NOW_MS)])
        else:
            event = parse_event(body, self.spec.event_rules, NOW_MS)
            seen = await self.decider.look([event], 5.0)
            [record] = self.decider.decide([Asked(event, Source(door="http"))], seen)
            await self._count(EVENTS, body)
            spec = self.spec
            row = parse_decided(encode_record(record), self.place, spec.digest, spec.n_features)
            self.learn.take([row], [])
        outgoing = self.join.outbox(1_000)
        self.join.mark_sent(outgoing)
        for out in outgoing:
            self.transitions.append(msgspec.json.decode(out.body, type=LabelTransition))
            await self._count(LABELS, out.body)
        return record

    async def _count(self, topic: str, body: bytes) -> None:
        self.log.append(Place(topic, 0), body, self.clock_ms)
        await self._count_next(Place(topic, 0))

    async def _count_next(self, place: Place) -> None:
        await self.owned.route([(place, self.log.poll(place, 1))])
        await self.owned.beat()
        for partition in range(UPDATES_PARTITIONS):
            updates = Place(UPDATES, partition)
            await self.owned.aggregate([(updates, self.log.poll(updates, 1_000))])


def vectors_of(spec: Spec, frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
    return frame.select(spec.feature_names).to_numpy().astype(np.float32)

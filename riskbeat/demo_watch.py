"""metrics pages, decisions, truth → figures: how the running stack does, and how well."""

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.spec import Spec
from features.topics import Topics
from models.registry_redis import RedisWeightsRegistry
from models.scorer_local import LocalScorer
from models.signing import load_public_keys
from models.weights_chain import Links, assemble, read_links
from riskbeat.decisions_kafka import decisions_of
from riskbeat.demo_view import Figures
from riskbeat.metrics import Scrape, parse_many, quantile, subtract
from riskbeat.settings import Settings
from riskbeat.stack import LocalStack
from riskbeat.store import redis_client
from riskbeat.tally import Tally

FRESHNESS = "riskbeat_event_freshness_seconds"
DECISION = "riskbeat_decision_seconds"
SCRAPE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What the generator knows about its log, in log order."""

    index_of: dict[str, int]
    is_fraud: NDArray[np.uint8]

    @classmethod
    def read(cls, log: Path) -> "Truth":
        """Read it from a generated Parquet log."""
        columns = pl.read_parquet(log, columns=["event_id", "is_fraud"])
        names = columns["event_id"].to_list()
        index_of = {name: index for index, name in enumerate(names)}
        return cls(index_of, columns["is_fraud"].to_numpy().astype(np.uint8))


class DemoWatch:
    """Reads a running stack from outside: its metrics pages, its decisions, its registry."""

    def __init__(self, stack: LocalStack, settings: Settings, truth: Truth, seconds: float) -> None:
        """Look at a stack that is ready; `seconds` is how long events will flow."""
        self._stack = stack
        self._seconds = seconds
        self._settings = settings
        self._spec = Spec.load(self._settings.spec_path)
        self.tally = Tally(truth.index_of, truth.is_fraud, self._spec.n_features)
        self._topics = Topics(self._settings.topic_prefix)
        self._frozen: Links | None = None
        self._first_version = 0
        self._before = Scrape()
        self._last: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def all_decided(self) -> bool:
        """Whether every event of the log has its decision."""
        return bool(self.tally.decided.all())

    async def __aenter__(self) -> Self:
        """Start reading; the clock starts now."""
        self._redis = redis_client(self._settings)
        self._registry = RedisWeightsRegistry(
            self._redis, self._settings.redis_prefix, self._spec.digest
        )
        self._http = httpx.AsyncClient(timeout=SCRAPE_TIMEOUT_S)
        self._first_version = await self._registry.latest_version()
        self._before = await self._scrape()
        self._start = time.monotonic()
        self._reader = asyncio.create_task(self._read_decisions())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop reading."""
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        self._elapsed_s = time.monotonic() - self._start
        self._now = await self._scrape()
        self._last_version = await self._registry.latest_version()
        await self._http.aclose()
        await self._redis.aclose()

    async def _read_decisions(self) -> None:
        options = self._settings.kafka_options()
        async for batch in decisions_of(options, self._topics.decisions):
            for record in batch:
                self.tally.add(record)
            if self._frozen is None and self.tally.first_third_done:
                version = await self._registry.active_version()
                self._frozen = await read_links(self._registry.read, version)

    async def _scrape(self) -> Scrape:
        pages = []
        for url in self._stack.metrics_urls.values():
            with contextlib.suppress(httpx.TransportError):  # a process that is being restarted
                pages.append((await self._http.get(url)).text)
        return parse_many(pages)

    async def look(self) -> Figures:
        """Return the figures of now."""
        if self._reader.done() and not self._reader.cancelled():
            await self._reader
        if self._http.is_closed:
            return self._figures(self._now, self._elapsed_s, "done")
        elapsed_s = time.monotonic() - self._start
        stage = "replaying" if elapsed_s < self._seconds else "waiting for the last decisions"
        return self._figures(await self._scrape(), elapsed_s, stage)

    def _figures(self, scrape: Scrape, elapsed_s: float, stage: str) -> Figures:
        events = (
            scrape.values["riskbeat_events_total"] - self._before.values["riskbeat_events_total"]
        )
        decisions = float(self.tally.decided.sum())
        before_s, events_before, decisions_before = self._last
        span_s = max(elapsed_s - before_s, 1e-6)
        self._last = (elapsed_s, events, decisions)
        fresh = subtract(scrape.buckets[FRESHNESS], self._before.buckets[FRESHNESS])
        taken = subtract(scrape.buckets[DECISION], self._before.buckets[DECISION])
        frauds = float(self.tally.is_fraud[self.tally.decided].sum())
        done = stage == "done"
        return Figures(
            elapsed_s=elapsed_s,
            seconds=self._seconds,
            events=int(events),
            events_per_s=events / elapsed_s if done else (events - events_before) / span_s,
            freshness_p50_ms=quantile(fresh, 0.5) * 1000,
            freshness_p99_ms=quantile(fresh, 0.99) * 1000,
            decisions=int(decisions),
            decisions_per_s=decisions / elapsed_s
            if done
            else (decisions - decisions_before) / span_s,
            decision_p50_ms=quantile(taken, 0.5) * 1000,
            decision_p99_ms=quantile(taken, 0.99) * 1000,
            weights_version=int(scrape.largest.get("riskbeat_weights_version", 0)),
            weights_age_ms=scrape.values["riskbeat_weights_age_seconds"] * 1000,
            labels=int(scrape.values["riskbeat_labels_total"]),
            average_precision=self.tally.average_precision_so_far(),
            fraud_rate=frauds / decisions if decisions else math.nan,
            errors=self._errors(scrape),
            stage=stage,
        )

    def _errors(self, scrape: Scrape) -> int:
        """Count what should not happen on generated payments."""
        counted = (
            "riskbeat_rejects_total",
            "riskbeat_learn_rejects_total",
            "riskbeat_redis_errors_total",
            "riskbeat_weights_refused_total",
            "riskbeat_stream_rejected_events_total",
        )
        restarts = sum(self._stack.restarts.values())
        return int(sum(scrape.values[name] for name in counted)) + restarts + self.tally.degraded

    async def summary(self) -> dict[str, object]:
        """Return what the table showed, over the whole run; call after the `async with`."""
        figures = self._figures(self._now, self._elapsed_s, "done")
        ages = np.array(self.tally.weights_age_ms, np.float64)
        age_p99_ms = float(np.quantile(ages, 0.99)) if len(ages) else math.nan
        decided = int(self.tally.decided.sum())
        return {
            "seconds": round(self._elapsed_s, 3),
            "events": figures.events,
            "events_per_s": round(figures.events_per_s, 1),
            "freshness_ms": _pair(figures.freshness_p50_ms, figures.freshness_p99_ms),
            "decisions": decided,
            "decision_ms": _pair(figures.decision_p50_ms, figures.decision_p99_ms),
            "weights_versions": self._last_version - self._first_version,
            "weights_age_ms": {"p99": _rounded(age_p99_ms)},
            "average_precision": {
                "first_third": _rounded(self.tally.average_precision(0)),
                "last_third": _rounded(self.tally.average_precision(2)),
                "last_third_frozen": _rounded(self._frozen_precision()),
            },
            "frauds": {"first_third": self.tally.frauds(0), "last_third": self.tally.frauds(2)},
            "fraud_rate": _rounded(figures.fraud_rate),
            "errors": figures.errors + len(self.tally.is_fraud) - decided,
        }

    def _frozen_precision(self) -> float:
        """Score the last third's vectors with the weights of the first third's end."""
        if self._frozen is None:
            return math.nan
        keys = tuple(k for path in self._settings.public_key_paths for k in load_public_keys(path))
        held = assemble(self._frozen, keys)
        scorer = LocalScorer(self._spec.digest, self._spec.n_features, "demo", "cpu")
        scorer.load(held.weights, held.sha256)
        with scorer.snapshot() as snapshot:
            logit = snapshot.score_many(self.tally.vectors).logit.astype(np.float64)
        return self.tally.average_precision(2, logit)


def _rounded(value: float) -> float | None:
    """Return a figure for JSON, which has no NaN: null is what was not seen."""
    return None if math.isnan(value) else round(value, 4)


def _pair(p50: float, p99: float) -> dict[str, float | None]:
    return {"p50": _rounded(p50), "p99": _rounded(p99)}

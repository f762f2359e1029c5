"""settings → the part of a serve process that follows rollouts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from api.metrics import ServeMetrics
from api.rollout import Rollouts
from api.rollout_counts import ArmTally
from api.rollout_keep import KeepRules, RolloutKeeper
from api.rollout_lines import CandidateLoader, Line, LineNews, Lines, SwitchedScorer
from api.rollout_metrics import RolloutMetrics
from api.watch import WeightsWatcher
from features.client_redis import Client
from features.spec import Spec
from models.audit_trail import Trail
from models.decision import DecisionRecord
from models.registry_redis import RedisWeightsRegistry
from models.rollout import MAIN, RolloutAct, RolloutState, Target
from models.rollout_redis import RedisRolloutStore
from models.scorer import Scorer
from models.signing import PublicKey
from riskbeat.noted import NotedRollouts
from riskbeat.settings import Settings

LEASE_STEPS = 3.0
"""Steps that a deciding worker may miss before another decides."""
NEWS_WAIT_S = 1.0

log = structlog.get_logger("rollout")


class RolloutHeard:
    """Writes down what happens to rollouts, in the log and in the metrics."""

    def __init__(self, metrics: RolloutMetrics) -> None:
        """Take the metrics."""
        self._metrics = metrics

    def rollout_changed(self, act: RolloutAct) -> None:
        """This worker moved a rollout on, promoted it, or turned it back."""
        self._metrics.changed(act)
        write = log.warning if act.act == "rollback" else log.info
        write(
            "rollout.changed",
            act=act.act,
            rollout=act.number,
            candidate=act.candidate,
            share=act.share,
            why=act.why,
        )

    def rollout_seen(self, state: RolloutState) -> None:
        """The state was read."""
        self._metrics.seen(state)

    def rollout_blind(self, detail: str) -> None:
        """No candidate answers here until the state can be read again."""
        self._metrics.blinded()
        log.warning("rollout.blind", detail=detail)


@dataclass(frozen=True, slots=True)
class RolloutParts:
    """What of a serve process concerns rollouts."""

    scorer: SwitchedScorer
    rollouts: Rollouts
    store: RedisRolloutStore
    keeper: RolloutKeeper
    tally: ArmTally
    metrics: RolloutMetrics

    def decided(self, records: Sequence[DecisionRecord]) -> None:
        """A door decided a batch."""
        if self.rollouts.running is not None:
            self.tally.observe(records)
            self.metrics.observe(records)


@dataclass(frozen=True, slots=True)
class Around:
    """What the rest of the process lends.

    Attributes:
        make_scorer: A scorer for one more line.
        failed: Hears that a registry did not answer.
        trail: Takes what is done here.
    """

    client: Client
    registry: RedisWeightsRegistry
    scorer: Scorer
    make_scorer: Callable[[], Scorer]
    public_keys: Sequence[PublicKey]
    worker: str
    metrics: ServeMetrics
    failed: Callable[[str], None]
    trail: Trail
    now_ms: Callable[[], int]


def build_rollouts(settings: Settings, spec: Spec, around: Around) -> RolloutParts:
    """Put together what follows rollouts; nothing connects here."""
    rollouts = Rollouts(settings.rollout_shadow_budget_s, settings.rollout_shadow_until_s)
    scorer, tally = SwitchedScorer(around.scorer), ArmTally()
    metrics = RolloutMetrics(around.metrics.registry)
    store = NotedRollouts(
        around.trail,
        around.client,
        settings.redis_prefix,
        spec.digest,
        settings.rollout_report_ttl_s,
    )

    def make_line(name: str) -> Line:
        registry = RedisWeightsRegistry(
            around.client,
            settings.redis_prefix,
            spec.digest,
            poll_s=settings.weights_poll_s,
            line=name,
        )
        return Line(registry, around.make_scorer())

    def open_line(name: str, line: Line) -> WeightsWatcher:
        log.info("line.followed", line=name)
        news = LineNews(line, around.failed)
        keys = tuple(around.public_keys)
        return WeightsWatcher(line.registry, line.scorer, keys, around.worker, news, NEWS_WAIT_S)

    def load(line: Line, target: Target) -> CandidateLoader:
        return CandidateLoader(line, target, around.public_keys)

    rules = KeepRules(
        worker=around.worker,
        step_s=settings.rollout_poll_s,
        lease_ttl_s=LEASE_STEPS * settings.rollout_poll_s,
        blind_s=settings.rollout_blind_s,
    )
    keeper = RolloutKeeper(
        rules,
        spec,
        store,
        rollouts,
        tally,
        Lines(MAIN, Line(around.registry, around.scorer), open_line, make_line),
        scorer,
        load,
        RolloutHeard(metrics),
        around.now_ms,
        time.monotonic,
    )
    parts = RolloutParts(scorer, rollouts, store, keeper, tally, metrics)
    around.metrics.observers.append(parts.decided)
    return parts

"""settings → the learner process: one per deployment; decisions and labels in, weights out."""

import asyncio
import dataclasses
import importlib.metadata
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

import structlog

from features.client_redis import Client
from features.spec import Spec
from features.trace import Tracer
from models.audit_trail import Trail, writing
from models.ensemble import Ensemble
from models.learner import StateMismatch
from models.learners import make
from models.plan import PlanMismatch
from models.registry import RegistryUnavailable, VersionConflict
from models.registry_redis import RedisWeightsRegistry
from models.rollout_redis import RedisRolloutStore
from models.signing import Signer, ensure_keys
from models.space import space_of
from models.warm_up import warm_up
from pipeline.guard_metrics import GuardMetrics
from pipeline.join import JoinBusy
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.judge_arms import ArmJudge
from pipeline.learn import LearnRules, LearnStep
from pipeline.learn_duty import LabelsTaken, begin_anew
from pipeline.learn_kafka import KafkaLearnLog, LogMoved
from pipeline.learn_loop import LearnLoop, LoopRules, ParseRules
from pipeline.learn_metrics import LearnMetrics
from pipeline.learn_ports import Inspector
from pipeline.publish import CheckpointLost, Publisher, PublishRules
from pipeline.step_ports import Company
from pipeline.tenure import LeaseHeld, LeaseLost, Tenure
from pipeline.topics_kafka import TopicMismatch, ensure_topics
from riskbeat.audit import open_trail
from riskbeat.clock import now_ms
from riskbeat.commands_ops import plan_topics, plan_weights
from riskbeat.enter import Stopped, enter, owner_of
from riskbeat.guarding import Guarding
from riskbeat.judging import judge_log, telling
from riskbeat.learn_heard import Heard
from riskbeat.noted import NotedWeights
from riskbeat.room import measuring
from riskbeat.settings import Settings
from riskbeat.settings_load import SettingInvalid
from riskbeat.store import redis_client
from riskbeat.tracing import tracing

EXIT_FAILED = 1
EXIT_REFUSED = 3
REFUSED = (
    CheckpointLost,
    JoinBusy,
    LabelsTaken,
    LeaseHeld,
    LeaseLost,
    LogMoved,
    SettingInvalid,
    StateMismatch,
    TopicMismatch,
    VersionConflict,
)

log = structlog.get_logger("learn")


def run_learner(settings: Settings, *, anew: bool = False, standby: bool = False) -> int:
    """Learn until SIGTERM or SIGINT; return the exit code: 0 asked to stop, 1 failed, 3 refused.

    The feature spec, the data directory, the log and the registry must belong together; where they
    do not, the process ends and says which does not and what to do.

    Args:
        settings: Of the process.
        anew: Whether a checkpoint of another spec or recipe may be forgotten, and learning begun
            again on the same decisions, labels and numbers.
        standby: Whether to wait, loaded, while another learner runs, and to go on where it ends.

    Raises:
        SpecError: The feature spec cannot be read.
        BadKeys: The key pair cannot be read or made.
    """
    metrics = LearnMetrics(time.time)
    with tracing(settings, "learn", metrics.registry) as tracer:
        return asyncio.run(_learn(settings, metrics, tracer, anew, standby))


async def _learn(
    settings: Settings, metrics: LearnMetrics, tracer: Tracer | None, anew: bool, standby: bool
) -> int:
    spec = Spec.load(settings.spec_path)
    signer = ensure_keys(settings.signing_key_path, settings.public_key_paths[0])
    metrics.serve(settings.metrics_port, settings.metrics_host, settings.metrics_tls)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = redis_client(settings)
    trail = open_trail(settings)
    registry = NotedWeights(
        trail,
        client,
        settings.redis_prefix,
        spec.digest,
        settings.weights_kept,
        line=settings.line,
    )
    path = settings.data_dir / "learn" / "join.sqlite"
    ttl_s = settings.learn_lease_ttl_s
    tenure = Tenure(registry, owner_of(path), ttl_s, time.monotonic)
    journal = KafkaLearnLog(
        settings.kafka_options(),
        settings.topics,
        spec.digest,
        settings.model_name,
        now_ms,
        traced=tracer is not None,
    )
    warm_up(make_ensemble(settings, spec), spec.n_features, signer)
    try:
        await ensure_topics(
            settings.kafka_options(),
            [*plan_topics(settings), plan_weights(settings, spec)],
            replication=settings.topic_replication,
        )
        await journal.start()
        room = settings.join_max_bytes
        store = await enter(path, registry, tenure, ttl_s, stop, standby=standby, bytes_max=room)
        around = _Around(
            settings, spec, metrics, tracer, signer, registry, tenure, journal, client, trail
        )
        with closing(store):
            await _run(around, store, anew, stop)
    except Stopped:
        log.info("learn.stopped")
        return 0
    except REFUSED as error:
        log.error("learn.refused", reason=type(error).__name__, detail=str(error))
        return EXIT_REFUSED
    except Exception as error:
        log.exception("learn.failed", error=repr(error))
        return EXIT_FAILED
    finally:
        with suppress(RegistryUnavailable):  # it ends by itself
            await tenure.leave()
        await journal.stop()
        await client.aclose()
    log.info("learn.stopped")
    return 0


@dataclass(frozen=True, slots=True)
class _Around:
    """What a learner is connected to."""

    settings: Settings
    spec: Spec
    metrics: LearnMetrics
    tracer: Tracer | None
    signer: Signer
    registry: RedisWeightsRegistry
    tenure: Tenure
    journal: KafkaLearnLog
    client: Client
    trail: Trail


async def _run(around: _Around, store: SqliteJoinStore, anew: bool, stop: asyncio.Event) -> None:
    """Put the learner together around its store, and run it until it is told to stop."""
    settings, spec, metrics = around.settings, around.spec, around.metrics
    ensemble = make_ensemble(settings, spec)
    sink = judge_log(settings, store, ensemble.predictors, metrics)
    guarding = Guarding(settings, space_of(spec), sink, GuardMetrics(metrics.registry))
    arms = ArmJudge()
    company = dataclasses.replace(guarding.company, arms=arms)
    step = make_step(settings, spec, store, ensemble, company)
    if anew:
        _begin_anew(step, store)
    heard = Heard(metrics, lambda: guarding.tell(step.position.clock_ms), around.tracer)
    publisher = _publisher(
        settings,
        around.signer,
        around.journal,
        store,
        step,
        around.registry,
        around.tenure,
        heard,
        sink.committed,
        guarding,
    )
    rules = loop_rules(settings, spec)
    loop = LearnLoop(rules, around.journal, step, publisher, around.tenure, heard, time.monotonic)
    log.info("learn.started", spec=spec.digest[:12], features=spec.n_features)
    rollouts = RedisRolloutStore(around.client, settings.redis_prefix, spec.digest)
    async with (
        telling(arms, rollouts, speaks=not settings.line),
        writing(around.trail),
        measuring(settings, metrics, around.journal, store, around.client),
    ):
        await loop.run(stop)
    sink.close()


def make_ensemble(settings: Settings, spec: Spec) -> Ensemble:
    """Return the ensemble of these settings, as it is before it learned.

    Raises:
        SettingInvalid: A learner is not installed, or refuses an option.
    """
    plan = settings.plan(settings.model_name)
    try:
        return Ensemble(space_of(spec), plan, settings.learn_seed, make)
    except ValueError as error:  # there is no such learner, or it has no such option
        raise SettingInvalid("RISKBEAT_LEARNERS or RISKBEAT_CHALLENGERS", str(error)) from error


def make_step(
    settings: Settings, spec: Spec, store: SqliteJoinStore, ensemble: Ensemble, company: Company
) -> LearnStep:
    """Return the learning step of these settings, on a join store."""
    step_rules = LearnRules(
        n_features=spec.n_features,
        label_partitions=settings.labels_partitions,
        legit_after_ms=round(settings.legit_after_s * 1000),
        horizon_ms=round(settings.label_horizon_s * 1000),
        sends_labels=settings.learn_sends_labels,
        feedback_sources=settings.feedback_sources,
        traced=settings.trace_sample > 0,
    )
    return LearnStep(step_rules, store, ensemble, company)


def _begin_anew(step: LearnStep, store: SqliteJoinStore) -> None:
    """Forget what was learned if it does not fit; what fits is kept, so the flag may stay."""
    try:
        step.restore()
    except StateMismatch as error:
        begin_anew(store, keep_vectors=isinstance(error, PlanMismatch))
        log.warning("learn.begun_anew", because=str(error))


def loop_rules(settings: Settings, spec: Spec) -> LoopRules:
    """Return what the loop is told."""
    return LoopRules(
        parse=ParseRules(
            event_rules=spec.event_rules,
            spec_digest=spec.digest,
            n_features=spec.n_features,
            currencies=spec.currencies,
        ),
        publish_interval_s=settings.publish_interval_s,
        quiet_interval_s=min(settings.publish_quiet_s, settings.publish_interval_s),
    )


def _publisher(
    settings: Settings,
    signer: Signer,
    journal: KafkaLearnLog,
    store: SqliteJoinStore,
    step: LearnStep,
    registry: RedisWeightsRegistry,
    tenure: Tenure,
    heard: Heard,
    after_commit: Callable[[], None],
    inspector: Inspector,
) -> Publisher:
    rules = PublishRules(
        code_version=importlib.metadata.version("riskbeat"),
        keep_versions=settings.weights_kept,
        full_every=settings.weights_full_every,
        sends_labels=settings.learn_sends_labels,
    )
    return Publisher(
        rules,
        journal,
        store,
        step,
        registry,
        tenure,
        signer,
        heard,
        now_ms,
        time.monotonic,
        inspector,
        after_commit,
    )

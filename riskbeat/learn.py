"""settings → the learner process: one per deployment; decisions and labels in, weights out."""

import asyncio
import importlib.metadata
import signal
import time
from contextlib import closing

import structlog

from features.client_redis import Client
from features.spec import Spec
from models.ensemble import Ensemble
from models.learner import StateMismatch
from models.learners import make
from models.plan import PlanMismatch
from models.registry import VersionConflict
from models.registry_redis import RedisWeightsRegistry
from models.signing import Signer, ensure_keys
from models.space import space_of
from pipeline.join import JoinBusy
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.learn import LearnRules, LearnStep
from pipeline.learn_duty import LabelsTaken, begin_anew
from pipeline.learn_kafka import KafkaLearnLog, LogMoved
from pipeline.learn_loop import CheckpointLost, LearnLoop, LoopRules
from pipeline.metrics import LearnMetrics
from pipeline.position import StepCounts
from pipeline.step_ports import Company
from pipeline.topics_kafka import TopicMismatch, ensure_topics
from riskbeat.commands_ops import plan_topics, plan_weights
from riskbeat.settings import Settings
from riskbeat.store import redis_client

EXIT_FAILED = 1
EXIT_REFUSED = 3
REFUSED = (
    CheckpointLost,
    JoinBusy,
    LabelsTaken,
    LogMoved,
    StateMismatch,
    TopicMismatch,
    VersionConflict,
)

log = structlog.get_logger("learn")


class Heard:
    """Writes down what the loop does, in the log and in the metrics."""

    def __init__(self, metrics: LearnMetrics) -> None:
        """Take the metrics."""
        self._metrics = metrics

    def stepped(self, counts: StepCounts, rejects: int, seconds: float) -> None:
        """One batch was taken in."""
        self._metrics.stepped(counts, rejects, seconds)
        if rejects:
            log.warning("learn.rejected", records=rejects)

    def published(self, version: int, created_at_ms: int, figures: dict[str, float]) -> None:
        """A version is on the shelf."""
        self._metrics.published(version, created_at_ms, figures)
        shown = {name: round(value, 4) for name, value in figures.items()}
        log.info("weights.published", weights_version=version, **shown)


def run_learner(settings: Settings, *, anew: bool = False) -> int:
    """Learn until SIGTERM or SIGINT; return the exit code: 0 asked to stop, 1 failed, 3 refused.

    The feature spec, the data directory, the log and the registry must belong together; where they
    do not, the process ends and says which does not and what to do.

    Args:
        settings: Of the process.
        anew: Whether a checkpoint of another spec or recipe may be forgotten, and learning begun
            again on the same decisions, labels and numbers.

    Raises:
        SpecError: The feature spec cannot be read.
        BadKeys: The key pair cannot be read or made.
    """
    return asyncio.run(_learn(settings, anew))


async def _learn(settings: Settings, anew: bool) -> int:
    spec = Spec.load(settings.spec_path)
    signer = ensure_keys(settings.signing_key_path, settings.public_key_paths[0])
    metrics = LearnMetrics(time.time)
    metrics.serve(settings.metrics_port, settings.metrics_host)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = redis_client(settings)
    journal = KafkaLearnLog(
        settings.kafka_options(), settings.topics, spec.digest, settings.model_name, _now_ms
    )
    try:
        with closing(_open_store(settings)) as store:
            await ensure_topics(
                settings.kafka_options(),
                [*plan_topics(settings), plan_weights(settings, spec)],
                replication=settings.topic_replication,
            )
            await journal.start()
            step = _step(settings, spec, store)
            if anew:
                _begin_anew(step, store)
            loop = _loop(settings, spec, signer, store, step, journal, client, Heard(metrics))
            log.info("learn.started", spec=spec.digest[:12], features=spec.n_features)
            await loop.run(stop)
    except REFUSED as error:
        log.error("learn.refused", reason=type(error).__name__, detail=str(error))
        return EXIT_REFUSED
    except Exception as error:
        log.exception("learn.failed", error=repr(error))
        return EXIT_FAILED
    finally:
        await journal.stop()
        await client.aclose()
    log.info("learn.stopped")
    return 0


def _open_store(settings: Settings) -> SqliteJoinStore:
    path = settings.data_dir / "learn" / "join.sqlite"
    return SqliteJoinStore(path, bytes_max=settings.join_max_bytes)


def _step(settings: Settings, spec: Spec, store: SqliteJoinStore) -> LearnStep:
    step_rules = LearnRules(
        n_features=spec.n_features,
        label_partitions=settings.labels_partitions,
        legit_after_ms=round(settings.legit_after_s * 1000),
        horizon_ms=round(settings.label_horizon_s * 1000),
        sends_labels=settings.learn_sends_labels,
        feedback_sources=settings.feedback_sources,
    )
    ensemble = Ensemble(
        space_of(spec), settings.plan(settings.model_name), settings.learn_seed, make
    )
    return LearnStep(step_rules, store, ensemble, Company())


def _begin_anew(step: LearnStep, store: SqliteJoinStore) -> None:
    """Forget what was learned if it does not fit; what fits is kept, so the flag may stay."""
    try:
        step.restore()
    except StateMismatch as error:
        begin_anew(store, keep_vectors=isinstance(error, PlanMismatch))
        log.warning("learn.begun_anew", because=str(error))


def _loop(
    settings: Settings,
    spec: Spec,
    signer: Signer,
    store: SqliteJoinStore,
    step: LearnStep,
    journal: KafkaLearnLog,
    client: Client,
    heard: Heard,
) -> LearnLoop:
    loop_rules = LoopRules(
        event_rules=spec.event_rules,
        spec_digest=spec.digest,
        n_features=spec.n_features,
        code_version=importlib.metadata.version("riskbeat"),
        publish_interval_s=settings.publish_interval_s,
        quiet_interval_s=min(settings.publish_quiet_s, settings.publish_interval_s),
        keep_versions=settings.weights_kept,
        sends_labels=settings.learn_sends_labels,
    )
    registry = RedisWeightsRegistry(
        client, settings.redis_prefix, spec.digest, settings.weights_kept
    )
    return LearnLoop(
        loop_rules, journal, store, step, registry, signer, heard, _now_ms, time.monotonic
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

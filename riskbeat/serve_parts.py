"""settings → the parts of a serve process, put together; nothing connects here."""

import importlib.metadata
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import structlog

from api.admin_http import AdminDeps
from api.answer import Told
from api.breaker import Breakers, breakers_of
from api.decide import Decider
from api.decide_kafka import StreamDoor
from api.features import FeatureDesk
from api.metrics import ServeMetrics
from api.overlay import Overlay
from api.policy_watch import PolicyWatcher
from api.publish import SpoolingPublisher
from api.publish_kafka import KafkaPublisher
from api.rollout_keep import RolloutKeeper
from api.routes_http import HttpDeps
from api.spool import Spool
from api.spool_adopt import SpoolAdoption, claim_spool
from api.watch import WeightsWatcher
from features.client_redis import Client, RedisLink
from features.spec import Spec
from features.store_redis import RedisFeatureStore
from features.trace import Tracer
from models.audit_trail import Trail
from models.gates import GateBounds
from models.policy_ruling import Ruler
from models.registry_redis import RedisWeightsRegistry
from models.scorer_local import LocalScorer
from models.signing import PublicKey, load_public_keys
from riskbeat.asyncapi import asyncapi
from riskbeat.audit import open_audit, open_trail
from riskbeat.clock import now_ms
from riskbeat.policies import policy_watcher
from riskbeat.serve_asking import dry_runs
from riskbeat.serve_doors import a_stream_door, an_answerer, an_http_door
from riskbeat.serve_gate import Doorkeeper, doorkeeper
from riskbeat.serve_heard import Heard
from riskbeat.serve_rollout import Around, RolloutParts, build_rollouts
from riskbeat.settings import Settings
from riskbeat.store import feature_store, redis_client
from riskbeat.tracing import open_tracer

DRAIN_TIMEOUT_S = 5.0
PROBE_S = 0.5
NEWS_WAIT_S = 1.0

log = structlog.get_logger("serve")


@dataclass(slots=True)
class State:
    """What changes while a process lives.

    Attributes:
        taking: Whether requests are answered.
        leaving: Whether it was asked to stop, so that new ones should go elsewhere.
    """

    taking: bool = False
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that runs, stops or is shown."""

    settings: Settings
    state: State
    spec: Spec
    store: RedisFeatureStore
    metrics: ServeMetrics
    decider: Decider
    publisher: SpoolingPublisher
    adoption: SpoolAdoption
    watcher: WeightsWatcher
    keeper: RolloutKeeper
    stream: StreamDoor
    http: HttpDeps
    clients: Sequence[Client]
    doorkeeper: Doorkeeper
    policies: PolicyWatcher
    trail: Trail
    tracer: Tracer | None


def build_parts(settings: Settings, place: str = "") -> Parts:
    """Put the process together; `place` is its name among several on the port.

    Raises:
        SpecError: The feature spec cannot be read.
        PolicyError: The policy cannot be read.
        BadKeys: A public key file cannot be read.
    """
    spec = Spec.load(settings.spec_path)
    metrics, state = ServeMetrics(), State()
    tracer = open_tracer(settings, "serve", metrics.registry)
    fast, slow = clients = [redis_client(settings) for _ in range(2)]
    scorer = _scorer(settings, spec)
    heard = Heard(metrics, scorer, tracer)
    registry = RedisWeightsRegistry(
        slow, settings.redis_prefix, spec.digest, poll_s=settings.weights_poll_s
    )
    link = RedisLink(fast, piped=True)
    store = feature_store(settings, spec, link)
    trail = open_trail(settings)
    policies = policy_watcher(settings, spec, slow, metrics.policy, _scorer_id(), trail, now_ms)
    rolling = build_rollouts(
        settings, spec, _around(settings, spec, slow, registry, scorer, heard, metrics, trail)
    )
    decider = _decider(settings, spec, rolling, store, policies.ruler)
    publisher, adoption = _publisher(settings, place)
    watcher = WeightsWatcher(
        registry, scorer, _public_keys(settings), _scorer_id(), heard, NEWS_WAIT_S
    )
    keeper = doorkeeper(settings, slow, metrics, now_ms)
    version = importlib.metadata.version("riskbeat")
    admin = AdminDeps(
        version,
        rolling.scorer,
        registry,
        rolling.store,
        open_audit(settings),
        metrics,
        lambda: _health(decider, publisher, watcher) | {"keys": keeper.state},
        lambda: state.taking and not state.leaving,
        spec.event_rules,
        msgspec.json.encode(asyncapi(version, settings.topics)),
    )
    breakers = _breakers(settings, metrics)
    told = Told(heard.decided, heard.repeated)
    answerer = an_answerer(settings, spec, decider, publisher, link, told, breakers, tracer)
    trying = dry_runs(
        settings, spec, policies.ruler, store, rolling.scorer, decider.overlay, now_ms
    )
    desk = _desk(settings, spec, slow, metrics)
    http = an_http_door(settings, spec, answerer, publisher, admin, desk, trying, keeper, tracer)
    stream = a_stream_door(settings, spec, decider, metrics, tracer)
    return Parts(
        settings,
        state,
        spec,
        store,
        metrics,
        decider,
        publisher,
        adoption,
        watcher,
        rolling.keeper,
        stream,
        replace(http, ready=lambda: state.taking),
        clients,
        keeper,
        policies,
        trail,
        tracer,
    )


def _around(
    settings: Settings,
    spec: Spec,
    client: Client,
    registry: RedisWeightsRegistry,
    scorer: LocalScorer,
    heard: Heard,
    metrics: ServeMetrics,
    trail: Trail,
) -> Around:
    return Around(
        client,
        registry,
        scorer,
        lambda: _scorer(settings, spec),
        _public_keys(settings),
        _scorer_id(),
        metrics,
        heard.registry_failed,
        trail,
        now_ms,
    )


def _breakers(settings: Settings, metrics: ServeMetrics) -> Breakers:
    return breakers_of(
        settings.breaker_failures, settings.breaker_pause_s, settings.model_timeout_s, metrics
    )


def _desk(settings: Settings, spec: Spec, client: Client, metrics: ServeMetrics) -> FeatureDesk:
    return FeatureDesk(
        spec,
        feature_store(settings, spec, client),
        now_ms,
        metrics,
        timeout_s=settings.read_timeout_s,
        stale_after_s=settings.stale_after_s,
    )


def _scorer(settings: Settings, spec: Spec) -> LocalScorer:
    build = f"riskbeat-{importlib.metadata.version('riskbeat')}"
    bounds = GateBounds(
        step_logit=settings.gate_step_logit,
        psi=settings.gate_psi,
        alert_share=settings.gate_alert_share,
        alert_ratio=settings.gate_alert_ratio,
        free_labels=settings.gate_free_labels,
        rows_min=settings.gate_rows_min,
    )
    half = settings.scorer_dtype == "bfloat16"
    return LocalScorer(spec.digest, spec.n_features, build, settings.device, bounds, half=half)


def _decider(
    settings: Settings,
    spec: Spec,
    rolling: RolloutParts,
    store: RedisFeatureStore,
    ruler: Ruler,
) -> Decider:
    overlay = Overlay(
        settings.overlay_s,
        settings.overlay_max_events,
        settings.overlay_max_rows,
        spec.max_fields,
    )
    return Decider(
        spec,
        ruler,
        store,
        rolling.scorer,
        overlay,
        now_ms,
        rollouts=rolling.rollouts,
    )


def _publisher(settings: Settings, place: str) -> tuple[SpoolingPublisher, SpoolAdoption]:
    """Return the way into the log, and the one for what processes before us could not send."""
    folder, port = settings.data_dir / "spool", f"http-{settings.http_port}"
    claim = claim_spool(folder, f"{port}-{place}" if place else port)
    spool = Spool(claim.path, settings.spool_max_bytes)
    kafka = KafkaPublisher(settings.kafka_options(), _scorer_id())
    publisher = SpoolingPublisher(kafka, spool, settings.ack_timeout_s, DRAIN_TIMEOUT_S, PROBE_S)
    return publisher, SpoolAdoption(folder, f"{port}*.spool", claim, publisher)


def _public_keys(settings: Settings) -> tuple[PublicKey, ...]:
    return tuple(key for path in settings.public_key_paths for key in load_public_keys(path))


def _scorer_id() -> str:
    return f"riskbeat-serve-{socket.gethostname()}-{os.getpid()}"


def _health(
    decider: Decider, publisher: SpoolingPublisher, watcher: WeightsWatcher
) -> dict[str, str]:
    log_state = "ok"
    if publisher.away:
        log_state = f"away; {publisher.spool_bytes} bytes wait on disk"
    return {
        "features": decider.read_failure or "ok",
        "log": log_state,
        "weights": f"version {watcher.active}" if watcher.active else "none yet",
    }

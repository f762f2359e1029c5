"""settings, and what stands behind them → the doors of a serve process; nothing connects here."""

from api.admin_http import AdminDeps
from api.answer import Answerer, Told
from api.breaker import Breakers
from api.claims_redis import RedisClaims
from api.coalesce import Coalescer
from api.coalesce_rate import Limits
from api.decide import Decider
from api.decide_kafka import StreamDoor, StreamLimits
from api.dry_run import DryRuns
from api.features import FeatureDesk
from api.intake import Intake
from api.metrics import ServeMetrics
from api.publish import SpoolingPublisher
from api.routes_http import HttpDeps
from features.client_redis import RedisLink
from features.spec import Spec
from features.trace import Tracer
from models.decision_cloud import Stamp
from riskbeat.clock import now_ms
from riskbeat.serve_asking import lookups
from riskbeat.serve_gate import Doorkeeper
from riskbeat.settings import Settings

IN_FLIGHT_BATCHES = 4


def an_answerer(
    settings: Settings,
    spec: Spec,
    decider: Decider,
    publisher: SpoolingPublisher,
    link: RedisLink,
    told: Told,
    breakers: Breakers,
    tracer: Tracer | None,
) -> Answerer:
    """Return the step behind `POST /v1/decisions`."""
    claims = RedisClaims(
        link,
        settings.redis_prefix,
        settings.claim_ttl_s,
        settings.idempotency_window_s,
        settings.features_timeout_s,
    )
    return Answerer(
        spec,
        settings.topics,
        decider,
        claims,
        publisher,
        settings.features_timeout_s,
        told,
        breakers,
        stamp_of(settings),
        tracer,
    )


def an_http_door(
    settings: Settings,
    spec: Spec,
    answerer: Answerer,
    publisher: SpoolingPublisher,
    admin: AdminDeps,
    desk: FeatureDesk,
    trying: DryRuns,
    keeper: Doorkeeper,
    tracer: Tracer | None,
) -> HttpDeps:
    """Return what the HTTP routes stand on."""
    limits = Limits(
        settings.batch_max_requests,
        settings.queue_max_requests,
        settings.list_queue_max_events,
        IN_FLIGHT_BATCHES,
        settings.queue_target_s,
    )
    coalescer = Coalescer(answerer.answer_many, limits)
    return HttpDeps(
        spec,
        settings.topics,
        Intake(spec.event_rules, now_ms),
        answerer,
        coalescer,
        publisher,
        admin.metrics,
        admin,
        settings.deadline_s,
        settings.list_deadline_s,
        admin.ready,
        desk,
        trying,
        lookups(settings, now_ms),
        keeper.gate,
        tracer,
    )


def a_stream_door(
    settings: Settings,
    spec: Spec,
    decider: Decider,
    metrics: ServeMetrics,
    tracer: Tracer | None,
) -> StreamDoor:
    """Return the door that decides the events topic."""
    limits = StreamLimits(
        settings.stream_batch_events,
        settings.stream_features_timeout_s,
        settings.stream_ack_timeout_s,
        settings.kafka_session_timeout_s,
    )
    return StreamDoor(
        settings.kafka_options(),
        settings.topics,
        f"{settings.topic_prefix}decide",
        spec.event_rules,
        decider,
        metrics,
        limits,
        now_ms,
        stamp=stamp_of(settings),
        tracer=tracer,
    )


def stamp_of(settings: Settings) -> Stamp | None:
    """Return what makes CloudEvents of decisions; None where they are plain."""
    return None if settings.decisions_source is None else Stamp(settings.decisions_source)

"""settings → one featurize worker: events and labels in, window states in Redis out."""

from dataclasses import replace

from features.spec import Spec
from pipeline.featurize import FeaturizeLimits
from pipeline.featurize_config import FeaturizeConfig
from pipeline.rebuild_faust import run_rebuild
from pipeline.run_faust import run_worker
from riskbeat.settings import DAY_S, Settings
from riskbeat.store import feature_store
from riskbeat.tracing import tracing


def run_featurize(settings: Settings) -> int:
    """Run one worker until a signal asks to stop, or it fails; return the exit code.

    Raises:
        SpecError: The feature spec cannot be read.
    """
    config = featurize_config(settings, Spec.load(settings.spec_path))
    with tracing(settings, "featurize") as tracer:
        return run_worker(replace(config, tracer=tracer))


def rebuild_features(settings: Settings) -> int:
    """Fill a new epoch of the store from the log's start and let it live; return the exit code.

    Raises:
        SpecError: The feature spec cannot be read.
    """
    return run_rebuild(featurize_config(settings, Spec.load(settings.spec_path)))


def featurize_config(settings: Settings, spec: Spec) -> FeaturizeConfig:
    """Return what a featurize worker is told by the settings."""
    limits = FeaturizeLimits(
        route_max_records=settings.fetch_max_records,
        update_record_max_bytes=settings.update_record_max_bytes,
        commit_max_bytes=settings.commit_max_bytes,
        cache_max_bytes=settings.cache_max_bytes,
        range_heartbeat_s=settings.range_heartbeat_s,
        idle_heartbeat_s=settings.fresh_heartbeat_s,
    )
    return FeaturizeConfig(
        spec=spec,
        store=feature_store(settings, spec),
        kafka_options=settings.kafka_options(),
        topics=settings.topics,
        events_partitions=settings.events_partitions,
        label_partitions=settings.labels_partitions,
        updates_partitions=settings.updates_partitions,
        replication=settings.topic_replication,
        retention_days=round(settings.events_retention_s / DAY_S),
        updates_retention_ms=round(settings.updates_retention_s * 1000),
        limits=limits,
        session_timeout_s=settings.kafka_session_timeout_s,
        instance_id=settings.kafka_instance_id,
        store_wait_s=settings.store_wait_s,
        stall_s=settings.stall_s,
        metrics_port=settings.metrics_port,
        metrics_address=settings.metrics_host,
        metrics_tls=settings.metrics_tls,
        data_dir=settings.data_dir / "featurize",
    )

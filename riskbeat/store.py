"""settings → the feature store that they name."""

from features.client_redis import connect_redis
from features.spec import Spec
from features.store_redis import RedisFeatureStore
from riskbeat.settings import Settings


def feature_store(settings: Settings, spec: Spec, epoch: int = 0) -> RedisFeatureStore:
    """Return the feature store that the settings name; nothing connects yet."""
    client = connect_redis(
        settings.redis_address,
        cluster=settings.redis_cluster,
        timeout_s=settings.redis_timeout_s,
    )
    return RedisFeatureStore(
        client,
        prefix=settings.redis_prefix,
        partitions=settings.updates_partitions,
        spec_digest=spec.digest,
        ttl_s=spec.ttl_s,
        updates_topic=settings.topics.updates,
        epoch=epoch,
    )

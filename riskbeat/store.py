"""settings → the store that they name: a client of it, and the features in it."""

from features.client_redis import Client, RedisLink, connect_redis
from features.spec import Spec
from features.store_redis import RedisFeatureStore
from riskbeat.settings import Settings


def redis_client(settings: Settings) -> Client:
    """Return a client of the store; it connects when it is first used."""
    return connect_redis(
        settings.redis_address,
        cluster=settings.redis_cluster,
        timeout_s=settings.redis_timeout_s,
        login=settings.redis_login(),
    )


def feature_store(
    settings: Settings, spec: Spec, client: Client | RedisLink | None = None, epoch: int = 0
) -> RedisFeatureStore:
    """Return the feature store, over a client of its own unless one is given."""
    return RedisFeatureStore(
        client or redis_client(settings),
        prefix=settings.redis_prefix,
        partitions=settings.updates_partitions,
        spec_digest=spec.digest,
        ttl_s=spec.ttl_s,
        updates_topic=settings.topics.updates,
        epoch=epoch,
    )

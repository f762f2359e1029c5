"""The servers of the live tests, for the contracts' real doors."""

from tests.live.conftest import (
    kafka_bootstrap,
    kafka_broker,
    pytest_terminal_summary,
    redis_prefix,
    redis_store,
    redis_url,
    topic_prefix,
)

__all__ = [
    "kafka_bootstrap",
    "kafka_broker",
    "pytest_terminal_summary",
    "redis_prefix",
    "redis_store",
    "redis_url",
    "topic_prefix",
]

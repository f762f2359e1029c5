"""Kafka options → does a broker answer?"""

import asyncio
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError


class KafkaSilent(ConnectionError):
    """No broker answered a metadata request in time."""


async def probe_kafka(options: dict[str, Any], timeout_s: float) -> int:
    """Ask for the cluster's metadata; return how many brokers there are.

    Raises:
        KafkaSilent: No answer within `timeout_s`, or a refusal; says which.
    """
    admin = AIOKafkaAdminClient(**options)
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            cluster = await admin.describe_cluster()
            return len(cluster["brokers"])
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaSilent(f"{options['bootstrap_servers']}: {error or 'no answer'}") from error
    finally:
        await admin.close()

"""access → Kafka's ACLs: what each process' user may do, told to a broker that refuses the rest."""

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest

from riskbeat.access import KafkaRule

RESOURCES = {"topic": 2, "group": 3}
PATTERNS = {"literal": 3, "prefixed": 4}
OPERATIONS = {"READ": 3, "WRITE": 4, "DESCRIBE": 8}
ALLOW = 3
ANY_HOST = "*"


class AccessRefused(RuntimeError):
    """The broker did not take a rule, or did not answer."""


async def allow(kafka_options: Mapping[str, Any], rules: Iterable[KafkaRule]) -> int:
    """Tell the broker every rule; one that it knows is no error. Return how many.

    Raises:
        AccessRefused: No answer, no right to say so, or no authorizer; the first, by name.
    """
    client = AIOKafkaClient(**kafka_options)
    count = 0
    try:
        await client.bootstrap()
        for rule in rules:
            answer = await client.send(client.get_random_node(), _request(rule))
            for code, detail in answer.creation_responses:
                if code:
                    raise AccessRefused(f"{_told(rule)}: {for_code(code).__name__}: {detail or ''}")
            count += 1
    except (KafkaError, OSError) as error:
        raise AccessRefused(f"{type(error).__name__}: {error}") from error
    finally:
        await client.close()
    return count


def _request(rule: KafkaRule) -> CreateAclsRequest:
    return CreateAclsRequest(
        RESOURCES[rule.resource],
        rule.name,
        PATTERNS[rule.pattern],
        f"User:{rule.user}",
        ANY_HOST,
        OPERATIONS[rule.operation],
        ALLOW,
    )


def _told(rule: KafkaRule) -> str:
    return f"{rule.user}: {rule.operation} {rule.resource} {rule.name} ({rule.pattern})"

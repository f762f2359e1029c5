"""What is sent again because nothing was heard of it may stand in the log twice."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, NotLeaderForPartitionError

from api import publish_kafka
from api.publish import UNKNOWN_POSITION, Outgoing, Position
from api.publish_kafka import KafkaPublisher

RECORDS = [Outgoing("t", b"k", b"v%d" % i) for i in range(2)]
FIRST_OFFSET = 7


class Broker:
    """Stands for the library's client, and one broker behind it.

    Attributes:
        answers: What becomes of each request, in turn: an error to raise, or a code to answer with.
    """

    def __init__(self, answers: list[Exception | int]) -> None:
        self.answers = answers
        self.cluster = SimpleNamespace(
            partitions_for_topic=lambda _topic: {0}, leader_for_partition=lambda _place: 0
        )

    async def bootstrap(self) -> None: ...

    async def close(self) -> None: ...

    def force_metadata_update(self) -> None: ...

    async def _maybe_wait_metadata(self) -> None: ...

    async def send(self, _node: int, _request: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(topics=[("t", [(0, answer, FIRST_OFFSET)])])


async def published(monkeypatch: pytest.MonkeyPatch, *answers: Exception | int) -> list[Position]:
    broker = Broker(list(answers))
    monkeypatch.setattr(publish_kafka, "AIOKafkaClient", lambda **_options: broker)
    publisher = KafkaPublisher({}, "test")
    await publisher.start()
    positions = await publisher.publish_many(RECORDS, 5.0)
    assert broker.answers == []
    await publisher.stop()
    return positions


async def test_what_is_taken_at_once_has_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await published(monkeypatch, 0) == [Position(0, 7), Position(0, 8)]


@pytest.mark.parametrize(
    "first", [KafkaConnectionError(), NotLeaderForPartitionError.errno], ids=["lost", "refused"]
)
async def test_what_is_sent_again_has_none(
    monkeypatch: pytest.MonkeyPatch, first: Exception | int
) -> None:
    assert await published(monkeypatch, first, 0) == [UNKNOWN_POSITION] * 2

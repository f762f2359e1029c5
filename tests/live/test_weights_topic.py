"""Versions of every size, and deltas with what they stand on, come back from the weights topic."""

import dataclasses
from collections.abc import AsyncIterator

import numpy as np
import pytest

from features.topics import Topics
from models.weights import Weights, encode
from models.weights_delta import encode_delta
from pipeline.learn_kafka import KafkaLearnLog
from pipeline.pieces import PIECE_BYTES, pieces_of
from pipeline.topics_kafka import TopicPlan, ensure_topics
from riskbeat.commands_ops import WEIGHTS_MAX_MESSAGE_BYTES
from tests.builders_weights import SIGNER, some_weights

pytestmark = pytest.mark.live

DIGEST = "d" * 64
WEEK_MS = 7 * 86_400_000


def a_version(number: int, megabytes: int = 0) -> Weights:
    """A version; a large one holds an array that nothing looks at here."""
    weights = dataclasses.replace(some_weights(DIGEST, 4), version=number)
    filling = np.random.default_rng(number).random(megabytes << 18, np.float32)
    return dataclasses.replace(weights, arrays={**weights.arrays, "filling": filling})


@pytest.fixture
async def log(kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[KafkaLearnLog]:
    topics, options = Topics(topic_prefix), {"bootstrap_servers": kafka_bootstrap}
    weights = TopicPlan(topics.weights(DIGEST), 1, WEEK_MS, WEIGHTS_MAX_MESSAGE_BYTES)
    plans = [TopicPlan(name, 1, WEEK_MS) for name in (topics.decisions, topics.labels, topics.dead)]
    await ensure_topics(options, [*plans, weights])
    journal = KafkaLearnLog(options, topics, DIGEST, "champion", lambda: 1)
    await journal.start()
    yield journal
    await journal.stop()


async def test_an_empty_topic_holds_no_version(log: KafkaLearnLog) -> None:
    assert await log.last_weights_version() == 0
    assert await log.read_weights(1, 5) == {}


async def test_a_large_version_comes_back_whole(log: KafkaLearnLog) -> None:
    small, large = encode(a_version(1), SIGNER), encode(a_version(2, 20), SIGNER)
    assert len(list(pieces_of(large))) == 3
    assert len(large) > 2 * PIECE_BYTES
    for _ in range(2):  # a learner that dies between sending and the next step sends again
        await log.send_weights(1, small)
        await log.send_weights(2, large)
    await log.send_cuts(3, 0, b"[]")
    assert await log.last_weights_version() == 2
    assert await log.read_weights(1, 2) == {1: small, 2: large}
    assert await log.read_weights(2, 2) == {2: large}


async def test_a_version_that_was_sent_in_part_is_none(log: KafkaLearnLog) -> None:
    small = encode(a_version(1), SIGNER)
    await log.send_weights(1, small)
    large = encode(a_version(2, 9), SIGNER)
    await send_first_piece(log, large)
    assert await log.last_weights_version() == 1
    assert await log.read_weights(1, 2) == {1: small}
    await log.send_weights(2, large)
    assert await log.last_weights_version() == 2
    assert await log.read_weights(2, 2) == {2: large}


async def test_a_delta_comes_with_all_that_it_stands_on(log: KafkaLearnLog) -> None:
    versions = [a_version(number) for number in range(1, 41)]
    sent = {}
    for before, weights in zip([None, *versions], versions, strict=False):
        full = before is None or weights.version == 31
        data = encode(weights, SIGNER) if full else encode_delta(before, weights, SIGNER)
        sent[weights.version] = data
        await log.send_weights(weights.version, data)
    assert await log.read_weights(29, 32) == {n: sent[n] for n in range(1, 33)}
    assert await log.read_weights(35, 36) == {n: sent[n] for n in range(31, 37)}
    assert await log.read_weights(41, 40) == {}


async def send_first_piece(log: KafkaLearnLog, data: bytes) -> None:
    """As far as a learner comes that is killed while it sends."""
    headers, piece = next(pieces_of(data))
    await log._send_all([(*log._weights, b"champion:2", piece, headers)])

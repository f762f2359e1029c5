"""A store full of cards, a log, a published version, and the step between them, in one process."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from api.answer import Answerer, Told
from api.claims_redis import RedisClaims
from api.decide import Decider
from api.intake import Intake
from api.metrics import ServeMetrics
from api.overlay import Overlay
from api.publish import SpoolingPublisher
from api.publish_kafka import KafkaPublisher
from api.seen import Asked
from api.spool import Spool
from features.client_redis import RedisLink, connect_redis
from features.event import Amount, Event, identity_of, partition_of
from features.spec import Spec
from features.store import Commit, SourceMark, Watermarks
from features.store_redis import RedisFeatureStore
from features.topics import Topics
from features.update import updates_of_events
from features.window import apply_many
from load_tests.features_servers import Servers
from load_tests.kernel import DAYS, START
from load_tests.report import ROOT
from load_tests.weights import a_network, a_version, balanced_trees
from models.decision import Source
from models.policy_cel import CelCompiler
from models.policy_ruling import Ruler, compile_policy
from models.scorer_local import LocalScorer
from models.signing import Signer
from models.weights import Weights, decode_verified, encode
from pipeline.topics_kafka import TopicPlan, ensure_topics
from riskbeat.clock import now_ms

CARDS = 1_000
MERCHANTS = 400
ADDRESSES = 2_000
PAYMENTS = 60
PARTITIONS = 8
TOPIC_PARTITIONS = 4
FEATURES_TIMEOUT_S = 1.0  # what is measured is cost; a slow neighbour must not degrade answers
ACK_TIMEOUT_S = 5.0
OVERLAY_S = 2.0
ALL_APPLIED = 1 << 40  # marks of a worker that has applied whatever the log has placed
RANKED = 2_048
HOUR_S = 3600
HOUR_MS = HOUR_S * 1000


@dataclass
class Stage:
    """Everything that one decision touches."""

    spec: Spec
    topics: Topics
    intake: Intake
    store: RedisFeatureStore
    claims: RedisClaims
    scorer: LocalScorer
    decider: Decider
    publisher: SpoolingPublisher
    answerer: Answerer
    metrics: ServeMetrics


@asynccontextmanager
async def on_stage(servers: Servers) -> AsyncIterator[Stage]:
    """Fill the store, make the topics, load a version of a network and a forest; connect all."""
    spec = Spec.load(ROOT / "features.yaml")
    shipped = (ROOT / "policy.yaml").read_text()
    topics = Topics("step.")
    names = (topics.events, topics.decisions)
    plans = [TopicPlan(name, TOPIC_PARTITIONS, HOUR_MS) for name in names]
    kafka = {"bootstrap_servers": servers.kafka.address}
    await ensure_topics(kafka, plans)
    async with AsyncExitStack() as stack:
        client = connect_redis(servers.store.address)
        stack.push_async_callback(client.aclose)
        link = RedisLink(client, piped=True)
        store = RedisFeatureStore(
            link,
            prefix="step:",
            partitions=PARTITIONS,
            spec_digest=spec.digest,
            ttl_s=spec.ttl_s,
            updates_topic=topics.updates,
        )
        await fill(spec, store, ALL_APPLIED)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        publisher = SpoolingPublisher(
            KafkaPublisher(kafka, "step"), Spool(folder / "spool", 1 << 26), ACK_TIMEOUT_S, 5.0, 0.5
        )
        stack.push_async_callback(publisher.stop)
        assert await publisher.try_log()
        claims = RedisClaims(link, "step:", HOUR_S, HOUR_S, FEATURES_TIMEOUT_S)
        overlay = Overlay(OVERLAY_S, 20_000, 64, spec.max_fields)
        ruler = Ruler(spec, compile_policy(shipped, "policy.yaml", spec, CelCompiler))
        scorer = LocalScorer(spec.digest, spec.n_features, "step", "cpu")
        scorer.load(a_version_of(spec, np.linspace(0, 1, 1001, dtype=np.float32)), "0" * 64)
        decider = Decider(spec, ruler, store, scorer, overlay, now_ms)
        metrics = ServeMetrics()
        told = Told(
            lambda records, seconds: metrics.observe_batch(records, "http", seconds),
            lambda kind: metrics.repeats.labels(kind).inc(),
        )
        answerer = Answerer(spec, topics, decider, claims, publisher, FEATURES_TIMEOUT_S, told)
        intake = Intake(spec.event_rules, now_ms)
        stage = Stage(
            spec, topics, intake, store, claims, scorer, decider, publisher, answerer, metrics
        )
        await rank(stage, Bodies("ranked").make(RANKED))
        yield stage


def a_version_of(spec: Spec, quantiles: NDArray[np.float32]) -> Weights:
    """Return a signed version, as a scorer reads it: a network beside 200 trees of depth 6."""
    rng = np.random.default_rng(1)
    n = spec.n_features
    members = {
        "network": ("network", a_network(n, 0, rng)),
        "boosted": ("trees", balanced_trees(n, rng)),
    }
    signer = Signer(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
    weights = replace(a_version(members, n), schema_digest=spec.digest)
    weights = replace(weights, arrays={**weights.arrays, "quantiles": quantiles})
    return decode_verified(encode(weights, signer), [signer.public_key])


async def rank(stage: "Stage", bodies: Sequence[bytes]) -> None:
    """Load the version again with the quantiles of its own scores, as learners publish it."""
    asked = [Asked(stage.intake.question(body).event, Source(door="http")) for body in bodies]
    records = await stage.decider.decide_many(asked, FEATURES_TIMEOUT_S)
    for one in asked:  # none of them goes to the log, where a worker would find it
        stage.decider.overlay.forget(identity_of(one.event))
    p = np.array([record.score.value for record in records], dtype=np.float64)
    quantiles = np.quantile(p, np.linspace(0, 1, 1001)).astype(np.float32)
    stage.scorer.load(a_version_of(stage.spec, quantiles), "0" * 64)


async def fill(spec: Spec, store: RedisFeatureStore, applied_to: int) -> None:
    """Apply the payments of 30 days, and write the states as a worker does."""
    await store.attach()
    events = payments(CARDS * PAYMENTS, seed=1)
    updates = updates_of_events(spec, events)
    keys = list(dict.fromkeys(updates.keys))
    place = {key: index for index, key in enumerate(keys)}
    slots = np.array([place[key] for key in updates.keys], dtype=np.int64)
    states = dict(zip(keys, apply_many(spec, [b""] * len(keys), slots, updates), strict=True))
    until_ms = now_ms()
    marks = [SourceMark(next_offset=applied_to) for _ in range(TOPIC_PARTITIONS)]
    for partition in range(PARTITIONS):
        mine = {k: blob for k, blob in states.items() if partition_of(k, PARTITIONS) == partition}
        meta = await store.open_partition(partition, 0)
        commit = Commit(
            partition=partition,
            expected_offset=meta.next_offset,
            next_offset=meta.next_offset + 1,
            watermarks=Watermarks(e=marks, l=marks),
            fresh_until_ms=until_ms,
            states=mine,
        )
        await store.commit_batch(commit)


def payments(count: int, seed: int) -> list[Event]:
    """Return payments at random instants of 30 days, in order.

    Cards, their devices and addresses come alike often; merchants by Zipf's law, so that a few are
    in everybody's hands.
    """
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.uniform(0, DAYS * 86_400, count)).tolist()
    cards = rng.integers(0, CARDS, count).tolist()
    shares = 1.0 / np.arange(1, MERCHANTS + 1)
    merchants = rng.choice(MERCHANTS, count, p=shares / shares.sum()).tolist()
    addresses = rng.integers(0, ADDRESSES, count).tolist()
    amounts = np.exp(rng.normal(8, 1, count)).astype(int).tolist()
    return [
        Event(
            event_type="card_payment",
            event_id=f"pay_{seed}_{i}",
            event_time=START + timedelta(milliseconds=int(at * 1000)),
            entities={
                "card": f"tok_{card}",
                "merchant": f"m_{merchant}",
                "device": f"d_{card}_{i % 2}",
                "ip": f"203.0.{address // 256}.{address % 256}",
            },
            amount=Amount(amount, "EUR"),
            attributes={"country": "FR", "channel": "ecom", "mcc": "5732"},
        )
        for i, (at, card, merchant, address, amount) in enumerate(
            zip(seconds, cards, merchants, addresses, amounts, strict=True)
        )
    ]


class Bodies:
    """Bodies of new payments of the cards: no id comes twice."""

    def __init__(self, prefix: str) -> None:
        """Draw the payments that new ones are like."""
        self._like = payments(10_000, seed=2)
        self._prefix = prefix
        self._made = 0

    def make(self, count: int) -> list[bytes]:
        """Return `count` bodies."""
        return [self._one() for _ in range(count)]

    def _one(self) -> bytes:
        n = self._made
        self._made += 1
        like = self._like[n % len(self._like)]
        at = START + timedelta(days=DAYS, milliseconds=n)
        event = msgspec.structs.replace(like, event_id=f"{self._prefix}_{n}", event_time=at)
        return msgspec.json.encode(event)

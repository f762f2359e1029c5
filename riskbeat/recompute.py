"""settings, decision ids → past decisions again: by the log, the weights topic and the policies."""

import contextlib
import importlib.metadata
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from api.decide import Decider
from api.overlay import Overlay
from features.spec import Spec
from features.store import Reads
from models.decision import DecisionRecord
from models.decision_codec import decode_record
from models.policy import read_text
from models.policy_ruling import Rulebook, Ruler
from models.policy_store import NoPolicy
from models.scorer import Scores, Snapshot
from models.scorer_local import LocalScorer
from models.signing import BadSignature, PublicKey, load_public_keys
from models.weights import BadWeights, SchemaMismatch, Weights, decode_verified, sha256_of
from models.weights_delta import apply_delta
from pipeline.pieces import chain_of
from pipeline.recompute import CannotRemake, Recomputed, Remade, recompute_many
from pipeline.records_kafka import read_topics
from pipeline.skew_log import Placed
from pipeline.versions_kafka import KafkaVersions
from riskbeat.policies import compile_text
from riskbeat.policy_acts import open_stores
from riskbeat.policy_then import as_then
from riskbeat.settings import Settings

UNREADABLE = (BadSignature, BadWeights, SchemaMismatch)


class PastVersions:
    """Versions of the weights topic, decoded one after the other: a delta on the one before."""

    def __init__(self, published: Mapping[int, bytes], keys: Sequence[PublicKey]) -> None:
        """Take the bytes of all versions that the topic holds."""
        self._published = published
        self._keys = keys
        self._last: Weights | None = None

    def read(self, version: int, digest: str) -> tuple[Weights, str]:
        """Return a version, verified, and the SHA-256 of its bytes.

        Raises:
            CannotRemake: The topic does not hold it whole, or it is not what was signed.
        """
        numbers = chain_of(self._published, version)
        if not numbers:
            raise CannotRemake(
                f"weights: version {version} is not whole in the weights topic, which holds "
                f"{min(self._published, default=0)} to {max(self._published, default=0)}"
            )
        weights = self._last
        if weights is None or weights.version not in numbers:
            weights = None
        try:
            for number in numbers:
                if weights is not None and number <= weights.version:
                    continue
                data = self._published[number]
                if weights is None:
                    weights = decode_verified(data, self._keys, digest)
                else:
                    weights = apply_delta(weights, data, self._keys, digest)
        except UNREADABLE as error:
            raise CannotRemake(f"weights: version {version}: {error}") from error
        assert weights is not None, "a chain has a beginning"
        self._last = weights
        return weights, sha256_of(self._published[version])


class PastAnswers:
    """`recompute.Remaker`: the scorer's own step, with a version and a policy of the past."""

    def __init__(
        self,
        spec: Spec,
        versions: PastVersions,
        policy_of: Callable[[int], Rulebook | None],
        device: str,
        build: str,
        *,
        half: bool = False,
    ) -> None:
        """Take where versions and policies are found, and what a scorer is made with."""
        self._spec = spec
        self._scorer = LocalScorer(spec.digest, spec.n_features, build, device, half=half)
        self._versions = versions
        self._policy_of = policy_of
        self._deciders: dict[int, tuple[Decider, Ruler]] = {}
        self._loaded = 0
        self._sha256 = ""

    def remake(self, record: DecisionRecord, x: NDArray[np.float32]) -> Remade:
        """Answer to a recorded vector; see the port."""
        if record.weights is None or record.scored_by is None:
            raise CannotRemake("answer: made without a model")
        decider, ruler = self._decider(record.policy.version)
        as_then(ruler, record)
        self._load(record.weights.version)
        by = record.scored_by
        complete = "features" not in record.degraded
        snapshot = _AtBucket(self._scorer.snapshot(), by.bucket)
        at_ms = record.decided_at_ms
        basis = decider.remake(x[None], [record.event], snapshot, complete, at_ms)
        assert basis.scores is not None
        exact = (by.build, by.device) == (self._scorer.build, self._scorer.device)
        reasons = [*basis.rulings[0].reasons, *basis.reasons[0]]
        return Remade(self._sha256, basis.scores, basis.rulings[0], reasons, exact)

    def _decider(self, version: int) -> tuple[Decider, Ruler]:
        if version not in self._deciders:
            book = self._policy_of(version)
            if book is None:
                raise CannotRemake(f"policy: version {version} is not at hand (--policy FILE)")
            overlay = Overlay(0.0, 0, 1, self._spec.max_fields)
            ruler = Ruler(self._spec, book, limited=False)
            decider = Decider(self._spec, ruler, _NoStates(), self._scorer, overlay, lambda: 0)
            self._deciders[version] = (decider, ruler)
        return self._deciders[version]

    def _load(self, version: int) -> None:
        if version != self._loaded:
            weights, sha256 = self._versions.read(version, self._spec.digest)
            self._scorer.load(weights, sha256, willed=True)  # the past passes no gate twice
            self._loaded, self._sha256 = version, sha256


class _NoStates:
    """A feature reader for a step that is given its vectors."""

    async def read_many(self, keys: Sequence[bytes]) -> Reads:
        raise AssertionError("vectors are given; no state is read")


class _AtBucket:
    """A snapshot that computes at the batch size that a decision names."""

    def __init__(self, snapshot: Snapshot, bucket: int) -> None:
        self._snapshot = snapshot
        self._bucket = bucket
        self.weights = snapshot.weights
        self.sha256 = snapshot.sha256

    @property
    def baseline(self) -> float:
        return self._snapshot.baseline

    def score_many(self, X: NDArray[np.float32], bucket: int | None = None) -> Scores:
        return self._snapshot.score_many(X, self._bucket)

    def explain_many(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._snapshot.explain_many(X)

    def __enter__(self) -> Self:
        self._snapshot.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._snapshot.__exit__(kind, error, trace)


async def read_decisions_topic(settings: Settings) -> list[DecisionRecord]:
    """Return what was decided, in order of time; of one decision recorded twice the first.

    Raises:
        LogUnreadable: The topic cannot be read.
    """
    rows = await read_topics(settings.kafka_options(), [settings.topics.decisions])
    found: dict[str, DecisionRecord] = {}
    for row in sorted(rows, key=lambda r: (r.timestamp_ms, r.partition, r.offset)):
        record = decode_record(row.value)
        found.setdefault(record.decision_id, record)
    return sorted(found.values(), key=lambda record: record.decided_at_ms)


async def recompute_records(
    settings: Settings,
    records: Sequence[DecisionRecord],
    policies: Mapping[int, Rulebook],
    tell: Callable[[int], None],
) -> list[Recomputed]:
    """Make decisions again, and compare.

    Args:
        settings: As the scorer's that made them.
        records: The decisions.
        policies: By version.
        tell: Hears how many are done.

    Raises:
        LogUnreadable: A topic cannot be read.
        LogSilent: The weights topic cannot be read.
    """
    spec, topics = Spec.load(settings.spec_path), settings.topics
    options = settings.kafka_options()
    read = await read_topics(options, [topics.events, topics.label_updates], topics.events)
    log = [
        Placed("events" if row.topic == topics.events else "label_updates", *row[1:])
        for row in read
    ]
    async with KafkaVersions(options, topics.weights(spec.digest), settings.model_name) as held:
        pieces = await held.everything()
    keys = [key for path in settings.public_key_paths for key in load_public_keys(path)]
    versions = PastVersions(pieces.whole(), keys)
    half = settings.scorer_dtype == "bfloat16"
    build = f"riskbeat-{importlib.metadata.version('riskbeat')}"
    answers = PastAnswers(spec, versions, policies.get, settings.device, build, half=half)
    return recompute_many(spec, settings.updates_partitions, log, records, answers, tell)


async def policies_of(
    settings: Settings, files: Sequence[Path], wanted: Collection[int]
) -> dict[int, Rulebook]:
    """Return policies by version: of these files, of the store, and else the deployment's file.

    Raises:
        PolicyError: One is no policy for this spec.
        PolicyStoreUnavailable: The store did not answer.
    """
    spec = Spec.load(settings.spec_path)
    given = [compile_text(read_text(path), path.name, spec) for path in files]
    found = {book.policy.version: book for book in given}
    async with open_stores(settings) as stores:
        for version in sorted(set(wanted) - found.keys()):
            with contextlib.suppress(NoPolicy):
                kept = await stores.policies.read(version)
                found[version] = compile_text(kept.text, f"policy version {version}", spec)
    own = compile_text(read_text(settings.policy_path), settings.policy_path.name, spec)
    return {own.policy.version: own} | found

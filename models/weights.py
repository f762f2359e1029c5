"""learner → Weights → scorer: what was learned, frozen, numbered and signed.

On the wire a version is one safetensors file. The manifest is JSON in the header; the last 64
bytes, a tensor named `signature`, are an Ed25519 signature over the SHA-256 of every byte before
them. So nothing in the file can change unseen, header included.

A version holds members in lanes. With x a vector, NaN = missing:
z = (sign(x)·log1p(|x|) - scaler.mean) / scaler.scale; NaN → 0; clamp to ±8;
member = forward(kind, arrays, x, z) + ln β_member           (`models/forward_torch.py`)
lane = Σ weight·member; logit = Σ lane.weight·(a·lane + b); p = sigmoid(logit).
`models/weights_kinds.py` lists the arrays of each kind, docs/weights-format.md the whole format.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.signing import PublicKey, Signer
from models.weights_file import WEIGHTS_MAX_BYTES, checksum_of, seal, sha256_of, unseal
from models.weights_kinds import (
    PROBE_ROWS_MAX,
    QUANTILES,
    Array,
    Arrays,
    BadWeights,
    expected_of_member,
    faults_of_member,
    faults_of_shapes,
    faults_of_shared,
    shared_shapes,
)
from models.weights_manifest import (
    FORMAT,
    LaneRef,
    Manifest,
    MemberRef,
    SchemaMismatch,
    Step,
    fault_of_shares,
    manifest_of,
)

__all__ = [  # parts of the format that stand in the modules below; readers need this one only
    "FORMAT",
    "PROBE_ROWS_MAX",
    "QUANTILES",
    "WEIGHTS_MAX_BYTES",
    "Array",
    "Arrays",
    "BadWeights",
    "LaneRef",
    "Manifest",
    "MemberRef",
    "SchemaMismatch",
    "Step",
    "checksum_of",
    "manifest_of",
    "sha256_of",
]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Weights:
    """One published state of the model. A value: made once, never edited.

    Attributes:
        model: Name of the model family; versions are numbered within it.
        version: Publication number; starts at 1, grows by 1, is never reused.
        schema_digest: SHA-256 (hex) of the feature spec whose vectors these weights take.
        parent_sha256: SHA-256 (hex) of the bytes of the version before; empty for the first.
        offsets: "topic:partition" → next Kafka offset; everything before was learned.
        learned_until_ms: Label time of the newest label learned from; 0 for none.
        labels_learned: Labels taken in since the first version.
        created_at_ms: Wall clock of the learner.
        metrics: Progressive evaluation at that moment (`models/evaluation.py`).
        code_version: Build of the learner.
        lanes: At least one; one with a weight above 0 has members.
        members: In any order; the arrays of each are its kind's.
        step: Movement on the probe since the parent.
        cuts: Where each take of the learner ended, in order (`pipeline/learn_loop.py`).
        label_appends_ms: When the log took the labels that came since the parent; a sample of at
            most 64, so that scorers can say how old labels are when they serve.
        arrays: float32 and int32, read-only (`models/weights_kinds.py`).
    """

    model: str
    version: int
    schema_digest: str
    parent_sha256: str
    offsets: Mapping[str, int]
    learned_until_ms: int
    labels_learned: int
    created_at_ms: int
    metrics: Mapping[str, float]
    code_version: str
    lanes: tuple[LaneRef, ...]
    members: tuple[MemberRef, ...]
    arrays: Arrays
    step: Step = field(default_factory=Step)
    cuts: Sequence[Sequence[Any]] = ()
    label_appends_ms: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Refuse what no learner can have produced, and forbid edits in place."""
        assert self.version >= 1
        assert len(self.schema_digest) == 64
        assert len(self.parent_sha256) in {0, 64}
        fault = fault_of_shares(self.lanes, self.members)
        assert not fault, fault
        for array in self.arrays.values():
            assert array.dtype in {np.dtype(np.float32), np.dtype(np.int32)}
            array.setflags(write=False)

    @property
    def n_features(self) -> int:
        """Length of the vectors that these weights take."""
        return int(self.arrays["scaler.mean"].shape[0])

    @property
    def beta(self) -> float:
        """The smallest β of the members."""
        return min(member.beta for member in self.members)


def encode(weights: Weights, signer: Signer) -> bytes:
    """Return the signed bytes of a full version; the same for the same weights and key."""
    return seal(manifest_for(weights), weights.arrays, signer)


def decode_verified(
    data: bytes, public_keys: Sequence[PublicKey], schema_digest: str | None = None
) -> Weights:
    """Read a full version that a holder of one of the keys signed.

    The signature is checked before anything else is looked at.

    Args:
        data: The bytes as the registry or the topic holds them.
        public_keys: Accepted keys.
        schema_digest: The digest in use; None takes any.

    Raises:
        BadSignature: No accepted key signed these bytes.
        BadWeights: Signed, but not a full version: too large, another format, a delta, a missing,
            unknown or misshapen array, a number that is not finite, a scale that is not positive,
            shares that do not sum to 1, a tree that never ends.
        SchemaMismatch: Learned with another spec than `schema_digest`.
    """
    manifest, arrays = unseal(data, public_keys, schema_digest)
    if manifest.base or manifest.gone:
        raise BadWeights(f"base: a delta to version {manifest.base}, no full version")
    return weights_from(manifest, arrays)


def manifest_for(weights: Weights, base: int = 0, gone: Iterable[str] = ()) -> Manifest:
    """Return what the bytes of these weights say about themselves."""
    return Manifest(
        format=FORMAT,
        model=weights.model,
        version=weights.version,
        schema_digest=weights.schema_digest,
        parent_sha256=weights.parent_sha256,
        beta=weights.beta,
        offsets=dict(weights.offsets),
        learned_until_ms=weights.learned_until_ms,
        labels_learned=weights.labels_learned,
        created_at_ms=weights.created_at_ms,
        metrics=dict(weights.metrics),
        code_version=weights.code_version,
        lanes=list(weights.lanes),
        members=list(weights.members),
        step=weights.step,
        cuts=[list(cut) for cut in weights.cuts],
        label_appends_ms=list(weights.label_appends_ms),
        base=base,
        gone=sorted(gone),
        result=checksum_of(weights.arrays),
    )


def weights_from(
    manifest: Manifest, arrays: dict[str, Array], known: Collection[str] = ()
) -> Weights:
    """Return the version that a manifest and its arrays make.

    Args:
        manifest: Verified.
        arrays: All arrays of the version, whatever file they came in.
        known: Arrays whose content was checked before.

    Raises:
        BadWeights: An array is missing, unknown, misshapen or senseless, or the checksum of all
            is not the manifest's `result`.
    """
    fault = next(_faults_of(manifest, arrays, known), "")
    if fault:
        raise BadWeights(fault)
    found = checksum_of(arrays)
    if found != manifest.result:
        raise BadWeights(f"result: the arrays' checksum is {found}, expected {manifest.result}")
    return Weights(
        model=manifest.model,
        version=manifest.version,
        schema_digest=manifest.schema_digest,
        parent_sha256=manifest.parent_sha256,
        offsets=manifest.offsets,
        learned_until_ms=manifest.learned_until_ms,
        labels_learned=manifest.labels_learned,
        created_at_ms=manifest.created_at_ms,
        metrics=manifest.metrics,
        code_version=manifest.code_version,
        lanes=tuple(manifest.lanes),
        members=tuple(manifest.members),
        arrays=arrays,
        step=manifest.step,
        cuts=manifest.cuts,
        label_appends_ms=tuple(manifest.label_appends_ms),
    )


def _faults_of(manifest: Manifest, arrays: Arrays, known: Collection[str]) -> Iterator[str]:
    for name in ("scaler.mean", "probe.x"):
        if name not in arrays:
            yield f"{name}: missing"
        elif not arrays[name].ndim:
            yield f"{name}: expected more than one number"
    n, probes = arrays["scaler.mean"].shape[0], arrays["probe.x"].shape[0]
    expected = shared_shapes(n, probes)
    for member in manifest.members:
        shapes = expected_of_member(member.prefix, member.kind, arrays, n)
        expected |= {member.prefix + name: shape for name, shape in shapes.items()}
    yield from faults_of_shapes(arrays, expected)
    for name in sorted(arrays.keys() - expected.keys()):
        yield f"{name}: unknown"
    yield from faults_of_shared(arrays, known)
    for member in manifest.members:
        yield from faults_of_member(member.prefix, member.kind, arrays, n, known)

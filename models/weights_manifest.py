"""bytes of a version → what they say about themselves: lanes, members, counts, origin."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from features.event_wire import UNREADABLE
from models.weights_kinds import KINDS, BadWeights

FORMAT = 2
MANIFEST_MAX_BYTES = 8 * 1024 * 1024
LANES_MAX = 8
MEMBERS_MAX = 64
SUM_TOLERANCE = 1e-6

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[0-9]+)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHECKSUM = re.compile(r"[0-9a-f]{32}")


class SchemaMismatch(ValueError):
    """The version was learned with another feature spec than the one in use."""


class LaneRef(msgspec.Struct, frozen=True, kw_only=True):
    """A lane of the version: its share of the answer, and its calibration.

    Attributes:
        weight: Share in the log-odds, ≥ 0; the lanes' sum to 1.
        a: Slope of the calibration, > 0.
        b: Its shift, log-odds.
    """

    name: str
    weight: float
    a: float = 1.0
    b: float = 0.0


class MemberRef(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a lane; its arrays are named "{lane}.{name}.{array}".

    Attributes:
        kind: One of `weights_kinds.KINDS`.
        weight: Share in the lane's log-odds, ≥ 0; those of a lane sum to 1.
        beta: Share of legit rows that it learned from, in (0, 1]; scoring adds ln β.
    """

    lane: str
    name: str
    kind: str
    weight: float
    beta: float = 1.0

    @property
    def prefix(self) -> str:
        """First part of its arrays' names, with the dot."""
        return f"{self.lane}.{self.name}."


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """How far the answers to the probe moved since the version before.

    Attributes:
        mean_logit: Mean of the absolute differences of log-odds.
        max_logit: The largest of them.
        max_p: The largest absolute difference of probabilities.
    """

    mean_logit: float = 0.0
    max_logit: float = 0.0
    max_p: float = 0.0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the bytes say about themselves; fields as in `Weights`, and three more.

    Attributes:
        beta: The smallest of the members'.
        base: 0: a full version. Else a delta: what changed since that version.
        gone: Arrays of the base that the version no longer has; deltas only.
        result: `checksum_of` the version's arrays, those that a delta leads to included.
    """

    format: int
    model: str
    version: int
    schema_digest: str
    parent_sha256: str
    beta: float
    offsets: dict[str, int]
    learned_until_ms: int
    labels_learned: int
    created_at_ms: int
    metrics: dict[str, float]
    code_version: str
    lanes: list[LaneRef]
    members: list[MemberRef]
    step: Step
    cuts: list[list[Any]]
    label_appends_ms: list[int] = []
    base: int
    gone: list[str]
    result: str


class Header(msgspec.Struct):
    """The header of a safetensors file, as far as it is ours to read."""

    metadata: dict[str, str] = msgspec.field(name="__metadata__")


def fault_of_shares(lanes: Sequence[LaneRef], members: Sequence[MemberRef]) -> str:
    """Return what is wrong with the lanes and members and their shares; empty: nothing."""
    return next(_faults_of_shares(lanes, members), "")


def manifest_of(data: bytes) -> Manifest:
    """Read the manifest of a full version or a delta, whoever signed it.

    Raises:
        BadWeights: There is none, or it makes no sense; names the field.
    """
    size = int.from_bytes(data[:8], "little")
    if size > MANIFEST_MAX_BYTES:
        raise BadWeights(f"manifest: {size} bytes; at most {MANIFEST_MAX_BYTES} are taken")
    try:
        header = msgspec.json.decode(data[8 : 8 + size], type=Header)
        manifest = msgspec.json.decode(header.metadata["manifest"], type=Manifest)
    except (*UNREADABLE, KeyError) as error:
        # another format has other fields: say so rather than name one of them
        raise BadWeights(_of_another_format(data, size) or f"manifest: {error}") from error
    fault = next(_faults_of_manifest(manifest), "")
    if fault:
        raise BadWeights(fault)
    return manifest


class _Format(msgspec.Struct):
    format: int


def _of_another_format(data: bytes, size: int) -> str:
    try:
        header = msgspec.json.decode(data[8 : 8 + size], type=Header)
        found = msgspec.json.decode(header.metadata["manifest"], type=_Format).format
    except (*UNREADABLE, KeyError):
        return ""
    return "" if found == FORMAT else f"format: {found}, this code reads {FORMAT}"


def _faults_of_manifest(manifest: Manifest) -> Iterator[str]:
    if manifest.format != FORMAT:
        yield f"format: {manifest.format}, this code reads {FORMAT}"
    if manifest.version < 1:
        yield f"version: {manifest.version} is below 1"
    if not _DIGEST.fullmatch(manifest.schema_digest):
        yield "schema_digest: no SHA-256 in hex"
    if manifest.parent_sha256 and not _DIGEST.fullmatch(manifest.parent_sha256):
        yield "parent_sha256: no SHA-256 in hex"
    if not _CHECKSUM.fullmatch(manifest.result):
        yield "result: no xxh3-128 in hex"
    if manifest.base not in (0, manifest.version - 1):
        yield f"base: {manifest.base}, neither 0 nor the version before {manifest.version}"
    yield from _faults_of_shares(manifest.lanes, manifest.members)
    if manifest.beta != min(member.beta for member in manifest.members):
        yield f"beta: {manifest.beta} is not the smallest of the members'"


def _faults_of_shares(lanes: Sequence[LaneRef], members: Sequence[MemberRef]) -> Iterator[str]:
    if not 1 <= len(lanes) <= LANES_MAX:
        yield f"lanes: {len(lanes)}; 1 to {LANES_MAX} are taken"
    if not 1 <= len(members) <= MEMBERS_MAX:
        yield f"members: {len(members)}; 1 to {MEMBERS_MAX} are taken"
    for lane in lanes:
        yield from _faults_of_lane(lane)
    names = {lane.name for lane in lanes}
    for member in members:
        yield from _faults_of_member(member, names)
    if len(names) < len(lanes):
        yield "lanes: a name stands twice"
    if len({member.prefix for member in members}) < len(members):
        yield "members: a name stands twice"
    if not abs(sum(lane.weight for lane in lanes) - 1.0) <= SUM_TOLERANCE:
        yield "lanes.weight: the sum is not 1"
    for lane in lanes:
        shares = [member.weight for member in members if member.lane == lane.name]
        if (shares or lane.weight) and not abs(sum(shares) - 1.0) <= SUM_TOLERANCE:
            yield f"members.{lane.name}.weight: the sum is not 1"


def _faults_of_lane(lane: LaneRef) -> Iterator[str]:
    """Comparisons here and below are written so that NaN is a fault."""
    where = f"lanes.{lane.name}"
    if not _NAME.fullmatch(lane.name):
        yield f"lanes: {lane.name!r} is no name"
    if not lane.weight >= 0.0:
        yield f"{where}.weight: {lane.weight} is below 0"
    if not 0.0 < lane.a < float("inf"):
        yield f"{where}.a: {lane.a} is not positive"
    if not abs(lane.b) < float("inf"):
        yield f"{where}.b: {lane.b} is not finite"


def _faults_of_member(member: MemberRef, lanes: Collection[str]) -> Iterator[str]:
    where = f"members.{member.lane}.{member.name}"
    if not _NAME.fullmatch(member.name):
        yield f"members: {member.name!r} is no name"
    if member.lane not in lanes:
        yield f"{where}.lane: no such lane"
    if member.kind not in KINDS:
        yield f"{where}.kind: {member.kind!r} is none of {', '.join(KINDS)}"
    if not member.weight >= 0.0:
        yield f"{where}.weight: {member.weight} is below 0"
    if not 0.0 < member.beta <= 1.0:
        yield f"{where}.beta: {member.beta} lies outside (0, 1]"

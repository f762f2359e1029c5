"""two versions → every version on the straight way from one to the other.

Arrays of networks and linear members glide, as do leaf values of a forest whose splits are the
same, the scaler, the shares of members and lanes, β, and the lines of calibration. What cannot
glide, such as another forest under the same name, stands beside what it replaces, and their shares
glide instead: the old one is called `…_was` until it is gone, and meanwhile no third one comes in.
So log-odds change continuously along the way, and at its start not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.weights import Array, LaneRef, MemberRef, Weights
from models.weights_kinds import arrays_of

WAS = "_was"
GLIDING = {"trees": frozenset({"value", "bias"})}
"""Kinds of which only some arrays can glide; the others must be equal for that."""
SCALER = ("scaler.mean", "scaler.scale")

Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """One member on the way; at its start and at its end.

    Attributes:
        ref: What it is called, and its kind; share and β are those of the end.
        start: Arrays by short name; the same objects as `end` where nothing glides.
        end: Likewise.
        shares: In its lane, at the start and at the end.
        betas: Likewise.
        stays: Whether it stands at the end even without a share.
    """

    ref: MemberRef
    start: Arrays
    end: Arrays
    shares: tuple[float, float]
    betas: tuple[float, float]
    stays: bool = True

    @property
    def glides(self) -> bool:
        """Whether its arrays change along the way."""
        return self.start is not self.end

    def arrays_at(self, alpha: float) -> Arrays:
        """Return its arrays, float32 or int32."""
        if not self.glides:
            return self.end
        return {name: mixed(self.start[name], array, alpha) for name, array in self.end.items()}

    def at(self, alpha: float) -> MemberRef:
        """Return its share and β: shares glide evenly, and so does ln β."""
        share = (1 - alpha) * self.shares[0] + alpha * self.shares[1]
        beta = self.betas[0] ** (1 - alpha) * self.betas[1] ** alpha
        return MemberRef(
            lane=self.ref.lane,
            name=self.ref.name,
            kind=self.ref.kind,
            weight=share,
            beta=min(1.0, beta),
        )


class Blend:
    """The way from `previous` to `target`, both learned with the same spec.

    Attributes:
        target: Where it leads. Not the candidate itself while an older jump is still under way.
        legs: All members that stand anywhere on it.
    """

    def __init__(self, previous: Weights, candidate: Weights) -> None:
        """Lay the way out; nothing is copied."""
        assert previous.schema_digest == candidate.schema_digest
        self.previous = previous
        self.candidate = candidate
        self.held_back = False
        before = {lane.name: lane for lane in previous.lanes if lane.weight > 0}
        after = {lane.name: lane for lane in candidate.lanes}
        self._lanes = [(before.get(name), lane) for name, lane in after.items()]
        self._gone = [lane for name, lane in before.items() if name not in after]
        self.legs: list[Leg] = []
        for name in after:
            self.legs += self._legs_of(name, name in before)
        for lane in self._gone:
            self.legs += [
                _standing(ref, _arrays(previous, ref), False)
                for ref in _members(previous, lane.name)
            ]

    def at(self, alpha: float) -> Weights:
        """Return the version at `alpha` of the way, with the candidate's name tags.

        Its probe's answers and its step are still the candidate's.
        """
        arrays: dict[str, Array] = {
            name: self.candidate.arrays[name] for name in ("quantiles", "probe.x", "probe.logit")
        }
        arrays |= {name: self.scaler_at(name, alpha) for name in SCALER}
        lanes = self.lanes_at(alpha)
        standing = {lane.name for lane in lanes}
        members = []
        for leg in self.legs:
            ref = leg.at(alpha)
            if ref.lane not in standing or (ref.weight <= 0 and not leg.stays):
                continue
            members.append(ref)
            arrays |= {ref.prefix + name: a for name, a in leg.arrays_at(alpha).items()}
        return replace(self.candidate, lanes=lanes, members=tuple(members), arrays=arrays)

    def scaler_at(self, name: str, alpha: float) -> Array:
        """Return an array of the scaler."""
        return mixed(self.previous.arrays[name], self.candidate.arrays[name], alpha)

    def lanes_at(self, alpha: float) -> tuple[LaneRef, ...]:
        """Return the lanes with their shares and calibrations; those without any part are gone."""
        lanes = []
        for before, after in self._lanes:
            start = before or replace_weight(after, 0.0)
            lanes.append(
                LaneRef(
                    name=after.name,
                    weight=(1 - alpha) * start.weight + alpha * after.weight,
                    a=(1 - alpha) * start.a + alpha * after.a,
                    b=(1 - alpha) * start.b + alpha * after.b,
                )
            )
        if alpha < 1:
            lanes += [replace_weight(lane, (1 - alpha) * lane.weight) for lane in self._gone]
        return tuple(lanes)

    def _legs_of(self, lane: str, stood: bool) -> list[Leg]:
        """Return the members of a lane that the candidate has."""
        after = {ref.name: ref for ref in _members(self.candidate, lane)}
        before = {ref.name: ref for ref in _members(self.previous, lane) if ref.weight > 0}
        if not stood or not before:
            return [_standing(ref, _arrays(self.candidate, ref)) for ref in after.values()]
        legs = []
        for name, ref in after.items():
            end = _arrays(self.candidate, ref)
            old = before.pop(name, None)
            if old is None:
                legs.append(Leg(ref, end, end, (0.0, ref.weight), (ref.beta, ref.beta)))
                continue
            start = _arrays(self.previous, old)
            if old.kind == ref.kind and can_glide(ref.kind, start, end):
                legs.append(_gliding(ref, old, start, end))
            elif was_name(name) in before:  # the jump before this one is still under way
                self.held_back = True
                legs.append(Leg(old, start, start, (old.weight, ref.weight), (old.beta, old.beta)))
            else:
                legs.append(Leg(ref, end, end, (0.0, ref.weight), (ref.beta, ref.beta)))
                was = MemberRef(
                    lane=lane, name=was_name(name), kind=old.kind, weight=old.weight, beta=old.beta
                )
                legs.append(_leaving(was, start))
        return legs + [_leaving(ref, _arrays(self.previous, ref)) for ref in before.values()]


def can_glide(kind: str, start: Arrays, end: Arrays) -> bool:
    """Whether a member's arrays can be mixed: same names and shapes, and the same routes."""
    if {n: a.shape for n, a in start.items()} != {n: a.shape for n, a in end.items()}:
        return False
    gliding = GLIDING.get(kind)
    if gliding is None:
        return True
    return all(np.array_equal(start[name], end[name]) for name in end.keys() - gliding)


def mixed(start: Array, end: Array, alpha: float) -> Array:
    """Return start + alpha·(end - start), float32; entries that are equal stay so, bit for bit."""
    if start is end or end.dtype != np.float32 or alpha == 1:
        return end
    if alpha == 0:  # not by the formula: what is not finite at the end would be so here
        return start
    out = end - start
    out *= np.float32(alpha)
    out += start
    return out


def was_name(name: str) -> str:
    """Return what a member is called that is being replaced: `boosted.3` → `boosted_was.3`."""
    stem, dot, number = name.partition(".")
    return f"{stem}{WAS}{dot}{number}"


def replace_weight(lane: LaneRef, weight: float) -> LaneRef:
    """Return the lane with another share."""
    return LaneRef(name=lane.name, weight=weight, a=lane.a, b=lane.b)


def _members(weights: Weights, lane: str) -> list[MemberRef]:
    return [ref for ref in weights.members if ref.lane == lane]


def _arrays(weights: Weights, ref: MemberRef) -> Arrays:
    return arrays_of(ref.prefix, ref.kind, weights.arrays)


def _standing(ref: MemberRef, arrays: Arrays, stays: bool = True) -> Leg:
    return Leg(ref, arrays, arrays, (ref.weight, ref.weight), (ref.beta, ref.beta), stays)


def _leaving(ref: MemberRef, arrays: Arrays) -> Leg:
    return Leg(ref, arrays, arrays, (ref.weight, 0.0), (ref.beta, ref.beta), stays=False)


def _gliding(ref: MemberRef, old: MemberRef, start: Arrays, end: Arrays) -> Leg:
    same = all(np.array_equal(start[name], array) for name, array in end.items())
    return Leg(ref, end if same else start, end, (old.weight, ref.weight), (old.beta, ref.beta))

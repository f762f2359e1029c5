"""settings → who learns in which lane: the plan of an ensemble."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from models.learner import StateMismatch
from models.memory import KEEP_FRAUDS, KEEP_ROWS
from models.observed import PROBE_RENEW_MS

LANES = ("feedback", "delayed")
MODEL = "champion"
STEP_ROWS = 64
LANE_FRAUDS_MIN = 200


Options = Mapping[str, float | int | str]
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class PlanMismatch(StateMismatch):
    """A checkpoint was made by another choice of learners, for the same vectors."""


class Member(msgspec.Struct, frozen=True):
    """A learner of a plan: the name of its entry point, and its options."""

    learner: str
    options: dict[str, float | int | str] = {}


class Challenger(msgspec.Struct, frozen=True):
    """A learner that learns and is judged beside the members of a lane, and never answers."""

    lane: str
    learner: str
    options: dict[str, float | int | str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who learns, and how much is kept.

    Attributes:
        lanes: Lane → member name → learner. Lanes that no one learns in are left out.
        challengers: By name.
        model: Name of the model family.
        step_rows: Rows of a full step.
        keep_rows: Of a lane's memory.
        keep_frauds: Of a lane's memory of frauds.
        lane_frauds_min: Frauds, and legit rows, without which a lane does not answer.
        probe_renew_ms: Event time for which a probe stands.
    """

    lanes: Mapping[str, Mapping[str, Member]]
    challengers: Mapping[str, Challenger] = field(default_factory=dict)
    model: str = MODEL
    step_rows: int = STEP_ROWS
    keep_rows: int = KEEP_ROWS
    keep_frauds: int = KEEP_FRAUDS
    lane_frauds_min: int = LANE_FRAUDS_MIN
    probe_renew_ms: int = PROBE_RENEW_MS

    def __post_init__(self) -> None:
        """Refuse a plan in which nobody answers, or that names a lane that does not exist.

        Raises:
            ValueError: Says which.
        """
        known = ", ".join(LANES)
        for lane in [*self.lanes, *(one.lane for one in self.challengers.values())]:
            if lane not in LANES:
                raise ValueError(f"lane {lane!r}: there are {known}")
        if not any(self.lanes.values()):
            raise ValueError("learners: at least one lane needs at least one")

    def signature(self, seed: int) -> str:
        """Return text that is equal where what is learned is: it names a checkpoint's maker."""
        lanes = {
            lane: {name: _told(one) for name, one in members.items()}
            for lane, members in self.lanes.items()
        }
        challengers = {name: [one.lane, *_told(one)] for name, one in self.challengers.items()}
        sizes = (self.step_rows, self.keep_rows, self.keep_frauds)
        told = [self.model, seed, lanes, challengers, sizes]
        return msgspec.json.encode(told).decode()


def member_of(name: str, told: Options) -> Member:
    """Read a member of a lane: its entry point under `learner`, its options beside it.

    Raises:
        ValueError: The name is none, or `learner` is missing; says which and where.
    """
    if not _NAME.fullmatch(name.rpartition(".")[2]):
        raise ValueError(f"{name}: a name is of small letters, digits and _, a letter first")
    learner = told.get("learner")
    if not isinstance(learner, str):
        raise ValueError(f"{name}: `learner` must name an entry point")
    return Member(learner, {key: value for key, value in told.items() if key != "learner"})


def challenger_of(name: str, told: Options) -> Challenger:
    """Read a challenger: as a member, and the lane that it learns with under `lane`.

    Raises:
        ValueError: As `member_of`, or there is no such lane.
    """
    lane = told.get("lane")
    if lane not in LANES:
        raise ValueError(f"{name}: `lane` must be one of {', '.join(LANES)}")
    member = member_of(name, {key: value for key, value in told.items() if key != "lane"})
    return Challenger(str(lane), member.learner, member.options)


def _told(one: Member | Challenger) -> list[object]:
    return [one.learner, dict(sorted(one.options.items()))]

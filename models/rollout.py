"""what is rolled out, in which steps, and how far it is: the values that workers agree upon.

A rollout lets a *candidate* answer for a growing share of entities. Candidate is another line of
versions (a challenger's learner), or a version of the line that answers now. The versions that a
line publishes each second are no rollouts: they pass the scorer's gates, in whichever arm.
The rules are in `models/rollout_rules.py`.
"""

import itertools
import math
import re
from typing import Annotated, Final, Literal

import msgspec

from models.rollout_limits import Limits

MAIN: Final = "main"
"""The line that answers before any other was promoted."""
STEPS_MAX: Final = 20
FULL: Final = 1.0
LINE: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
SYSTEM: Final = "riskbeat"
"""Who acts where no person did."""

Stage = Literal["running", "promoted", "rolled_back", "aborted"]
ActName = Literal["start", "advance", "promote", "settle", "rollback", "abort"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class CannotRoll(ValueError):
    """What was asked for makes no sense as the rollout stands; says why."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What an arm answers with.

    Attributes:
        line: Whose versions.
        at: `active`: what the line's scorers should answer with, pinned or not; `latest`: its
            newest version, whatever is pinned; else a version's number, and that one only.
    """

    line: str = MAIN
    at: int | Literal["active", "latest"] = "active"

    def __post_init__(self) -> None:
        """Refuse what names nothing.

        Raises:
            ValueError: It is no line's name, or no version's number.
        """
        if not LINE.fullmatch(self.line):
            raise ValueError(f"{self.line!r} is no line's name: small letters, digits, - and _")
        if isinstance(self.at, int) and self.at < 1:
            raise ValueError(f"{self.at} is no version's number")

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return self.line if self.at == "active" else f"{self.line}@{self.at}"


def parse_target(text: str) -> Target:
    """Read `LINE`, `LINE@VERSION` or `LINE@latest`.

    Raises:
        ValueError: It is none of them.
    """
    line, at, number = text.partition("@")
    if not at or number in ("active", "latest"):
        return Target(line=line, at="latest" if number == "latest" else "active")
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{text!r}: expected LINE, LINE@VERSION or LINE@latest")
    return Target(line=line, at=int(number))


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One share, and what it takes to leave it.

    Attributes:
        share: Of the entities, that the candidate answers. 0: it is a shadow, and answers none.
        bake_s: Shortest stay.
        decisions_min: Answers of the candidate (of a shadow: scores) that it takes to go on.
    """

    share: Share
    bake_s: Annotated[float, msgspec.Meta(ge=0)]
    decisions_min: Annotated[int, msgspec.Meta(ge=0)]


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """Which events take part; all others are answered by the stable arm, and compared with nothing.

    Attributes:
        entity: Whose hash decides; empty: the event type's primary one.
        tenants: Those that take part; none: all.
        attributes: Name → value that an event must carry.
    """

    entity: str = ""
    tenants: tuple[str, ...] = ()
    attributes: dict[str, str] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a rollout goes on by itself.

    Attributes:
        steps: In order; shares grow.
        selector: Who takes part.
        limits: Beyond which it turns back.
        automatic: Whether it is promoted after the last step; else it stays there for a person.
        patience_s: A step that has not seen enough so long after its bake turns back.
        shadow: Whether the candidate also scores what the stable arm answers. At the full share
            it is the other way round, and always so.
    """

    steps: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1, max_length=STEPS_MAX)]
    selector: Selector = Selector()
    limits: Limits = Limits()
    automatic: bool = True
    patience_s: Annotated[float, msgspec.Meta(ge=0)] = 86_400.0
    shadow: bool = True

    @property
    def promotes(self) -> bool:
        """Whether it is promoted by itself after the last step; a shadow never is."""
        return self.automatic and self.steps[-1].share > 0.0

    def __post_init__(self) -> None:
        """Refuse steps that do not grow.

        Raises:
            ValueError: There is none, or one is no larger than the one before.
        """
        if not self.steps:
            raise ValueError("a rollout needs a step")
        shares = [step.share for step in self.steps]
        if not all(math.isfinite(step.bake_s) for step in self.steps):
            raise ValueError("a step must end: its baking time is not finite")
        if any(after <= before for before, after in itertools.pairwise(shares)):
            shown = ", ".join(f"{100 * share:g} %" for share in shares)
            raise ValueError(f"each step must be larger than the one before: {shown}")


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate on its way. A value: each change is a new one.

    Attributes:
        number: Counts the rollouts of a spec; also the salt of the arms.
        step: Index of the present step; of the last one that was reached.
        step_since_ms: When it began.
        by: Who started it.
        because: Why it ended; empty while it runs.
        settled: After a promotion: the line's pointer has been set to the candidate.
    """

    number: Annotated[int, msgspec.Meta(ge=1)]
    candidate: Target
    plan: Plan
    started_ms: int
    step_since_ms: int
    by: str
    why: str
    stage: Stage = "running"
    step: Annotated[int, msgspec.Meta(ge=0)] = 0
    because: str = ""
    ended_ms: int = 0
    settled: bool = False

    @property
    def running(self) -> bool:
        """Whether it may still go on or turn back."""
        return self.stage == "running"

    @property
    def share(self) -> float:
        """Share of the entities that the candidate answers for now."""
        if self.stage == "promoted":
            return FULL
        return self.plan.steps[self.step].share if self.running else 0.0


class RolloutState(msgspec.Struct, frozen=True, kw_only=True):
    """All that workers must agree upon. A compare-and-set replaces it whole.

    Attributes:
        revision: Grows by one with each change; 0: nothing was ever rolled out.
        line: Which answers for the stable arm.
        rollout: The one that runs, or the last one.
    """

    revision: int = 0
    line: str = MAIN
    rollout: Rollout | None = None


class RolloutAct(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the state, for the audit.

    Attributes:
        share: That the candidate answers for from now on.
        by: Who did it: a person, or `SYSTEM`.
        at_ms: When, by the actor's clock.
    """

    act: ActName
    number: int
    candidate: str
    share: float
    by: str
    why: str
    at_ms: int

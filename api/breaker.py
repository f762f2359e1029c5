"""calls that fail in a row → none for a while: what is away costs its deadline a few times only.

Closed: every call is made. After `failures_max` failures in a row it is open: no call is made, and
the answer comes at once without that stage. After `pause_s` one call is let through to see (half
open): if it succeeds, the breaker is closed again; if not, the next is let through `pause_s` later.
"""

import time
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeVar

Stage = Literal["features", "claims", "model"]
Reason = Literal["timeout", "unavailable", "error", "slow", "open"]


T = TypeVar("T")


class Heard(Protocol):
    """Who counts what failed, and shows which breakers are open."""

    def stage_failed(self, stage: Stage, reason: Reason) -> None:
        """A stage failed, or was not asked (`open`)."""

    def stage_opened(self, stage: Stage, is_open: bool) -> None:
        """A breaker opened, or closed again."""


class NobodyHears:
    """Counts nothing."""

    def stage_failed(self, stage: Stage, reason: Reason) -> None:
        """Do nothing."""

    def stage_opened(self, stage: Stage, is_open: bool) -> None:
        """Do nothing."""


class Breaker:
    """Decides whether one stage is asked. Not shared between threads."""

    def __init__(
        self,
        stage: Stage,
        failures_max: int,
        pause_s: float,
        heard: Heard,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin closed.

        Args:
            stage: Whose it is.
            failures_max: Failures in a row that open it.
            pause_s: Between two looks while it is open.
            heard: Who is told.
            clock: Monotonic seconds.
        """
        self._stage: Stage = stage
        self._failures_max = failures_max
        self._pause_s = pause_s
        self._heard = heard
        self._clock = clock
        self._failures = 0
        self._look_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the stage is left alone."""
        return self._look_at is not None

    def allows(self) -> bool:
        """Return whether to ask the stage now; whoever is told yes must say how it went."""
        if self._look_at is None:
            return True
        now = self._clock()
        if now < self._look_at:
            self._heard.stage_failed(self._stage, "open")
            return False
        self._look_at = now + self._pause_s
        return True

    def succeeded(self) -> None:
        """Hear that the stage answered in time."""
        self._failures = 0
        if self._look_at is not None:
            self._look_at = None
            self._heard.stage_opened(self._stage, is_open=False)

    def failed(self, reason: Reason) -> None:
        """Hear that it did not."""
        self._heard.stage_failed(self._stage, reason)
        self._failures += 1
        if self._look_at is None and self._failures >= self._failures_max:
            self._look_at = self._clock() + self._pause_s
            self._heard.stage_opened(self._stage, is_open=True)


class Breakers(NamedTuple):
    """One for each stage that an answer can do without.

    Attributes:
        model_timeout_s: A pass that took longer is a failure of the model; its scores are used.
    """

    features: Breaker
    claims: Breaker
    model: Breaker
    model_timeout_s: float


def breakers_of(
    failures_max: int,
    pause_s: float,
    model_timeout_s: float,
    heard: Heard | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Breakers:
    """Return closed breakers of all stages; see `Breaker`."""
    told = heard or NobodyHears()
    return Breakers(
        Breaker("features", failures_max, pause_s, told, clock),
        Breaker("claims", failures_max, pause_s, told, clock),
        Breaker("model", failures_max, pause_s, told, clock),
        model_timeout_s,
    )


def ask_model(breakers: Breakers | None, call: Callable[[], T]) -> T | None:
    """Return what the model says; None where it failed, or is not asked because it did.

    A pass cannot be stopped: one that took too long is used, and counts as a failure. So does what
    a library raises when a device fails; what is wrong with our own code is not caught.
    """
    if breakers is None:
        return call()
    breaker = breakers.model
    if not breaker.allows():
        return None
    began = time.monotonic()
    try:
        found = call()
    except RuntimeError:
        breaker.failed("error")
        return None
    if time.monotonic() - began > breakers.model_timeout_s:
        breaker.failed("slow")
    else:
        breaker.succeeded()
    return found

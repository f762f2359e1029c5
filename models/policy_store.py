"""operators → policy store → scorers: the versions of the policy, which one counts, what is off.

`policy.yaml` is what an empty store begins with. Every act is kept in a bounded, audited list.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

HISTORY_MAX = 1_000
VERSIONS_KEPT = 200
UNTIL_RESUMED_MS = 0


class PolicyStoreUnavailable(TimeoutError):
    """The store did not answer; what was asked may or may not have happened."""


class NoPolicy(LookupError):
    """That version was never applied, or has left the store."""


class PolicyConflict(ValueError):
    """What was to be changed is no longer what it was taken for."""


Act: TypeAlias = Literal["apply", "rollback", "snooze", "halt", "resume", "put", "remove"]


class PolicyAct(msgspec.Struct, frozen=True, kw_only=True):
    """One act upon the policy, its rules or its lists.

    Attributes:
        act: `halt` is a scorer's own; all others are operators'. `put` and `remove`: of lists.
        version: Of the policy that counted afterwards; 0 where that is not said.
        subject: A rule's id, or what was done to which list; empty for the policy itself.
        by: Who did it; free text.
        why: Free text.
        at_ms: When, by the actor's clock.
    """

    act: Act
    version: int = 0
    digest: str = ""
    subject: str = ""
    by: str
    why: str
    at_ms: int


class KeptPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """One version as it was applied."""

    version: int
    digest: str
    text: str
    by: str
    why: str
    at_ms: int


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that was switched off while the policy stays as it is.

    Attributes:
        kind: `snoozed` by an operator; `halted` because it hit too much: recorded, without a say.
        version: Of the rule that is halted: a new version of it is not. 0 for every version.
        until_ms: When a snooze ends; 0: when an operator resumes the rule.
    """

    rule: str
    kind: Literal["snoozed", "halted"]
    version: int = 0
    until_ms: int = UNTIL_RESUMED_MS
    by: str
    why: str
    at_ms: int


class PolicyStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Where the pointers stand; zero and empty before the first policy.

    Attributes:
        active: Version that counts.
        digest: Of its text.
        latest: The highest version that was ever applied.
        revision: Grows with every change of the policy and of switches.
    """

    active: int = 0
    digest: str = ""
    latest: int = 0
    revision: int = 0


class ScorerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What one scorer rules by, and why it refused what counts; empty if it did not."""

    version: int
    digest: str
    refused: str = ""


class PolicyStore(Protocol):
    """Where operators put policies and every scorer reads them.

    A version, once read, never changes. Every call may raise `PolicyStoreUnavailable`.
    Implementations: `policy_store_redis.RedisPolicyStore`, `tests.fakes_policy.MemoryPolicyStore`.
    """

    async def standing(self) -> PolicyStanding:
        """Return the pointers, read together."""

    async def read(self, version: int) -> KeptPolicy:
        """Return a version.

        Raises:
            NoPolicy: It is not there.
        """

    async def apply(self, policy: KeptPolicy, expected: int) -> None:
        """Keep a new version, and let it count.

        Args:
            policy: Its version is higher than every one before.
            expected: The version that counts now, as the applier saw it; 0 for none.

        Raises:
            PolicyConflict: Another version counts, or the version is not the highest.
        """

    async def rollback(self, act: PolicyAct, expected: int) -> None:
        """Let an earlier version, `act.version`, count again.

        Raises:
            PolicyConflict: Another version than `expected` counts.
            NoPolicy: The version is not there.
        """

    async def versions(self) -> list[KeptPolicy]:
        """Return the versions that are kept, newest first, with their texts."""

    async def switches(self) -> dict[str, Switch]:
        """Return what is switched off, by rule."""

    async def switch(self, switch: Switch, act: PolicyAct) -> None:
        """Switch a rule off; of one that is halted an operator's snooze takes the place."""

    async def resume(self, rule: str, act: PolicyAct) -> bool:
        """Let a rule have its say again; False, and no act, if it was not switched off."""

    async def note(self, act: PolicyAct) -> None:
        """Keep an act that something else was changed by."""

    async def history(self) -> Sequence[PolicyAct]:
        """Return the last `HISTORY_MAX` acts, newest first."""

    async def report(self, scorer_id: str, scorer: ScorerPolicy) -> None:
        """Say what a scorer rules by; forgotten after `report_ttl_s`."""

    async def scorers(self) -> Mapping[str, ScorerPolicy]:
        """Return scorer id → what it rules by, of those that reported lately."""

"""learner → registry → scorer: the shelf on which versions of Weights stand.

The registry moves signed bytes and numbers; it neither signs nor decodes. `latest` only grows.
`active` is what scorers load: it follows `latest` unless an operator has pinned it, and every such
act is kept in a bounded, audited list.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

KEEP_VERSIONS = 300
HISTORY_MAX = 1000


class NoWeights(LookupError):
    """That version was never published, or has left the shelf."""


class VersionConflict(ValueError):
    """The published version does not follow the latest one: two learners are running."""


class RegistryUnavailable(TimeoutError):
    """The registry did not answer; what was asked may or may not have happened."""


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """One act of an operator on the active pointer.

    Attributes:
        act: `pin` (stay at this version) or `unpin` (follow the latest one again).
        version: What became active by it.
        by: Who did it; free text.
        why: Free text.
        at_ms: When, by the actor's clock.
    """

    act: str
    version: int
    by: str
    why: str
    at_ms: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the learner has come.

    Attributes:
        offsets: "topic:partition" → next offset: all before is in `version`, or taught nothing.
        version: The newest published version.
    """

    offsets: dict[str, int]
    version: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where the pointers stand. Zero means: nothing published yet."""

    latest: int
    active: int
    pinned: bool


class WeightsRegistry(Protocol):
    """Where the one learner publishes and every scorer reads.

    A reader sees a version whole or not at all. A version, once read, never changes. The last
    `keep_versions` and the pinned one are kept; the weights topic keeps more.
    Every call may raise `RegistryUnavailable`.
    Implementations: `registry_redis.RedisWeightsRegistry`, `tests.fakes.MemoryWeightsRegistry`.
    """

    async def publish(self, version: int, data: bytes) -> None:
        """Compare-and-set `latest` from version - 1 to version, with its bytes; wake the waiting.

        Raises:
            VersionConflict: `latest` is not version - 1.
        """

    async def restore(self, version: int, data: bytes) -> None:
        """Give back a version that the registry lost with its last second or its whole memory.

        Moves `latest` up to `version`, over gaps too; a version at or below it is left as it is.
        """

    async def standing(self) -> Standing:
        """Return the pointers, read together."""

    async def latest_version(self) -> int:
        """Return the newest version's number; 0 for none."""

    async def active_version(self) -> int:
        """Return the number that scorers should answer with; 0 for none."""

    async def read(self, version: int) -> bytes:
        """Return the signed bytes of a version.

        Raises:
            NoWeights: It is not on the shelf.
        """

    async def wait_newer(self, version: int, timeout_s: float) -> int:
        """Wait until the active version is another than `version`, and return it.

        A rollback counts: the number returned may be smaller. After `timeout_s` returns the
        active version as it is. A lost notification costs at most `poll_s`.
        """

    async def pin(self, version: int, by: str, why: str, at_ms: int) -> None:
        """Make `version` active and keep it so, whatever is published.

        Raises:
            NoWeights: It is not on the shelf.
        """

    async def unpin(self, by: str, why: str, at_ms: int) -> None:
        """Make the latest version active, and follow it again. No effect when not pinned."""

    async def rollback(self, by: str, why: str, at_ms: int) -> int:
        """Pin the version before the active one, and return its number.

        Raises:
            NoWeights: There is none on the shelf.
        """

    async def history(self) -> list[Activation]:
        """Return the last `HISTORY_MAX` acts on the active pointer, newest first."""

    async def report_active(self, scorer_id: str, version: int) -> None:
        """Say that a scorer answers with `version`; forgotten after `report_ttl_s`."""

    async def active_versions(self) -> Mapping[str, int]:
        """Return scorer id → version, of the scorers that reported lately."""

    async def claim_labels(self, sender: str) -> str:
        """Return which learner of the deployment sends label transitions: this one, if none did.

        Their numbers are its own, so a second sender's would be taken for repeats. The claim is
        over all specs.
        """

    async def report_progress(self, offsets: Mapping[str, int], version: int) -> None:
        """Say how far the learner has come. The newest report replaces the one before."""

    async def progress(self) -> Progress | None:
        """Return the learner's newest report; None before the first."""

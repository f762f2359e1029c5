"""learner → registry → scorer: the shelf on which versions of Weights stand.

The registry moves signed bytes and numbers; it neither signs nor decodes. `latest` only grows.
`active` is what scorers load: it follows `latest` unless an operator has pinned it. While
publishing is frozen no version is made. Every such act is kept in a bounded, audited list.
A version is full, or a delta to the version before: its chain is the newest full version at or
before it, and all between. Whatever stands on the shelf stands there with its chain.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

KEEP_VERSIONS = 300
HISTORY_MAX = 1000


class NoWeights(LookupError):
    """That version was never published, or has left the shelf."""


class VersionConflict(ValueError):
    """The published version does not follow the latest one: two learners are running."""


class ChainBroken(ValueError):
    """A delta whose base is not on the shelf: nobody could read it."""


class RegistryUnavailable(TimeoutError):
    """The registry did not answer; what was asked may or may not have happened."""


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """One act on what scorers answer with.

    Attributes:
        act: `pin` (stay at this version), `unpin` (follow the latest one again), `freeze` (make no
            more versions) or `thaw`.
        version: What became active by a pin or its end; the latest one at a freeze or its end.
        by: Who did it; free text.
        why: Free text.
        at_ms: When, by the actor's clock.
    """

    act: str
    version: int
    by: str
    why: str
    at_ms: int


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """Why no versions are made at present.

    Attributes:
        by: Who froze; free text.
        why: Free text; of a learner's own freeze the reasons that it found.
        at_ms: When, by the actor's clock.
        cause: An operator's will, or the learner's own checks.
    """

    by: str
    why: str
    at_ms: int
    cause: Literal["operator", "checks"]


class Shelved(msgspec.Struct, frozen=True, kw_only=True):
    """A version on the shelf; `full` is where its chain begins, itself if it is a full one."""

    version: int
    full: int
    size_bytes: int


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
    `keep_versions`, the pinned and the held one are kept, and all that their chains need; the
    weights topic keeps more.
    Every call may raise `RegistryUnavailable`.
    Implementations: `registry_redis.RedisWeightsRegistry`, `tests.fakes.MemoryWeightsRegistry`.
    """

    async def publish(self, version: int, data: bytes, base: int = 0) -> None:
        """Compare-and-set `latest` from version - 1 to version, with its bytes; wake the waiting.

        Args:
            version: Its number.
            data: Its signed bytes.
            base: 0 for a full version; version - 1 for a delta.

        Raises:
            VersionConflict: `latest` is not version - 1.
            ChainBroken: The base is not on the shelf.
        """

    async def restore(self, version: int, data: bytes, base: int = 0) -> None:
        """Give back a version that the registry lost with its last second or its whole memory.

        Moves `latest` up to `version`, over gaps too; a version at or below it is left as it is.

        Raises:
            ChainBroken: The base is not on the shelf.
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

    async def read_chain(self, version: int) -> list[bytes]:
        """Return all that is needed to read a version: a full one, then deltas up to it.

        Raises:
            NoWeights: It is not on the shelf, or left it while it was read.
        """

    async def read_head(self, version: int, size_bytes: int) -> bytes:
        """Return the first bytes of a version, all of them if it has no more.

        Raises:
            NoWeights: It is not on the shelf.
        """

    async def shelf(self) -> list[Shelved]:
        """Return what stands on the shelf, in order of number; what only chains need included."""

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

    async def hold(self, version: int) -> None:
        """Keep a version on the shelf, besides the newest and the pinned one; 0: none any more.

        One at a time: what is being rolled out.

        Raises:
            NoWeights: It is not on the shelf.
        """

    async def rollback(self, by: str, why: str, at_ms: int) -> int:
        """Pin the version before the active one, and return its number.

        Raises:
            NoWeights: There is none on the shelf.
        """

    async def history(self) -> list[Activation]:
        """Return the last `HISTORY_MAX` acts, newest first."""

    async def freeze(self, freeze: Freeze) -> Freeze:
        """Ask the learner to make no more versions; return the freeze that stands.

        That is the earlier one if there is one: the act is written down all the same. A version
        that is just being made may still come.
        """

    async def thaw(self, by: str, why: str, at_ms: int) -> bool:
        """Let versions be made again; False, and no act, if nothing was frozen."""

    async def frozen(self) -> Freeze | None:
        """Return the freeze that stands."""

    async def take_lease(self, owner: str, ttl_s: float, instead_of: str = "") -> str:
        """Take or renew the right to publish for `ttl_s`; return who has it now.

        Args:
            owner: A name that no other process has.
            ttl_s: For how long, from now on the registry's clock.
            instead_of: An owner that is known to be dead: its lease is taken over.
        """

    async def release_lease(self, owner: str) -> None:
        """Give the lease back; without effect if another has it."""

    async def lease_owner(self) -> str:
        """Return who may publish; empty for nobody."""

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

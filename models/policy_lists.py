"""operators → ListStore → scorers: the shelf of allow, deny and watch lists."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

ListName: TypeAlias = Literal["deny", "watch", "allow"]
LISTS: tuple[ListName, ...] = ("deny", "watch", "allow")
"""The strictest first: of the lists that an event meets the first one counts."""
EVERY_TENANT = "*"
NEVER_MS = 0
ENTRIES_MAX = 5_000_000
CHANGE_MAX = 1_000
"""Changes of one call of the store."""

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


class ListsUnavailable(ConnectionError):
    """The store does not answer; the copy stays as it is."""


class ListsTrimmed(LookupError):
    """The log of changes no longer reaches back to where a copy stands: it must load again."""


class ListsFull(ValueError):
    """More than `ENTRIES_MAX` entries."""


class ListKey(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in a list: an entity of a tenant, or of every tenant (`*`)."""

    list: ListName
    entity: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    id: _Text
    tenant: _Text = EVERY_TENANT


class ListEntry(ListKey, frozen=True, kw_only=True):
    """An entry, and why it is there.

    Attributes:
        reason: For people; stands in the decision's reasons.
        by: Who put it there.
        at_ms: When, by that one's clock.
        until_ms: From then on it no longer counts; 0: for good.
    """

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""
    by: str = ""
    at_ms: int = 0
    until_ms: int = NEVER_MS


class ListChange(NamedTuple):
    """An entry that was put, or (None) a key that was taken out."""

    key: ListKey
    entry: ListEntry | None


class ListStore(Protocol):
    """Where the lists stand, for all scorers. Every call may raise `ListsUnavailable`.

    Implementations: `policy_lists_redis.RedisLists`, `tests.fakes_policy.MemoryLists`.
    """

    async def put_many(self, entries: Sequence[ListEntry]) -> int:
        """Put at most `CHANGE_MAX` entries, each in its predecessor's place; return how many new.

        Raises:
            ListsFull: There would be more than `ENTRIES_MAX`; none was put.
        """

    async def remove_many(self, keys: Sequence[ListKey]) -> int:
        """Take out at most `CHANGE_MAX` entries; return how many there were."""

    async def find(self, keys: Sequence[ListKey]) -> list[ListEntry | None]:
        """Return what stands under keys."""

    def scan(self) -> AsyncIterator[list[ListEntry]]:
        """Yield all entries; one that changes meanwhile may come twice, or as it was."""

    async def counts(self) -> Mapping[ListName, int]:
        """Return how many entries each list has."""

    async def position(self) -> str:
        """Return where the log of changes ends."""

    async def changes_since(self, position: str) -> tuple[list[ListChange], str]:
        """Return changes after a position, in order, and the position after them.

        Raises:
            ListsTrimmed: Some are no longer there.
        """

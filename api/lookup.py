"""a decision's id → the decision as it was recorded, or why there is none to show.

Behind it stands an index on disk, filled from `decisions.v1`. What the index has not got may be
unknown, or may not have reached it yet: only an index that is up to date says that there is none.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from api.errors import IndexBehind, NoSuchDecision, Overloaded

LOOKUPS_IN_FLIGHT_MAX: Final = 64
LOOK_AGAIN_S: Final = (0.02, 0.05, 0.15)
"""A decision that was answered a moment ago is still on its way to the index."""
BEHIND_AFTER_S: Final = 10.0

_ID = re.compile(r"dec_([0-9a-f]{32})")


class IndexUnavailable(OSError):
    """There is no index, or it cannot be read."""


class Indexed(NamedTuple):
    """One decision, as the index has it.

    Attributes:
        answer: The body that answered the caller.
    """

    tenant: str
    answer: bytes


class DecisionIndex(Protocol):
    """Decisions by id. Implementations: `lookup_sqlite.SqliteReader`."""

    def find(self, key: bytes) -> Indexed | None:
        """Return the decision of a key (16 bytes); may wait for a disk.

        Raises:
            IndexUnavailable: It cannot be read.
        """

    def as_of_ms(self) -> int:
        """Return the time up to which every recorded decision is in; 0: nobody knows.

        Raises:
            IndexUnavailable: It cannot be read.
        """


def key_of(decision_id: str) -> bytes | None:
    """Return the key of a decision id; None if it is no such id."""
    match = _ID.fullmatch(decision_id)
    return bytes.fromhex(match[1]) if match else None


class LookupDesk:
    """The step behind `GET /v1/decisions/{id}`."""

    def __init__(self, index: DecisionIndex, now_ms: Callable[[], int]) -> None:
        """Take the index, and the wall clock (milliseconds since 1970)."""
        self._index = index
        self._now_ms = now_ms
        self._in_flight = 0

    async def find(self, decision_id: str, tenant: str | None) -> bytes:
        """Return the body of the answer that was recorded.

        Args:
            decision_id: As in an answer: `dec_` and 32 hex digits.
            tenant: Who may see it; None: whoever asks. Another's decision is as if it were not.

        Raises:
            NoSuchDecision: None of this id was recorded, or it has left the index.
            IndexBehind: It may have been recorded: the index is away or behind.
            Overloaded: `LOOKUPS_IN_FLIGHT_MAX` are being answered.
        """
        key = key_of(decision_id)
        if key is None:
            raise NoSuchDecision("expected dec_ and 32 hex digits")
        if self._in_flight >= LOOKUPS_IN_FLIGHT_MAX:
            raise Overloaded(f"{self._in_flight} decisions are being looked up")
        self._in_flight += 1
        try:
            found = await self._find(key)
        except IndexUnavailable as error:
            raise IndexBehind(f"the index of decisions cannot be read: {error}") from error
        finally:
            self._in_flight -= 1
        if found is None or tenant not in (None, found.tenant):
            raise NoSuchDecision("none of this id is known; decisions leave with the horizon")
        return found.answer

    async def _find(self, key: bytes) -> Indexed | None:
        began_ms = self._now_ms()
        for pause_s in (*LOOK_AGAIN_S, None):
            found = await asyncio.to_thread(self._index.find, key)
            if found is not None:
                return found
            as_of_ms = await asyncio.to_thread(self._index.as_of_ms)
            if as_of_ms >= began_ms:
                return None
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        if as_of_ms < began_ms - BEHIND_AFTER_S * 1000:
            behind_s = (began_ms - as_of_ms) / 1000
            said = f"{behind_s:.0f} s behind the log" if as_of_ms else "still being filled"
            raise IndexBehind(f"the index of decisions is {said}")
        return None

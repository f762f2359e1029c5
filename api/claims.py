"""(decision id, body hash) → new, in progress, done or other body: a question is answered once."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec
import xxhash

from features.event import Event

_canonical = msgspec.json.Encoder(order="deterministic")


class ClaimsUnavailable(ConnectionError):
    """The claims' store does not answer; idempotency is degraded, decisions are not."""


class Claim(NamedTuple):
    """A wish to be the one who answers: the question's name, and the hash of its body."""

    name: str
    body_hash: bytes


class Claimed(NamedTuple):
    """What became of a claim.

    Attributes:
        state: `new`: ours to answer. `in_progress`: somebody's, unanswered yet. `done`: answered.
            `other_body`: the name is taken by another body.
        answer: The first answer's bytes if `done`, else empty.
    """

    state: Literal["new", "in_progress", "done", "other_body"]
    answer: bytes = b""


class Claims(Protocol):
    """Who answers what. A claim that is never finished expires after `claim_ttl_s`.

    Implementations: `claims_redis.RedisClaims`, `tests.fakes_serving.MemoryClaims`.
    """

    async def take_many(self, claims: Sequence[Claim]) -> list[Claimed]:
        """Take each claim unless it is taken, in one round trip.

        Raises:
            ClaimsUnavailable: No answer in time; some may or may not be taken.
        """

    async def finish_many(self, done: Sequence[tuple[Claim, bytes]]) -> None:
        """Keep the answers for `idempotency_window_s`.

        Raises:
            ClaimsUnavailable: No answer in time; a repeat may be decided again.
        """

    async def release_many(self, claims: Sequence[Claim]) -> None:
        """Give back claims that will not be answered.

        Raises:
            ClaimsUnavailable: No answer in time; they expire by themselves.
        """


def body_hash_of(event: Event) -> bytes:
    """Return 16 bytes that are equal for equal events, however their JSON was written."""
    return xxhash.xxh3_128_digest(_canonical.encode(event))

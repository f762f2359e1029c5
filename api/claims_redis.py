"""Claims in Redis: one `SET … NX GET` each, sent together, so taking and looking are one act."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from api.claims import Claim, Claimed, ClaimsUnavailable
from features.store import StoreUnavailable

HASH_BYTES = 16
_NEW = Claimed("new")


class Link(Protocol):
    """A way to Redis: `features.client_redis.RedisLink`."""

    async def send_many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands that each name their key; a refused one's answer is its error.

        Raises:
            StoreUnavailable: No good answer came in time.
        """


class RedisClaims:
    """A key per claim: 16 bytes of body hash, then the answer once there is one."""

    def __init__(
        self,
        link: Link,
        prefix: str,
        claim_ttl_s: float,
        idempotency_window_s: float,
        timeout_s: float,
    ) -> None:
        """Take a link to the store (single or cluster).

        Args:
            link: Shared with the features' reader, so that both are one round trip.
            prefix: Of all keys of this deployment.
            claim_ttl_s: Life of an unfinished claim.
            idempotency_window_s: Life of an answer.
            timeout_s: Longest wait for one call.
        """
        self._link = link
        self._prefix = f"{prefix}claim:"
        self._claim_ttl_ms = b"%d" % int(claim_ttl_s * 1000)
        self._window_ms = b"%d" % int(idempotency_window_s * 1000)
        self._timeout_s = timeout_s

    async def take_many(self, claims: Sequence[Claim]) -> list[Claimed]:
        """Take each claim unless it is taken; see `claims.Claims`."""
        prefix, ttl_ms = self._prefix, self._claim_ttl_ms
        found = await self._send(
            [
                ("SET", prefix + claim.name, claim.body_hash, "NX", "GET", "PX", ttl_ms)
                for claim in claims
            ]
        )
        return [_claimed(claim, value) for claim, value in zip(claims, found, strict=True)]

    async def finish_many(self, done: Sequence[tuple[Claim, bytes]]) -> None:
        """Keep the answers; see `claims.Claims`."""
        prefix, window_ms = self._prefix, self._window_ms
        await self._send(
            [
                ("SET", prefix + claim.name, claim.body_hash + answer, "PX", window_ms)
                for claim, answer in done
            ]
        )

    async def release_many(self, claims: Sequence[Claim]) -> None:
        """Delete the claims; see `claims.Claims`."""
        await self._send([("DEL", self._prefix + claim.name) for claim in claims])

    async def _send(self, commands: Sequence[tuple[str | bytes, ...]]) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._link.send_many(commands)
        except (StoreUnavailable, TimeoutError) as error:
            raise ClaimsUnavailable(str(error) or type(error).__name__) from error
        for answer in answers:
            if isinstance(answer, Exception):  # full, read-only, not of our access rights
                raise ClaimsUnavailable(str(answer))
        return answers


def _claimed(claim: Claim, value: bytes | None) -> Claimed:
    if value is None:
        return _NEW
    if value[:HASH_BYTES] != claim.body_hash:
        return Claimed("other_body")
    return (
        Claimed("done", value[HASH_BYTES:]) if len(value) > HASH_BYTES else Claimed("in_progress")
    )

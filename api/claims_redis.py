"""Claims in Redis: one `SET … NX GET` each, in one pipeline, so taking and looking are one act."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from api.claims import Claim, Claimed, ClaimsUnavailable

HASH_BYTES = 16


class RedisClaims:
    """A key per claim: 16 bytes of body hash, then the answer once there is one."""

    def __init__(
        self,
        client: Any,
        prefix: str,
        claim_ttl_s: float,
        idempotency_window_s: float,
        timeout_s: float,
    ) -> None:
        """Take a connected asyncio client (single or cluster).

        Args:
            client: Of redis-py, answering bytes.
            prefix: Of all keys of this deployment.
            claim_ttl_s: Life of an unfinished claim.
            idempotency_window_s: Life of an answer.
            timeout_s: Longest wait for one call.
        """
        self._client = client
        self._prefix = f"{prefix}claim:"
        self._claim_ttl_ms = int(claim_ttl_s * 1000)
        self._window_ms = int(idempotency_window_s * 1000)
        self._timeout_s = timeout_s

    async def take_many(self, claims: Sequence[Claim]) -> list[Claimed]:
        """Take each claim unless it is taken; see `claims.Claims`."""
        pipeline = self._client.pipeline(transaction=False)
        for claim in claims:
            pipeline.set(
                self._prefix + claim.name, claim.body_hash, nx=True, get=True, px=self._claim_ttl_ms
            )
        found = await self._execute(pipeline)
        return [_claimed(claim, value) for claim, value in zip(claims, found, strict=True)]

    async def finish_many(self, done: Sequence[tuple[Claim, bytes]]) -> None:
        """Keep the answers; see `claims.Claims`."""
        pipeline = self._client.pipeline(transaction=False)
        for claim, answer in done:
            pipeline.set(self._prefix + claim.name, claim.body_hash + answer, px=self._window_ms)
        await self._execute(pipeline)

    async def release_many(self, claims: Sequence[Claim]) -> None:
        """Delete the claims; see `claims.Claims`."""
        pipeline = self._client.pipeline(transaction=False)
        for claim in claims:
            pipeline.delete(self._prefix + claim.name)
        await self._execute(pipeline)

    async def _execute(self, pipeline: Any) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return list(await pipeline.execute())
        except (RedisError, OSError, TimeoutError) as error:
            raise ClaimsUnavailable(str(error) or type(error).__name__) from error


def _claimed(claim: Claim, value: bytes | None) -> Claimed:
    if value is None:
        return Claimed("new")
    if value[:HASH_BYTES] != claim.body_hash:
        return Claimed("other_body")
    return (
        Claimed("done", value[HASH_BYTES:]) if len(value) > HASH_BYTES else Claimed("in_progress")
    )

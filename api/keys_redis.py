"""Records of keys in Redis: one hash, a field for each id."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.exceptions import RedisError

from api.keys import KeyRecord, KeysUnavailable

_decoder = msgspec.json.Decoder(KeyRecord)
_encoder = msgspec.json.Encoder()


class RedisKeyStore:
    """The keys of one deployment."""

    def __init__(self, client: Any, prefix: str, timeout_s: float) -> None:
        """Take a connected asyncio client (single or cluster).

        Args:
            client: Of redis-py, answering bytes.
            prefix: Of all keys of this deployment.
            timeout_s: Longest wait for one call.
        """
        self._client = client
        self._key = f"{prefix}keys"
        self._timeout_s = timeout_s

    async def read_all(self) -> list[KeyRecord]:
        """Return every record; see `keys.KeyStore`."""
        rows = await self._ask("HVALS", self._key)
        try:
            records = [_decoder.decode(row) for row in rows]
        except msgspec.MsgspecError as error:
            raise KeysUnavailable(f"{self._key}: {error}") from error
        return sorted(records, key=lambda record: (record.made_at_ms, record.id))

    async def put_many(self, records: Sequence[KeyRecord]) -> None:
        """Keep records; see `keys.KeyStore`."""
        flat = [part for record in records for part in (record.id, _encoder.encode(record))]
        if flat:
            await self._ask("HSET", self._key, *flat)

    async def _ask(self, *command: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.execute_command(*command)
        except (RedisError, OSError, TimeoutError) as error:
            raise KeysUnavailable(str(error) or type(error).__name__) from error

"""The weights registry in Redis or Valkey, single node or cluster.

Each feature spec has a line of versions of its own, so learners of an old and a new spec publish
side by side. All keys of a line share one hash tag, so every move is one atomic script on one node.
Under `{prefix}{weights.<12 characters of the digest>}:` (the outer braces are literal) stand:
`state` hash of pointers, `v:N` bytes of version N, `news` stream that wakes waiting scorers, `acts`
list, `seen` sorted set and `scorers` hash of who answers with what, `progress`. A stream, not
Pub/Sub: its reader loses nothing when it reconnects.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from models.registry import (
    HISTORY_MAX,
    KEEP_VERSIONS,
    Activation,
    NoWeights,
    Progress,
    RegistryUnavailable,
    Standing,
    VersionConflict,
)

POLL_S = 0.2
REPORT_TTL_S = 15.0
NEWS_MAX = 16
LINE_CHARACTERS = 12
VERSIONS_MAX = 100_000  # more than any setting keeps
FORGET_BATCH_KEYS = 1_000

# KEYS: state, v:version, news, v:version-keep. ARGV: version, bytes, any?, news cap
_PUBLISH = """
local latest = tonumber(redis.call('HGET', KEYS[1], 'latest') or '0')
local version = tonumber(ARGV[1])
if ARGV[3] == '1' then
  if latest >= version then return latest end
elseif latest + 1 ~= version then
  return latest
end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[1], 'latest', ARGV[1])
local pinned = redis.call('HGET', KEYS[1], 'pinned')
if not pinned then redis.call('HSET', KEYS[1], 'active', ARGV[1]) end
local gone = version - tonumber(ARGV[5])
if gone >= 1 and tostring(gone) ~= pinned then redis.call('DEL', KEYS[4]) end
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[4], '*', 'v', ARGV[1])
return -1
"""
# KEYS: state, v:version, news, acts. ARGV: version, act, news cap, acts cap
_PIN = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'pinned', ARGV[1], 'active', ARGV[1])
redis.call('LPUSH', KEYS[4], ARGV[2])
redis.call('LTRIM', KEYS[4], 0, tonumber(ARGV[4]) - 1)
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[3], '*', 'v', ARGV[1])
return 1
"""
# KEYS: state, v:pinned, news, acts. ARGV: the pin to lift, act, news cap, acts cap, keep
_UNPIN = """
if redis.call('HGET', KEYS[1], 'pinned') ~= ARGV[1] then return 0 end
local latest = redis.call('HGET', KEYS[1], 'latest')
redis.call('HDEL', KEYS[1], 'pinned')
redis.call('HSET', KEYS[1], 'active', latest)
if tonumber(ARGV[1]) <= tonumber(latest) - tonumber(ARGV[5]) then redis.call('DEL', KEYS[2]) end
redis.call('LPUSH', KEYS[4], ARGV[2])
redis.call('LTRIM', KEYS[4], 0, tonumber(ARGV[4]) - 1)
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[3], '*', 'v', latest)
return 1
"""
# KEYS: state, news. Pointers and the place in the news from which to wait, read together
_STANDING = """
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local state = redis.call('HMGET', KEYS[1], 'latest', 'active', 'pinned')
return {state[1] or '0', state[2] or '0', state[3] or '0', last[1] and last[1][1] or '0-0'}
"""
# KEYS: seen, scorers. ARGV: ttl ms, then scorer id and version, or nothing to only read
_REPORT = """
local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms)) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
if ARGV[2] then
  redis.call('ZADD', KEYS[1], now_ms + tonumber(ARGV[1]), ARGV[2])
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  return {}
end
return redis.call('HGETALL', KEYS[2])
"""

# KEYS: who sends label transitions. ARGV: who asks to
_CLAIM = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""


class RedisWeightsRegistry:
    """`registry.WeightsRegistry` on a Redis client that returns bytes."""

    def __init__(
        self,
        client: "Redis | RedisCluster",
        prefix: str,
        spec_digest: str,
        keep_versions: int = KEEP_VERSIONS,
        poll_s: float = POLL_S,
        report_ttl_s: float = REPORT_TTL_S,
    ) -> None:
        """Take a client, which stays its owner's to close.

        Args:
            client: With `decode_responses=False`, and a socket timeout above `poll_s`.
            prefix: Of every key, as in `riskbeat:`.
            spec_digest: Of the feature spec whose line of versions this is.
            keep_versions: How many of the newest versions stay readable.
            poll_s: Longest time for which a lost notification goes unnoticed.
            report_ttl_s: After this time without a report a scorer is no longer listed.
        """
        self._client: Any = client
        self._sender_key = f"{prefix}labels:sender"
        self._base = f"{prefix}{{weights.{spec_digest[:LINE_CHARACTERS]}}}:"
        self._keep = keep_versions
        self._poll_s = poll_s
        self._report_ttl_ms = int(report_ttl_s * 1000)

    async def publish(self, version: int, data: bytes) -> None:
        """Compare-and-set the latest version; see the port."""
        latest = await self._put(version, data, over_gaps=False)
        if latest != -1:
            raise VersionConflict(
                f"version {version} does not follow {latest}, the latest: is a second learner "
                "running, or has this one lost its data directory?"
            )

    async def restore(self, version: int, data: bytes) -> None:
        """Give back a version that was lost; see the port."""
        await self._put(version, data, over_gaps=True)

    async def standing(self) -> Standing:
        """Return the pointers, read together."""
        return (await self._standing())[0]

    async def latest_version(self) -> int:
        """Return the newest version's number; 0 for none."""
        return (await self.standing()).latest

    async def active_version(self) -> int:
        """Return the number that scorers should answer with; 0 for none."""
        return (await self.standing()).active

    async def read(self, version: int) -> bytes:
        """Return the signed bytes of a version; see the port."""
        data = await self._ask("GET", self._version_key(version))
        if data is None:
            raise NoWeights(f"version {version} is not in the registry")
        return bytes(data)

    async def wait_newer(self, version: int, timeout_s: float) -> int:
        """Wait for another active version; see the port."""
        deadline = time.monotonic() + timeout_s
        while True:
            standing, place = await self._standing()
            left_s = deadline - time.monotonic()
            if standing.active != version or left_s <= 0:
                return standing.active
            block_ms = max(1, int(1000 * min(left_s, self._poll_s)))
            key = self._key("news")
            await self._ask("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", key, place)

    async def pin(self, version: int, by: str, why: str, at_ms: int) -> None:
        """Make a version active and keep it so; see the port."""
        before = await self.standing()
        act = Activation(act="pin", version=version, by=by, why=why, at_ms=at_ms)
        keys = [self._key("state"), self._version_key(version), *self._keys("news", "acts")]
        args = [version, msgspec.json.encode(act), NEWS_MAX, HISTORY_MAX]
        if not await self._run(_PIN, keys, args):
            raise NoWeights(f"version {version} is not in the registry")
        kept = before.active == version or before.active > before.latest - self._keep
        if before.pinned and not kept:
            await self._ask("DEL", self._version_key(before.active))

    async def unpin(self, by: str, why: str, at_ms: int) -> None:
        """Follow the latest version again; see the port."""
        standing = await self.standing()
        if not standing.pinned:
            return
        act = Activation(act="unpin", version=standing.latest, by=by, why=why, at_ms=at_ms)
        pinned = self._version_key(standing.active)
        keys = [self._key("state"), pinned, *self._keys("news", "acts")]
        args = [standing.active, msgspec.json.encode(act), NEWS_MAX, HISTORY_MAX, self._keep]
        await self._run(_UNPIN, keys, args)

    async def rollback(self, by: str, why: str, at_ms: int) -> int:
        """Pin the version before the active one; see the port."""
        target = (await self.standing()).active - 1
        await self.pin(target, by, why, at_ms)
        return target

    async def history(self) -> list[Activation]:
        """Return the acts on the active pointer, newest first."""
        rows = await self._ask("LRANGE", self._key("acts"), 0, HISTORY_MAX - 1)
        return [msgspec.json.decode(row, type=Activation) for row in rows]

    async def report_active(self, scorer_id: str, version: int) -> None:
        """Say that a scorer answers with a version."""
        args = [self._report_ttl_ms, scorer_id, version]
        await self._run(_REPORT, self._keys("seen", "scorers"), args)

    async def active_versions(self) -> dict[str, int]:
        """Return scorer id → version, of the scorers that reported lately."""
        args = [self._report_ttl_ms]
        flat = await self._run(_REPORT, self._keys("seen", "scorers"), args)
        return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}

    async def claim_labels(self, sender: str) -> str:
        """Return which learner sends label transitions; see the port."""
        return bytes(await self._run(_CLAIM, [self._sender_key], [sender])).decode()

    async def report_progress(self, offsets: Mapping[str, int], version: int) -> None:
        """Say how far the learner has come."""
        progress = Progress(offsets=dict(offsets), version=version)
        await self._ask("SET", self._key("progress"), msgspec.json.encode(progress))

    async def progress(self) -> Progress | None:
        """Return the learner's newest report; None before the first."""
        data = await self._ask("GET", self._key("progress"))
        return None if data is None else msgspec.json.decode(data, type=Progress)

    async def forget(self) -> None:
        """Delete the whole line: versions, pointers and the list of acts.

        Raises:
            RegistryUnavailable: No answer; what is left can be forgotten again.
        """
        standing = await self.standing()
        lowest = max(1, standing.latest - VERSIONS_MAX)
        numbers = {standing.active, *range(lowest, standing.latest + 1)}
        keys = [self._version_key(number) for number in sorted(numbers)]
        keys += self._keys("state", "news", "acts", "seen", "scorers", "progress")
        for start in range(0, len(keys), FORGET_BATCH_KEYS):
            await self._ask("UNLINK", *keys[start : start + FORGET_BATCH_KEYS])

    async def _put(self, version: int, data: bytes, *, over_gaps: bool) -> int:
        """Return -1 when written, else the latest version that stood in the way."""
        names = [self._version_key(version), self._key("news")]
        keys = [self._key("state"), *names, self._version_key(version - self._keep)]
        args = [version, data, int(over_gaps), NEWS_MAX, self._keep]
        return int(await self._run(_PUBLISH, keys, args))

    async def _standing(self) -> tuple[Standing, bytes]:
        found = await self._run(_STANDING, self._keys("state", "news"), [])
        latest, active, pinned = (int(value) for value in found[:3])
        return Standing(latest=latest, active=active, pinned=pinned > 0), found[3]

    async def _run(self, script: str, keys: list[str], args: list[Any]) -> Any:
        return await self._ask("EVAL", script, len(keys), *keys, *args)

    async def _ask(self, *command: Any) -> Any:
        try:
            return await self._client.execute_command(*command)
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise RegistryUnavailable(f"{command[0]}: {error}") from error
        except ResponseError:
            raise  # a script or a type of ours is wrong
        except RedisError as error:
            raise RegistryUnavailable(f"{command[0]}: {error}") from error

    def _keys(self, *names: str) -> list[str]:
        return [self._key(name) for name in names]

    def _key(self, name: str) -> str:
        return f"{self._base}{name}"

    def _version_key(self, version: int) -> str:
        return self._key(f"v:{version}")

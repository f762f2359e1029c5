"""The weights registry in Redis or Valkey, single node or cluster.

Each feature spec has a line of versions of its own, so learners of an old and a new spec publish
side by side; a challenger's learner has another (`{weights.<digest>.<line>}`). All keys of a line
share one hash tag, so every move is one atomic script on one node.
Under `{prefix}{weights.<12 characters of the digest>}:` (the outer braces are literal) stand:
`state` hash of pointers, `v:N` bytes of version N, `fulls` hash of N to where its chain begins,
`news` stream that wakes waiting scorers, `acts` list, `freeze`, `lease`, `seen` sorted set and
`scorers` hash of who answers with what, `progress`. A stream, not Pub/Sub: its reader loses nothing
when it reconnects.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from features.faults_redis import ask
from models import registry_scripts as scripts
from models.registry import (
    HISTORY_MAX,
    KEEP_VERSIONS,
    Activation,
    ChainBroken,
    Freeze,
    NoWeights,
    Progress,
    RegistryUnavailable,
    Shelved,
    Standing,
    VersionConflict,
)

POLL_S = 0.2
REPORT_TTL_S = 15.0
NEWS_MAX = 16
LINE_CHARACTERS = 12
FORGET_BATCH_KEYS = 1_000
ROLLOUT_KEYS = (
    *("rollout", "rollout.acts", "rollout.seen"),
    *("rollout.reports", "rollout.judged", "rollout.lease"),
)
"""Of `rollout_redis`, beside the main line's."""


def base_of(prefix: str, spec_digest: str, line: str = "") -> str:
    """Return what the keys of a line of versions begin with; the main line has no name."""
    name = spec_digest[:LINE_CHARACTERS] + (f".{line}" if line else "")
    return f"{prefix}{{weights.{name}}}:"


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
        line: str = "",
    ) -> None:
        """Take a client, which stays its owner's to close.

        Args:
            client: With `decode_responses=False`, and a socket timeout above `poll_s`.
            prefix: Of every key, as in `riskbeat:`.
            spec_digest: Of the feature spec whose line of versions this is.
            keep_versions: How many of the newest versions stay readable.
            poll_s: Longest time for which a lost notification goes unnoticed.
            report_ttl_s: After this time without a report a scorer is no longer listed.
            line: Of several of one spec; empty for the main one.
        """
        self._client: Any = client
        self._sender_key = f"{prefix}labels:sender"
        self._base = base_of(prefix, spec_digest, line)
        self._keep = keep_versions
        self._poll_s = poll_s
        self._report_ttl_ms = int(report_ttl_s * 1000)

    async def publish(self, version: int, data: bytes, base: int = 0) -> None:
        """Compare-and-set the latest version; see the port."""
        latest = await self._put(version, data, base, over_gaps=False)
        if latest != -1:
            raise VersionConflict(
                f"version {version} does not follow {latest}, the latest: is a second learner "
                "running, or has this one lost its data directory?"
            )

    async def restore(self, version: int, data: bytes, base: int = 0) -> None:
        """Give back a version that was lost; see the port."""
        await self._put(version, data, base, over_gaps=True)

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

    async def read_chain(self, version: int) -> list[bytes]:
        """Return a version's full one and deltas up to it; see the port.

        One by one, so that the store never holds all of them in one answer.
        """
        full = await self._ask("HGET", self._key("fulls"), version)
        if full is None:
            raise NoWeights(f"version {version} is not in the registry")
        return [await self.read(number) for number in range(int(full), version + 1)]

    async def read_head(self, version: int, size_bytes: int) -> bytes:
        """Return the first bytes of a version; see the port."""
        data = bytes(await self._ask("GETRANGE", self._version_key(version), 0, size_bytes - 1))
        if not data:
            raise NoWeights(f"version {version} is not in the registry")
        return data

    async def shelf(self) -> list[Shelved]:
        """Return what stands on the shelf; see the port."""
        flat = await self._look(scripts.SHELF, self._keys("state", "fulls"))
        found = [
            Shelved(version=flat[i], full=flat[i + 1], size_bytes=flat[i + 2])
            for i in range(0, len(flat), 3)
        ]
        return sorted(found, key=lambda one: one.version)

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
        act = Activation(act="pin", version=version, by=by, why=why, at_ms=at_ms)
        keys = self._keys("state", "fulls", "news", "acts")
        args = [version, msgspec.json.encode(act), NEWS_MAX, HISTORY_MAX]
        if not await self._run(scripts.PIN, keys, args):
            raise NoWeights(f"version {version} is not in the registry")

    async def unpin(self, by: str, why: str, at_ms: int) -> None:
        """Follow the latest version again; see the port."""
        standing = await self.standing()
        if not standing.pinned:
            return
        act = Activation(act="unpin", version=standing.latest, by=by, why=why, at_ms=at_ms)
        keys = self._keys("state", "fulls", "news", "acts")
        args = [standing.active, msgspec.json.encode(act), NEWS_MAX, HISTORY_MAX]
        await self._run(scripts.UNPIN, keys, args)

    async def hold(self, version: int) -> None:
        """Keep a version on the shelf; see the port."""
        if not await self._run(scripts.HOLD, self._keys("state", "fulls"), [version]):
            raise NoWeights(f"version {version} is not in the registry")

    async def rollback(self, by: str, why: str, at_ms: int) -> int:
        """Pin the version before the active one; see the port."""
        target = (await self.standing()).active - 1
        await self.pin(target, by, why, at_ms)
        return target

    async def history(self) -> list[Activation]:
        """Return the acts, newest first."""
        rows = await self._ask("LRANGE", self._key("acts"), 0, HISTORY_MAX - 1)
        return [msgspec.json.decode(row, type=Activation) for row in rows]

    async def freeze(self, freeze: Freeze) -> Freeze:
        """Ask the learner to make no more versions; see the port."""
        act = await self._act_on_latest("freeze", freeze.by, freeze.why, freeze.at_ms)
        args = [msgspec.json.encode(freeze), act, HISTORY_MAX]
        stands = await self._run(scripts.FREEZE, self._keys("freeze", "acts"), args)
        return msgspec.json.decode(stands, type=Freeze)

    async def thaw(self, by: str, why: str, at_ms: int) -> bool:
        """Let versions be made again; see the port."""
        act = await self._act_on_latest("thaw", by, why, at_ms)
        return bool(await self._run(scripts.THAW, self._keys("freeze", "acts"), [act, HISTORY_MAX]))

    async def frozen(self) -> Freeze | None:
        """Return the freeze that stands."""
        data = await self._ask("GET", self._key("freeze"))
        return None if data is None else msgspec.json.decode(data, type=Freeze)

    async def take_lease(self, owner: str, ttl_s: float, instead_of: str = "") -> str:
        """Take or renew the right to publish; see the port."""
        args = [owner, max(1, round(ttl_s * 1000)), instead_of]
        return bytes(await self._run(scripts.LEASE, self._keys("lease"), args)).decode()

    async def release_lease(self, owner: str) -> None:
        """Give the lease back; see the port."""
        await self._run(scripts.RELEASE, self._keys("lease"), [owner])

    async def lease_owner(self) -> str:
        """Return who may publish; empty for nobody."""
        return bytes(await self._ask("GET", self._key("lease")) or b"").decode()

    async def report_active(self, scorer_id: str, version: int) -> None:
        """Say that a scorer answers with a version."""
        args = [self._report_ttl_ms, scorer_id, version]
        await self._run(scripts.REPORT, self._keys("seen", "scorers"), args)

    async def active_versions(self) -> dict[str, int]:
        """Return scorer id → version, of the scorers that reported lately."""
        args = [self._report_ttl_ms]
        flat = await self._run(scripts.REPORT, self._keys("seen", "scorers"), args)
        return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}

    async def claim_labels(self, sender: str) -> str:
        """Return which learner sends label transitions; see the port."""
        return bytes(await self._run(scripts.CLAIM, [self._sender_key], [sender])).decode()

    async def report_progress(self, offsets: Mapping[str, int], version: int) -> None:
        """Say how far the learner has come."""
        progress = Progress(offsets=dict(offsets), version=version)
        await self._ask("SET", self._key("progress"), msgspec.json.encode(progress))

    async def progress(self) -> Progress | None:
        """Return the learner's newest report; None before the first."""
        data = await self._ask("GET", self._key("progress"))
        return None if data is None else msgspec.json.decode(data, type=Progress)

    async def forget(self) -> None:
        """Delete the whole line: versions, pointers, freeze, lease and the list of acts.

        Raises:
            RegistryUnavailable: No answer; what is left can be forgotten again.
        """
        numbers = [int(number) for number in await self._ask("HKEYS", self._key("fulls"))]
        keys = [self._version_key(number) for number in sorted(numbers)]
        keys += self._keys("state", "fulls", "news", "acts", "freeze", "lease")
        keys += self._keys("seen", "scorers", "progress", *ROLLOUT_KEYS)
        for start in range(0, len(keys), FORGET_BATCH_KEYS):
            await self._ask("UNLINK", *keys[start : start + FORGET_BATCH_KEYS])

    async def _put(self, version: int, data: bytes, base: int, *, over_gaps: bool) -> int:
        """Return -1 when written, else the latest version that stood in the way."""
        args = [version, data, base, int(over_gaps), NEWS_MAX, self._keep]
        found = int(await self._run(scripts.PUBLISH, self._keys("state", "fulls", "news"), args))
        if found == -2:
            raise ChainBroken(f"version {version} is a delta to {base}, not in the registry")
        return found

    async def _act_on_latest(self, act: str, by: str, why: str, at_ms: int) -> bytes:
        latest = (await self.standing()).latest
        return msgspec.json.encode(Activation(act=act, version=latest, by=by, why=why, at_ms=at_ms))

    async def _standing(self) -> tuple[Standing, bytes]:
        found = await self._look(scripts.STANDING, self._keys("state", "news"))
        latest, active, pinned = (int(value) for value in found[:3])
        return Standing(latest=latest, active=active, pinned=pinned > 0), found[3]

    async def _run(self, script: str, keys: list[str], args: list[Any]) -> Any:
        return await self._ask("EVAL", script, len(keys), *keys, *args)

    async def _look(self, script: str, keys: list[str]) -> Any:
        """Run a script that only reads, so that a user who may not write can."""
        return await self._ask("EVAL_RO", script, len(keys), *keys)

    async def _ask(self, *command: Any) -> Any:
        return await ask(self._client, RegistryUnavailable, *command)

    def _keys(self, *names: str) -> list[str]:
        return [self._key(name) for name in names]

    def _key(self, name: str) -> str:
        return f"{self._base}{name}"

    def _version_key(self, version: int) -> str:
        return self._key(f"v:{version}")

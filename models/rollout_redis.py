"""The state of rollouts in Redis or Valkey, under the hash tag of a spec's line of versions.

Under `{prefix}{weights.<12 characters of the digest>}:` (the outer braces are literal) stand:
`rollout` hash of revision and state, `rollout.acts` list, `rollout.seen` sorted set and
`rollout.reports` hash of what workers saw, `rollout.judged`, `rollout.lease`.
"""

from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from features.faults_redis import ask
from models.registry import RegistryUnavailable
from models.registry_redis import base_of
from models.registry_scripts import LEASE, REPORT
from models.rollout import RolloutAct, RolloutState
from models.rollout_signals import JudgedReport, Report
from models.rollout_store import HISTORY_MAX, RolloutConflict

REPORT_TTL_S = 30.0
# KEYS: rollout, acts. ARGV: revision that must stand, state, act, acts cap. Returns 1 when done
REPLACE = """
local stands = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0')
if stands ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'revision', stands + 1, 'state', ARGV[2])
redis.call('LPUSH', KEYS[2], ARGV[3])
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[4]) - 1)
return 1
"""


class RedisRolloutStore:
    """`rollout_store.RolloutStore` on a Redis client that returns bytes."""

    def __init__(
        self,
        client: "Redis | RedisCluster",
        prefix: str,
        spec_digest: str,
        report_ttl_s: float = REPORT_TTL_S,
    ) -> None:
        """Take a client, which stays its owner's to close.

        Args:
            client: With `decode_responses=False`.
            prefix: Of every key, as in `riskbeat:`.
            spec_digest: Of the feature spec whose versions are rolled out.
            report_ttl_s: After this time without a report a worker's counts are no longer added.
        """
        self._client: Any = client
        self._base = base_of(prefix, spec_digest)
        self._report_ttl_ms = int(report_ttl_s * 1000)

    async def read(self) -> RolloutState:
        """Return the state; revision 0 before the first change."""
        data = await self._ask("HGET", self._key("rollout"), "state")
        if data is None:
            return RolloutState()
        try:
            return msgspec.json.decode(data, type=RolloutState)
        except msgspec.DecodeError as error:  # of a build that is newer than this one
            raise RegistryUnavailable(f"the state of rollouts cannot be read: {error}") from error

    async def replace(self, state: RolloutState, act: RolloutAct) -> None:
        """Put a state in place of the one of the revision before; see the port."""
        args = [
            state.revision - 1,
            msgspec.json.encode(state),
            msgspec.json.encode(act),
            HISTORY_MAX,
        ]
        if not await self._run(REPLACE, ("rollout", "rollout.acts"), args):
            raise RolloutConflict(f"revision {state.revision - 1} no longer stands")

    async def history(self) -> list[RolloutAct]:
        """Return the last acts, newest first."""
        found = await self._ask("LRANGE", self._key("rollout.acts"), 0, HISTORY_MAX - 1)
        return [msgspec.json.decode(data, type=RolloutAct) for data in found]

    async def report(self, worker: str, report: Report) -> None:
        """Replace a worker's report; see the port."""
        args = [self._report_ttl_ms, worker, msgspec.json.encode(report)]
        await self._run(REPORT, ("rollout.seen", "rollout.reports"), args)

    async def reports(self) -> dict[str, Report]:
        """Return worker → report; see the port."""
        args = [self._report_ttl_ms]
        flat = await self._run(REPORT, ("rollout.seen", "rollout.reports"), args)
        found = {}
        for place in range(0, len(flat), 2):
            try:
                report = msgspec.json.decode(flat[place + 1], type=Report)
            except msgspec.DecodeError:
                continue  # of another build, whose counts cannot be added to ours
            found[flat[place].decode()] = report
        return found

    async def report_judged(self, report: JudgedReport) -> None:
        """Replace what is known of a rollout's decisions."""
        await self._ask("SET", self._key("rollout.judged"), msgspec.json.encode(report))

    async def judged(self) -> JudgedReport | None:
        """Return the newest of these reports; None before the first."""
        data = await self._ask("GET", self._key("rollout.judged"))
        return None if data is None else msgspec.json.decode(data, type=JudgedReport)

    async def take_lease(self, owner: str, ttl_s: float) -> bool:
        """Take or renew the right to decide; see the port."""
        args = [owner, max(1, round(ttl_s * 1000)), ""]
        holder = bytes(await self._run(LEASE, ("rollout.lease",), args))
        return holder == owner.encode()

    async def _run(self, script: str, names: tuple[str, ...], args: list[Any]) -> Any:
        keys = [self._key(name) for name in names]
        return await self._ask("EVAL", script, len(keys), *keys, *args)

    async def _ask(self, *command: Any) -> Any:
        return await ask(self._client, RegistryUnavailable, *command)

    def _key(self, name: str) -> str:
        return f"{self._base}{name}"

"""The policy store in Redis or Valkey, single node or cluster.

Under `{prefix}{policy}:` (the inner braces are literal: one hash tag) stand `state` (pointers),
`kept` (version → text and who applied it), `switches`, `acts`, `seen` and `scorers`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from features.faults_redis import ask
from models import policy_scripts as scripts
from models.policy_store import (
    HISTORY_MAX,
    VERSIONS_KEPT,
    KeptPolicy,
    NoPolicy,
    PolicyAct,
    PolicyConflict,
    PolicyStanding,
    PolicyStoreUnavailable,
    ScorerPolicy,
    Switch,
)
from models.registry_scripts import REPORT

REPORT_TTL_S = 15.0


class RedisPolicyStore:
    """`policy_store.PolicyStore` on a Redis client that returns bytes."""

    def __init__(self, client: Any, prefix: str, report_ttl_s: float = REPORT_TTL_S) -> None:
        """Take a client, which stays its owner's to close.

        Args:
            client: Asyncio, single or cluster, with `decode_responses=False`.
            prefix: Of every key, as in `riskbeat:`.
            report_ttl_s: After this time without a report a scorer is no longer listed.
        """
        self._client = client
        self._base = f"{prefix}{{policy}}:"
        self._report_ttl_ms = int(report_ttl_s * 1000)

    async def standing(self) -> PolicyStanding:
        """Return the pointers, read together."""
        fields = ("active", "digest", "latest", "revision")
        active, digest, latest, revision = await self._ask("HMGET", self._key("state"), *fields)
        return PolicyStanding(
            active=int(active or 0),
            digest=(digest or b"").decode(),
            latest=int(latest or 0),
            revision=int(revision or 0),
        )

    async def read(self, version: int) -> KeptPolicy:
        """Return a version; see the port."""
        data = await self._ask("HGET", self._key("kept"), version)
        if data is None:
            raise NoPolicy(f"policy version {version} is not in the store")
        return msgspec.json.decode(data, type=KeptPolicy)

    async def apply(self, policy: KeptPolicy, expected: int) -> None:
        """Keep a new version, and let it count; see the port."""
        act = PolicyAct(
            act="apply",
            version=policy.version,
            digest=policy.digest,
            by=policy.by,
            why=policy.why,
            at_ms=policy.at_ms,
        )
        args = [policy.version, msgspec.json.encode(policy), expected, policy.digest]
        args += [msgspec.json.encode(act), HISTORY_MAX, VERSIONS_KEPT]
        active, latest = await self._run(scripts.APPLY, ("state", "kept", "acts"), args)
        if active == -1:
            return
        if active != expected:
            raise PolicyConflict(f"version {active} counts, not {expected}: somebody was faster")
        raise PolicyConflict(
            f"version {policy.version} is not above {latest}, the highest that was ever applied"
        )

    async def rollback(self, act: PolicyAct, expected: int) -> None:
        """Let an earlier version count again; see the port."""
        args = [act.version, expected, act.digest, msgspec.json.encode(act), HISTORY_MAX]
        found = await self._run(scripts.ROLLBACK, ("state", "kept", "acts"), args)
        if found == -2:
            raise NoPolicy(f"policy version {act.version} is not in the store")
        if found != -1:
            raise PolicyConflict(f"version {found} counts, not {expected}: somebody was faster")

    async def versions(self) -> list[KeptPolicy]:
        """Return the versions that are kept; see the port."""
        found = await self._ask("HVALS", self._key("kept"))
        kept = [msgspec.json.decode(data, type=KeptPolicy) for data in found]
        return sorted(kept, key=lambda one: -one.version)

    async def switches(self) -> dict[str, Switch]:
        """Return what is switched off, by rule."""
        found = await self._ask("HVALS", self._key("switches"))
        switches = [msgspec.json.decode(data, type=Switch) for data in found]
        return {switch.rule: switch for switch in switches}

    async def switch(self, switch: Switch, act: PolicyAct) -> None:
        """Switch a rule off; see the port."""
        args = [switch.rule, msgspec.json.encode(switch), msgspec.json.encode(act), HISTORY_MAX]
        await self._run(scripts.SWITCH, ("state", "switches", "acts"), args)

    async def resume(self, rule: str, act: PolicyAct) -> bool:
        """Let a rule have its say again; see the port."""
        args = [rule, msgspec.json.encode(act), HISTORY_MAX]
        return bool(await self._run(scripts.RESUME, ("state", "switches", "acts"), args))

    async def note(self, act: PolicyAct) -> None:
        """Keep an act that something else was changed by."""
        await self._run(scripts.NOTE, ("acts",), [msgspec.json.encode(act), HISTORY_MAX])

    async def history(self) -> Sequence[PolicyAct]:
        """Return the last acts, newest first."""
        found = await self._ask("LRANGE", self._key("acts"), 0, HISTORY_MAX - 1)
        return [msgspec.json.decode(data, type=PolicyAct) for data in found]

    async def report(self, scorer_id: str, scorer: ScorerPolicy) -> None:
        """Say what a scorer rules by; see the port."""
        args = [self._report_ttl_ms, scorer_id, msgspec.json.encode(scorer)]
        await self._run(REPORT, ("seen", "scorers"), args)

    async def scorers(self) -> Mapping[str, ScorerPolicy]:
        """Return scorer id → what it rules by; see the port."""
        flat = await self._run(REPORT, ("seen", "scorers"), [self._report_ttl_ms])
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return {i.decode(): msgspec.json.decode(data, type=ScorerPolicy) for i, data in pairs}

    async def _run(self, script: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        keys = [self._key(name) for name in names]
        return await self._ask("EVAL", script, len(keys), *keys, *args)

    async def _ask(self, *command: Any) -> Any:
        return await ask(self._client, PolicyStoreUnavailable, *command)

    def _key(self, name: str) -> str:
        return f"{self._base}{name}"

"""operators' acts on policy, lists and rollouts → the audit log first, and then the store."""

import contextlib
from typing import Any

from models.audit import NOTHING, Act, AuditLog, Stood, Subject, recorded
from models.policy_store import KeptPolicy, NoPolicy, PolicyAct, Switch
from models.policy_store_redis import RedisPolicyStore
from models.rollout import RolloutAct, RolloutState
from models.rollout_redis import RedisRolloutStore


class RecordedPolicies(RedisPolicyStore):
    """The policy store of an operator: what he does to it is written down before it is done.

    Every act may raise `AuditUnavailable`: the audit log is away, and nothing was changed.
    """

    def __init__(self, log: AuditLog, *given: Any, **named: Any) -> None:
        """Take the log; all else as the store does."""
        super().__init__(*given, **named)
        self.log = log

    async def apply(self, policy: KeptPolicy, expected: int) -> None:
        """Let a version count; see the port."""
        act = told_policy(policy, await self._stood(expected))
        async with recorded(self.log, act):
            await super().apply(policy, expected)

    async def rollback(self, act: PolicyAct, expected: int) -> None:
        """Let an earlier version count again; see the port."""
        after = Stood(what=f"policy {act.version}", sha256=act.digest)
        told = _told("policy", act, f"policy {act.version}", await self._stood(expected), after)
        async with recorded(self.log, told):
            await super().rollback(act, expected)

    async def switch(self, switch: Switch, act: PolicyAct) -> None:
        """Switch a rule off; see the port."""
        async with recorded(self.log, told_switch(switch, act)):
            await super().switch(switch, act)

    async def resume(self, rule: str, act: PolicyAct) -> bool:
        """Let a rule have its say again; see the port."""
        if rule not in await self.switches():
            return False
        async with recorded(self.log, _told("policy", act, f"rule {rule}")):
            return await super().resume(rule, act)

    def changing(self, act: PolicyAct) -> contextlib.AbstractAsyncContextManager[object]:
        """Record a change of lists, which happens in the `async with` block."""
        return recorded(self.log, _told("list", act, act.subject))

    async def _stood(self, version: int) -> Stood:
        if not version:
            return NOTHING
        try:
            return Stood(what=f"policy {version}", sha256=(await self.read(version)).digest)
        except NoPolicy:
            return Stood(what=f"policy {version}")


class RecordedRollouts(RedisRolloutStore):
    """The rollout store of an operator; as `RecordedPolicies`."""

    def __init__(self, log: AuditLog, *given: Any, **named: Any) -> None:
        """Take the log; all else as the store does."""
        super().__init__(*given, **named)
        self._log = log

    async def replace(self, state: RolloutState, act: RolloutAct) -> None:
        """Put a state in place of the one before; see the port."""
        async with recorded(self._log, told_rollout(act)):
            await super().replace(state, act)


def told_policy(policy: KeptPolicy, before: Stood = NOTHING) -> Act:
    """Return a version's being let count as the audit log has it."""
    return Act(
        subject="policy",
        verb="apply",
        target=f"policy {policy.version}",
        by=policy.by,
        why=policy.why,
        at_ms=policy.at_ms,
        before=before,
        after=Stood(what=f"policy {policy.version}", sha256=policy.digest),
    )


def told_rollout(act: RolloutAct) -> Act:
    """Return a change of a rollout as the audit log has it."""
    return Act(
        subject="rollout",
        verb=act.act,
        target=f"rollout {act.number} of {act.candidate}",
        by=act.by,
        why=act.why or "as planned",
        at_ms=act.at_ms,
        after=Stood(what=f"{act.share:.4g} of the answers"),
    )


def told_switch(switch: Switch, act: PolicyAct) -> Act:
    """Return a rule's being switched off as the audit log has it."""
    return _told("policy", act, f"rule {switch.rule}", after=Stood(what=switch.kind))


def _told(
    subject: Subject, act: PolicyAct, target: str, before: Stood = NOTHING, after: Stood = NOTHING
) -> Act:
    return Act(
        subject=subject,
        verb=act.act,
        target=target,
        by=act.by,
        why=act.why,
        at_ms=act.at_ms,
        before=before,
        after=after,
    )

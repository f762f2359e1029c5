"""what riskbeat does by itself to versions, policy and rollouts → the store first, then the trail.

The stores of processes, as `recorded.py` has those of operators: what they do protects payments,
and is not held up by an audit log that is away (`models/audit_trail.py`).
"""

from typing import Any

import msgspec

from models.audit import TEXT_MAX_CHARACTERS, Act, Stood
from models.audit_trail import Trail
from models.policy_store import KeptPolicy, PolicyAct, Switch
from models.policy_store_redis import RedisPolicyStore
from models.registry import Freeze
from models.registry_redis import RedisWeightsRegistry
from models.rollout import RolloutAct, RolloutState
from models.rollout_redis import RedisRolloutStore
from riskbeat.recorded import told_policy, told_rollout, told_switch


class NotedWeights(RedisWeightsRegistry):
    """A learner's registry: publishing that its own checks stop is noted."""

    def __init__(self, trail: Trail, *given: Any, **named: Any) -> None:
        """Take the trail; all else as the registry does."""
        super().__init__(*given, **named)
        self._trail = trail

    async def freeze(self, freeze: Freeze) -> Freeze:
        """Stop publishing; see the port. A freeze that stood already is not ours."""
        stands = await super().freeze(freeze)
        if stands == freeze:
            self._trail.note(
                Act(
                    subject="weights",
                    verb="freeze",
                    target="publishing",
                    by=freeze.by,
                    why=freeze.why[:TEXT_MAX_CHARACTERS],
                    at_ms=freeze.at_ms,
                    after=Stood(what=f"frozen by {freeze.by}"),
                )
            )
        return stands


class NotedPolicies(RedisPolicyStore):
    """A scorer's policy store: a rule that it halts is noted, and a policy that it begins with."""

    def __init__(self, trail: Trail, *given: Any, **named: Any) -> None:
        """Take the trail; all else as the store does."""
        super().__init__(*given, **named)
        self._trail = trail

    async def apply(self, policy: KeptPolicy, expected: int) -> None:
        """Let a version count; see the port."""
        await super().apply(policy, expected)
        self._trail.note(told_policy(policy))

    async def switch(self, switch: Switch, act: PolicyAct) -> None:
        """Switch a rule off; see the port."""
        await super().switch(switch, act)
        short = msgspec.structs.replace(act, why=act.why[:TEXT_MAX_CHARACTERS])
        self._trail.note(told_switch(switch, short))


class NotedRollouts(RedisRolloutStore):
    """A scorer's rollout store: a step, a promotion or a turn back is noted."""

    def __init__(self, trail: Trail, *given: Any, **named: Any) -> None:
        """Take the trail; all else as the store does."""
        super().__init__(*given, **named)
        self._trail = trail

    async def replace(self, state: RolloutState, act: RolloutAct) -> None:
        """Put a state in place of the one before; see the port."""
        await super().replace(state, act)
        short = msgspec.structs.replace(act, why=act.why[:TEXT_MAX_CHARACTERS])
        self._trail.note(told_rollout(short))

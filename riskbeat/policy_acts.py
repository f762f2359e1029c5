"""settings → acts upon the policy: compared, applied, taken back; rules switched off and on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from features.spec import Spec
from models.policy import PolicyError
from models.policy_difference import differences, unnumbered
from models.policy_list_copy import ListCopy
from models.policy_lists_redis import RedisLists
from models.policy_ruling import Rulebook
from models.policy_store import (
    KeptPolicy,
    NoPolicy,
    PolicyAct,
    PolicyStanding,
    ScorerPolicy,
    Switch,
)
from riskbeat.audit import open_audit
from riskbeat.clock import now_ms
from riskbeat.policies import compile_text, kept_of
from riskbeat.policy_cost import check_costs
from riskbeat.recorded import RecordedPolicies
from riskbeat.settings import Settings
from riskbeat.store import redis_client
from riskbeat.versions import CannotDo

SCORERS_WAIT_S = 5.0
SCORERS_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Stores:
    """The policy store and the lists of a deployment."""

    policies: RecordedPolicies
    lists: RedisLists


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an act: the version that counts, and what the scorers say."""

    version: int
    scorers: dict[str, ScorerPolicy]

    @property
    def following(self) -> int:
        """Scorers that rule by that version."""
        return sum(one.version == self.version for one in self.scorers.values())


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Open the stores that the settings name."""
    client = redis_client(settings)
    try:
        yield Stores(
            RecordedPolicies(open_audit(settings), client, settings.redis_prefix),
            RedisLists(client, settings.redis_prefix, settings.list_entries_max),
        )
    finally:
        await client.aclose()


async def counting(stores: Stores, settings: Settings, spec: Spec) -> tuple[KeptPolicy, Rulebook]:
    """Return the policy that counts; the file's where the store is empty.

    Raises:
        PolicyError: It is none for this spec.
    """
    standing = await stores.policies.standing()
    if standing.active == 0:
        return kept_of(settings.policy_path, spec, "", "")
    kept = await stores.policies.read(standing.active)
    return kept, compile_text(kept.text, f"policy version {kept.version}", spec)


async def apply(settings: Settings, path: Path, by: str, why: str) -> tuple[list[str], Done]:
    """Check a policy file and let it count; return what changes.

    Raises:
        PolicyError: It is none for this spec, or a rule is over its budget.
        PolicyConflict: Its version is not the highest, or somebody was faster.
        CannotDo: A rule changes and keeps its version.
    """
    spec = Spec.load(settings.spec_path)
    new, book = kept_of(path, spec, by, why)
    check_costs(book, path.name)
    async with open_stores(settings) as stores:
        standing = await stores.policies.standing()
        if standing.digest == new.digest:
            raise CannotDo(f"this very text counts already, as version {standing.active}")
        lines: list[str] = []
        if standing.active:
            old = await _policy_of(stores, standing, spec)
            if old is not None:
                fault = unnumbered(old.policy, book.policy)
                if fault:
                    raise CannotDo(f"{path.name}: {fault}")
                lines = differences(old.policy, book.policy)
        await stores.policies.apply(new, standing.active)
        return lines, await _followed(stores, new.version)


async def _policy_of(stores: Stores, standing: PolicyStanding, spec: Spec) -> Rulebook | None:
    """Return what counts; None where it is none for this spec and a better one is wanted."""
    try:
        kept = await stores.policies.read(standing.active)
        return compile_text(kept.text, f"policy version {kept.version}", spec)
    except PolicyError:
        return None


async def rollback(settings: Settings, version: int | None, by: str, why: str) -> Done:
    """Let an earlier version count again: the one before, unless one is named.

    Raises:
        NoPolicy: It is not in the store.
        PolicyConflict: Somebody was faster.
        PolicyError: It is none for this spec.
    """
    spec = Spec.load(settings.spec_path)
    async with open_stores(settings) as stores:
        standing = await stores.policies.standing()
        versions = [kept.version for kept in await stores.policies.versions()]
        earlier = [number for number in versions if number < standing.active]
        target = version if version is not None else max(earlier, default=0)
        if target == 0:
            raise NoPolicy("there is no version before the one that counts")
        if target == standing.active:
            raise CannotDo(f"version {target} counts already")
        kept = await stores.policies.read(target)
        compile_text(kept.text, f"policy version {target}", spec)
        act = PolicyAct(
            act="rollback", version=target, digest=kept.digest, by=by, why=why, at_ms=now_ms()
        )
        await stores.policies.rollback(act, standing.active)
        return await _followed(stores, target)


async def snooze(settings: Settings, rule: str, for_s: float, by: str, why: str) -> int:
    """Switch a rule off for a while; return when it ends, in milliseconds since 1970.

    Raises:
        CannotDo: The policy that counts has no such rule.
    """
    at_ms = now_ms()
    until_ms = at_ms + int(for_s * 1000)
    async with open_stores(settings) as stores:
        await _check_rule(stores, settings, rule)
        switch = Switch(rule=rule, kind="snoozed", until_ms=until_ms, by=by, why=why, at_ms=at_ms)
        act = PolicyAct(act="snooze", subject=rule, by=by, why=why, at_ms=at_ms)
        await stores.policies.switch(switch, act)
    return until_ms


async def resume(settings: Settings, rule: str, by: str, why: str) -> None:
    """Let a rule that was snoozed or halted have its say again.

    Raises:
        CannotDo: It was neither.
    """
    async with open_stores(settings) as stores:
        act = PolicyAct(act="resume", subject=rule, by=by, why=why, at_ms=now_ms())
        if not await stores.policies.resume(rule, act):
            raise CannotDo(f"rule {rule} is neither snoozed nor halted")


async def copy_of_lists(stores: Stores) -> ListCopy:
    """Return the lists as a scorer has them."""
    copy = ListCopy()
    async for entries in stores.lists.scan():
        copy.load(entries)
    copy.settle()
    return copy


async def _check_rule(stores: Stores, settings: Settings, rule: str) -> None:
    _, book = await counting(stores, settings, Spec.load(settings.spec_path))
    names = [one.id for one in book.policy.rules]
    if rule not in names:
        known = ", ".join(names) or "none"
        raise CannotDo(f"policy version {book.policy.version} has no rule {rule}; it has {known}")


async def _followed(stores: Stores, version: int) -> Done:
    """Wait a while for the scorers to follow; return what they say."""
    deadline_s = time.monotonic() + SCORERS_WAIT_S
    while True:
        scorers = dict(await stores.policies.scorers())
        settled = all(one.version == version or one.refused for one in scorers.values())
        if settled or time.monotonic() > deadline_s:
            return Done(version, scorers)
        await asyncio.sleep(SCORERS_POLL_S)

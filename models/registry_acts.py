"""acts upon versions → registry and audit log: nothing is pinned, frozen or let go unrecorded."""

import msgspec

from models.audit import NOTHING, Act, AuditLog, Stood, recorded
from models.registry import Freeze, NoWeights, WeightsRegistry
from models.weights import sha256_of


async def pin(
    registry: WeightsRegistry,
    log: AuditLog,
    version: int,
    act: Act,
) -> None:
    """Make a version active and keep it so.

    Raises:
        NoWeights: It is not on the shelf.
        AuditUnavailable: The audit log is away: nothing was changed.
    """
    before = await stood(registry, (await registry.standing()).active)
    async with recorded(log, _with(act, before, await stood(registry, version))):
        await registry.pin(version, act.by, act.why, act.at_ms)


async def unpin(registry: WeightsRegistry, log: AuditLog, act: Act) -> int:
    """Follow the newest version again; return it.

    Raises:
        AuditUnavailable: The audit log is away: nothing was changed.
    """
    standing = await registry.standing()
    before = await stood(registry, standing.active)
    async with recorded(log, _with(act, before, NOTHING)) as recording:
        await registry.unpin(act.by, act.why, act.at_ms)
        active = await registry.active_version()
        recording.led_to(await stood(registry, active))
    return active


async def freeze(registry: WeightsRegistry, log: AuditLog, act: Act, freeze: Freeze) -> Freeze:
    """Stop versions from being made; return the freeze that stands.

    Raises:
        AuditUnavailable: The audit log is away: nothing was changed.
    """
    before = _frozen(await registry.frozen())
    async with recorded(log, _with(act, before, _frozen(freeze))) as recording:
        stands = await registry.freeze(freeze)
        recording.led_to(_frozen(stands))
    return stands


async def thaw(registry: WeightsRegistry, log: AuditLog, act: Act) -> bool:
    """Let versions be made again; False, and no act, if nothing was frozen.

    Raises:
        AuditUnavailable: The audit log is away: nothing was changed.
    """
    found = await registry.frozen()
    if found is None:
        return False
    async with recorded(log, _with(act, _frozen(found), _frozen(None))):
        return await registry.thaw(act.by, act.why, act.at_ms)


async def stood(registry: WeightsRegistry, version: int) -> Stood:
    """Return a version as the audit log names it; one that left the shelf has no digest."""
    if not version:
        return NOTHING
    try:
        return Stood(what=f"version {version}", sha256=sha256_of(await registry.read(version)))
    except NoWeights:
        return Stood(what=f"version {version}")


def _frozen(freeze: Freeze | None) -> Stood:
    return Stood(what="publishing" if freeze is None else f"frozen by {freeze.by}")


def _with(act: Act, before: Stood, after: Stood) -> Act:
    return msgspec.structs.replace(act, before=before, after=after)

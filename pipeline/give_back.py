"""checkpoint → topic and registry: what they lack of the versions that were made before a death."""

from collections.abc import Sequence

from models.registry import ChainBroken, WeightsRegistry
from models.weights_delta import is_delta
from pipeline.learn_ports import LearnLog


async def give_back(
    log: LearnLog, registry: WeightsRegistry, chain: Sequence[bytes], newest: int, keep: int
) -> None:
    """Send the newest version if the topic lacks it, and shelve what the registry lacks.

    Args:
        log: With the weights topic.
        registry: Where versions stand.
        chain: The newest version's, as the checkpoint holds it: a full one, then deltas.
        newest: Its number.
        keep: How many versions the registry holds.
    """
    if await log.last_weights_version() < newest:
        await log.send_weights(newest, chain[-1])
    first = max(await registry.latest_version() + 1, newest - keep + 1)
    found = await log.read_weights(first, newest - 1)
    found |= {newest - len(chain) + 1 + place: data for place, data in enumerate(chain)}
    for version in sorted(found):
        try:
            await registry.restore(version, found[version], is_delta(found[version]))
        except ChainBroken:
            continue  # the topic no longer holds what it stands on: as good as gone

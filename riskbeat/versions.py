"""settings → what stands in the weights registry, for people: read, compared, acted upon."""

import asyncio
import getpass
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from features.spec import Spec
from models.registry import Activation, Freeze, NoWeights, Shelved, Standing
from models.registry_redis import RedisWeightsRegistry
from models.signing import load_public_keys
from models.weights import Manifest, manifest_of
from models.weights_chain import Held, Links, assemble
from riskbeat.settings import Settings
from riskbeat.store import redis_client

HEAD_BYTES = 32 * 1024
"""Read of a version at first: most manifests fit."""
LENGTH_BYTES = 8
SCORERS_WAIT_S = 5.0
SCORERS_POLL_S = 0.1
NAMED = ("latest", "active")


class CannotDo(ValueError):
    """What was asked for makes no sense as things stand; says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A version on the shelf and what its manifest says, whoever signed it."""

    shelved: Shelved
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Overview:
    """All that there is to say about a line of versions at one moment.

    Attributes:
        entries: The newest versions, newest first; the active one even if it is older.
        on_shelf: How many versions stand on the shelf.
        scorers: Scorer → version that it answers with.
        learner: Who holds the lease; empty for nobody.
        last: The newest act of an operator or of the learner's checks; None for none.
    """

    standing: Standing
    entries: list[Entry]
    on_shelf: int
    scorers: dict[str, int]
    learner: str
    freeze: Freeze | None
    last: Activation | None


@asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[RedisWeightsRegistry]:
    """Open the line of versions of the spec that the settings name.

    Raises:
        SpecError: The spec cannot be read.
    """
    digest = Spec.load(settings.spec_path).digest
    client = redis_client(settings)
    try:
        yield RedisWeightsRegistry(
            client,
            settings.redis_prefix,
            digest,
            settings.weights_kept,
            line=settings.line,
        )
    finally:
        await client.aclose()


async def look(settings: Settings, limit: int) -> Overview:
    """Return an overview with the newest `limit` versions."""
    async with open_registry(settings) as registry:
        standing = await registry.standing()
        shelf = await registry.shelf()
        shown = shelf[-limit:]
        shown = [
            one for one in shelf if one.version == standing.active and one not in shown
        ] + shown
        acts = await registry.history()
        return Overview(
            standing=standing,
            entries=[Entry(one, await _manifest(registry, one.version)) for one in shown[::-1]],
            on_shelf=len(shelf),
            scorers=await registry.active_versions(),
            learner=await registry.lease_owner(),
            freeze=await registry.frozen(),
            last=acts[0] if acts else None,
        )


async def read_whole(settings: Settings, named: str) -> tuple[Held, Shelved]:
    """Read a version with its chain, and verify it as a scorer does.

    Raises:
        NoWeights: It is not on the shelf.
        BadSignature, BadWeights, SchemaMismatch: As a scorer would refuse it.
    """
    keys = [key for path in settings.public_key_paths for key in load_public_keys(path)]
    async with open_registry(settings) as registry:
        version = await number_of(registry, named)
        chain = await registry.read_chain(version)
        held = assemble(Links(None, chain), keys, Spec.load(settings.spec_path).digest)
        full = version - len(chain) + 1
        return held, Shelved(version=version, full=full, size_bytes=len(chain[-1]))


async def number_of(registry: RedisWeightsRegistry, named: str) -> int:
    """Return the number of a version that is on the shelf.

    Args:
        registry: Whose shelf.
        named: A number, `latest` or `active`.

    Raises:
        NoWeights: It is not there; says what is.
        CannotDo: It is no name of a version.
    """
    standing = await registry.standing()
    if named in NAMED:
        version = standing.latest if named == "latest" else standing.active
    elif named.isascii() and named.isdigit():
        version = int(named)
    else:
        raise CannotDo(f"{named!r}: expected a version's number, `latest` or `active`")
    numbers = [one.version for one in await registry.shelf()]
    if version not in numbers:
        held = f"holds {ranges(numbers)}" if numbers else "is empty"
        raise NoWeights(f"version {named} is not in the registry, which {held}")
    return version


async def wait_for_scorers(registry: RedisWeightsRegistry, version: int) -> tuple[int, int]:
    """Wait a while for scorers to answer with a version; return how many do, of how many."""
    deadline_s = time.monotonic() + SCORERS_WAIT_S
    while True:
        found = list((await registry.active_versions()).values())
        if all(active == version for active in found) or time.monotonic() > deadline_s:
            return found.count(version), len(found)
        await asyncio.sleep(SCORERS_POLL_S)


def actor() -> str:
    """Return who runs this command, for the list of acts."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


async def _manifest(registry: RedisWeightsRegistry, version: int) -> Manifest:
    head = await registry.read_head(version, HEAD_BYTES)
    needed = LENGTH_BYTES + int.from_bytes(head[:LENGTH_BYTES], "little")
    if needed > len(head):
        head = await registry.read_head(version, needed)
    return manifest_of(head)


def ranges(numbers: list[int]) -> str:
    """Return ascending numbers as people write them: 3, 7-9."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)

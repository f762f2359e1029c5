"""settings → what the store keeps of each feature spec, and the end of one."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from features.client_redis import RedisLink
from features.epochs import QUIET_S, EpochInfo, EpochInUse, EpochSize, in_use
from features.epochs_redis import RedisEpochs
from features.store import StoreError
from models.registry_redis import RedisWeightsRegistry
from pipeline.topics_kafka import TopicsUnavailable, drop_topics
from riskbeat.settings import Settings
from riskbeat.store import redis_client

DIGEST_MIN_CHARACTERS = 6


class UnknownSpec(StoreError):
    """The store knows no spec of that name, or several."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One epoch with what it takes, and the scorers that answer with weights of its spec."""

    info: EpochInfo
    size: EpochSize
    scorers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Retired:
    """What went with a spec."""

    digest: str
    epochs: Sequence[int]
    keys: int
    topics: Sequence[str]


async def list_specs(settings: Settings, *, gone: bool) -> list[Listed]:
    """Return the epochs of the store, by number.

    Args:
        settings: Which store.
        gone: Whether to name those too of which only the number is left.

    Raises:
        StoreUnavailable: No answer.
    """
    async with aclosing(redis_client(settings)) as client:
        epochs = RedisEpochs(RedisLink(client), settings.redis_prefix)
        listed = []
        for info in await epochs.list_epochs():
            if info.state == "gone" and not gone:
                continue
            size = await epochs.measure(info.pointer.epoch)
            registry = _registry(settings, client, info.pointer.digest)
            listed.append(Listed(info, size, sorted(await registry.active_versions())))
        return listed


async def retire_spec(settings: Settings, name: str, *, force: bool) -> Retired:
    """Delete what the store and the log keep for one spec: states, updates topics, its weights.

    May be repeated where it was interrupted. Decisions, labels and the weights topic stay until
    their retention ends, so that decisions can still be explained.

    Args:
        settings: Which store and log.
        name: The spec's digest, or its first characters.
        force: Whether to retire what is still written, answered with, or all there is.

    Raises:
        UnknownSpec: No spec, or several, begin so.
        EpochInUse: Somebody uses it, and `force` was not given.
        StoreUnavailable: No answer.
        TopicsUnavailable: The broker did not delete the topics; the states are gone.
    """
    async with aclosing(redis_client(settings)) as client:
        epochs = RedisEpochs(RedisLink(client), settings.redis_prefix)
        everything = await epochs.list_epochs()
        digest = named(name, everything)
        mine = [info for info in everything if info.pointer.digest == digest]
        registry = _registry(settings, client, digest)
        if not force:
            refuse_in_use(mine, everything, sorted(await registry.active_versions()))
        keys = sum([await epochs.drop(info.pointer) for info in mine])
        await registry.forget()
    kept = {i.pointer.updates_topic for i in everything if i not in mine and i.state != "gone"}
    topics = sorted({info.pointer.updates_topic for info in mine} - kept)
    try:
        await drop_topics(settings.kafka_options(), topics)
    except TopicsUnavailable as error:
        left = ", ".join(topics)
        raise TopicsUnavailable(
            f"the features are gone, but not {left}: run it again ({error})"
        ) from error
    return Retired(digest, [info.pointer.epoch for info in mine], keys, topics)


def named(name: str, epochs: Sequence[EpochInfo]) -> str:
    """Return the one digest that begins so.

    Raises:
        UnknownSpec: None does, or several; or it is too short to be meant.
    """
    if len(name) < DIGEST_MIN_CHARACTERS:
        raise UnknownSpec(f"{name!r}: give at least {DIGEST_MIN_CHARACTERS} characters of a digest")
    found = sorted({i.pointer.digest for i in epochs if i.pointer.digest.startswith(name.lower())})
    if len(found) != 1:
        known = sorted({info.pointer.digest[:12] for info in epochs})
        count = "no spec begins" if not found else f"{len(found)} specs begin"
        raise UnknownSpec(f"{count} with {name}; the store knows {', '.join(known) or 'none'}")
    return found[0]


def refuse_in_use(
    mine: Sequence[EpochInfo], everything: Sequence[EpochInfo], scorers: Sequence[str]
) -> None:
    """Let only a spec be retired that nobody uses, and that is not the last.

    Args:
        mine: Its epochs.
        everything: All epochs.
        scorers: Who reported lately that they answer with weights of it.

    Raises:
        EpochInUse: Names who uses it, and what to do.
    """
    for info in in_use(mine):
        raise EpochInUse(
            f"epoch {info.pointer.epoch} of spec {info.pointer.digest[:12]} was written "
            f"{info.idle_s:.0f} s ago: stop its featurize workers (or its rebuild), wait "
            f"{QUIET_S:.0f} s and try again, or use --force"
        )
    if scorers:
        raise EpochInUse(f"{', '.join(scorers)} answers with this spec: stop it, or use --force")
    if not any(info.state == "alive" for info in everything if info not in mine):
        raise EpochInUse("no other spec lives in this store: rebuild another first, or use --force")


def _registry(settings: Settings, client: object, digest: str) -> RedisWeightsRegistry:
    return RedisWeightsRegistry(client, settings.redis_prefix, digest)  # type: ignore[arg-type]

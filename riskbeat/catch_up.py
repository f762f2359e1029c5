"""an older checkpoint + the log → the checkpoint of the newest version, for the learner to go on.

A learner's disk that comes from a backup knows less than was published. What lies between follows
from the log, bit for bit, so the same steps are done again, on a copy that takes the join store's
place once it has arrived. No label is learned twice: each is in the state once.
"""

import asyncio
from contextlib import closing
from pathlib import Path

import msgspec
import structlog

from features.spec import Spec
from models.signing import BadKeys, BadSignature, load_public_keys
from models.slew import ALPHA
from models.space import space_of
from models.weights import BadWeights, SchemaMismatch, Weights
from models.weights_delta import is_delta
from pipeline.cuts import Line
from pipeline.join import JoinBusy
from pipeline.join_copy_sqlite import NoJoinStore, copy_join
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.pieces import Pieces, chain_of
from pipeline.publish import CHAIN, LINE
from pipeline.relearn import CannotRelearn, Relearner
from pipeline.relearn_kafka import KafkaLogReader
from pipeline.versions_kafka import KafkaVersions, LogSilent
from riskbeat.backup import join_path
from riskbeat.guarding import Guarding
from riskbeat.learn import loop_rules, make_ensemble, make_step
from riskbeat.settings import Settings
from riskbeat.verify import read_version, shown_versions

EXIT_REFUSED = 3
REFUSED = (
    BadKeys,
    BadSignature,
    BadWeights,
    CannotRelearn,
    JoinBusy,
    LogSilent,
    SchemaMismatch,
)
WORK = "catching-up.sqlite"

log = structlog.get_logger("learn")


def run_catch_up(settings: Settings) -> int:
    """Bring the join store up to the newest published version; return 0, or 3 with the reason.

    Raises:
        SpecError: The feature spec cannot be read.
    """
    try:
        first, last = asyncio.run(catch_up(settings))
    except REFUSED as error:
        log.error("learn.refused", reason=type(error).__name__, detail=str(error))
        return EXIT_REFUSED
    log.info("learn.caught_up", checkpoint=first, weights_version=last)
    return 0


async def catch_up(settings: Settings) -> tuple[int, int]:
    """Learn again what was published after the join store's checkpoint.

    Returns:
        The version of the checkpoint that was found, and of the one that stands now; 0 where there
        is no join store.

    Raises:
        CannotRelearn: The log no longer holds what lies between, or something else follows from
            it (another build or another recipe learned it); the join store is as it was.
        JoinBusy: A learner has the join store.
    """
    spec = Spec.load(settings.spec_path)
    path = join_path(settings)
    work = path.with_name(WORK)
    try:
        first = copy_join(path, work).version
    except NoJoinStore:
        return 0, 0
    try:
        topic = settings.topics.weights(spec.digest)
        async with KafkaVersions(settings.kafka_options(), topic, settings.model_name) as versions:
            pieces = await versions.since(max(first, 1))
        last = max(pieces.whole(), default=0)
        if last <= first:
            return first, first
        await _learn_again(settings, spec, work, pieces, first, last)
        _take_its_place(work, path)
    finally:
        _remove(work)
    return first, last


async def _learn_again(
    settings: Settings, spec: Spec, work: Path, pieces: Pieces, first: int, last: int
) -> None:
    published = pieces.whole()
    wanted = range(first + 1, last + 1)
    needed = [first, *wanted] if first else wanted
    absent = [number for number in needed if not chain_of(published, number)]
    if absent:
        raise CannotRelearn(
            f"version {absent[0]} is not whole in the weights topic: the backup is older than "
            "what the topic still holds (RISKBEAT_WEIGHTS_RETENTION_S)"
        )
    keys = [key for path in settings.public_key_paths for key in load_public_keys(path)]
    before = read_version(published, first, keys, spec.digest) if first else None
    async with KafkaLogReader(settings.kafka_options(), settings.topics) as reader:
        with closing(SqliteJoinStore(work, bytes_max=settings.join_max_bytes)) as store:
            guarding = Guarding(settings, space_of(spec), None)
            ensemble = make_ensemble(settings, spec)
            step = make_step(settings, spec, store, ensemble, guarding.company)
            parse = loop_rules(settings, spec).parse
            relearner = Relearner(parse, reader, store, step, guarding)
            relearner.begin(before)
            shown = shown_versions(pieces, wanted, keys, spec.digest)
            async for compared in relearner.compare_many(shown):
                if compared.differences:
                    raise CannotRelearn(
                        f"version {compared.version} that follows from the log is not the one "
                        f"that was published ({'; '.join(compared.differences)}): give the "
                        "settings and the build that learned it"
                    )
            newest = read_version(published, last, keys, spec.digest)
            store.commit(_published_parts(published, newest))


def _published_parts(published: dict[int, bytes], newest: Weights) -> dict[str, bytes]:
    """Return what a checkpoint holds of its version, as the publisher writes it."""
    chain = chain_of(published, newest.version)
    line = Line(full=chain[0])
    line.begin(newest.version, is_delta(published[newest.version]))
    line.owed = newest.metrics.get(ALPHA, 1.0) < 1.0
    parts = {f"{CHAIN}{place}": published[number] for place, number in enumerate(chain)}
    return parts | {LINE: msgspec.msgpack.encode(line)}


def _take_its_place(work: Path, path: Path) -> None:
    """Move the copy to the join store's place; `copy_join` left nothing beside that."""
    if any(path.with_name(path.name + end).exists() for end in ("-wal", "-shm")):
        raise JoinBusy(f"{path} is in use by a learner: it was opened meanwhile")
    work.replace(path)


def _remove(work: Path) -> None:
    for end in ("", "-wal", "-shm"):
        work.with_name(work.name + end).unlink(missing_ok=True)

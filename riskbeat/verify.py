"""settings → whether published versions follow from a checkpoint and the log, bit for bit."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from features.spec import Spec
from models.signing import PublicKey, load_public_keys
from models.space import space_of
from models.weights import Weights, decode_verified, sha256_of
from models.weights_delta import apply_delta, is_delta
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.pieces import Pieces, chain_of
from pipeline.relearn import CannotRelearn, Compared, Relearner, Shown, cuts_of
from pipeline.relearn_kafka import KafkaLogReader
from pipeline.versions_kafka import KafkaVersions
from riskbeat.guarding import Guarding
from riskbeat.learn import loop_rules, make_ensemble, make_step
from riskbeat.settings import Settings


async def verify(
    settings: Settings, first: int, last: int | None, checkpoint: Path | None
) -> AsyncIterator[Compared]:
    """Learn versions again and compare each with what was published.

    Args:
        settings: As the learner's: the same spec, recipe and maturity.
        first: The version to begin from: 0, or that of the checkpoint.
        last: The last to compare; None for the newest.
        checkpoint: A copy of the join store, made of a stopped learner; None begins with nothing.

    Raises:
        CannotRelearn: Something is missing; says what.
    """
    spec = Spec.load(settings.spec_path)
    keys = [key for path in settings.public_key_paths for key in load_public_keys(path)]
    topic = settings.topics.weights(spec.digest)
    async with KafkaVersions(settings.kafka_options(), topic, settings.model_name) as versions:
        pieces = await versions.everything()
    published = pieces.whole()
    last = max(published, default=0) if last is None else last
    wanted = range(first + 1, last + 1)
    if not wanted:
        raise CannotRelearn(f"no versions between {first} and {last}")
    absent = [number for number in wanted if not chain_of(published, number)]
    if absent:
        raise CannotRelearn(
            f"version {absent[0]} is not whole in the weights topic, which holds "
            f"{min(published, default=0)} to {max(published, default=0)}"
        )
    shown = shown_versions(pieces, wanted, keys, spec.digest)
    parent = (
        read_version(published, first, keys, spec.digest) if chain_of(published, first) else None
    )
    with tempfile.TemporaryDirectory() as folder:
        path = _copied(checkpoint, Path(folder))
        async with KafkaLogReader(settings.kafka_options(), settings.topics) as reader:
            with closing(SqliteJoinStore(path)) as store:
                guarding = Guarding(settings, space_of(spec), None)
                ensemble = make_ensemble(settings, spec)
                step = make_step(settings, spec, store, ensemble, guarding.company)
                parse = loop_rules(settings, spec).parse
                relearner = Relearner(parse, reader, store, step, guarding)
                begun = relearner.begin(parent)
                if begun != first:
                    raise CannotRelearn(
                        f"the checkpoint is version {begun}, not {first}"
                        if checkpoint
                        else f"to begin from version {first}, give the copy of its checkpoint"
                    )
                async for compared in relearner.compare_many(shown):
                    yield compared


def shown_versions(
    pieces: Pieces, wanted: Sequence[int], keys: Sequence[PublicKey], digest: str
) -> Iterator[Shown]:
    """Yield published versions as a learner that goes the same way needs them."""
    published = pieces.whole()
    weights: Weights | None = None
    for number in wanted:
        data = published[number]
        if weights is not None and is_delta(data):
            weights = apply_delta(weights, data, keys, digest)
        else:
            weights = read_version(published, number, keys, digest)
        yield Shown(weights, sha256_of(data), cuts_of(weights, pieces.pages))


def read_version(
    published: dict[int, bytes], version: int, keys: Sequence[PublicKey], digest: str
) -> Weights:
    """Return a version whole: verified, its chain applied."""
    full, *deltas = chain_of(published, version)
    weights = decode_verified(published[full], keys, digest)
    for number in deltas:
        weights = apply_delta(weights, published[number], keys, digest)
    return weights


def _copied(checkpoint: Path | None, folder: Path) -> Path:
    """Return a join store to write to: empty, or a copy of the checkpoint with its log."""
    path = folder / "join.sqlite"
    if checkpoint is not None:
        for end in ("", "-wal"):
            source = checkpoint.with_name(checkpoint.name + end)
            if source.exists():
                shutil.copy(source, path.with_name(path.name + end))
            elif not end:
                raise CannotRelearn(f"{checkpoint}: there is no such file")
    return path

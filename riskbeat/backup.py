"""a deployment → one archive: what neither the log nor a rebuild can make again.

Left out on purpose: the log itself; features and their offsets, which belong together and are
rebuilt from the log; claims, leases and reports, which live for seconds.
"""

import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from features.spec import Spec
from pipeline.join_copy_sqlite import NoJoinStore, copy_join
from riskbeat.backup_archive import (
    FORMAT,
    LearnerStood,
    Manifest,
    Part,
    part_of,
    write_archive,
)
from riskbeat.backup_kafka import read_offsets
from riskbeat.backup_redis import Section, SectionStore, line_section, policy_section
from riskbeat.clock import now_ms
from riskbeat.judging import evaluation_folder
from riskbeat.keyring import key_store
from riskbeat.settings import Settings
from riskbeat.store import redis_client

SPEC_PART: Final = "spec.yaml"
STORE_PARTS: Final = "store/"
API_KEYS_PART: Final = "api_keys.json"
OFFSETS_PART: Final = "offsets.json"
JOIN_PART: Final = "learner/join.sqlite"
EVALUATION_PARTS: Final = "learner/evaluation/"
SIGNING_PART: Final = "keys/signing.pem"
PUBLIC_PARTS: Final = "keys/public-"
NAME: Final = "riskbeat-backup-%Y%m%dT%H%M%SZ.tar"


class CannotBackUp(ValueError):
    """What was asked for is not there, or does not belong together; says what to do."""


def join_path(settings: Settings) -> Path:
    """Return where the learner of these settings keeps its join store."""
    return settings.data_dir / "learn" / "join.sqlite"


def section_of(prefix: str, part: str) -> Section:
    """Return the section of the store that a part is of."""
    name = part.removeprefix(STORE_PARTS)
    if name == "policy":
        return policy_section(prefix)
    return line_section(prefix, name.removeprefix("weights."))


async def back_up(
    settings: Settings, out: Path, *, learner: bool, signing_key: bool, lines: str = ""
) -> tuple[Path, Manifest]:
    """Write an archive of a deployment; return where it is, and its manifest.

    Args:
        settings: Whose deployment.
        out: A file, or a folder in which the file is named by the time.
        learner: Whether to take the data of the learner, which must be stopped.
        signing_key: Whether to take its private key.
        lines: Take only lines of versions whose names begin so; empty for all.

    Raises:
        CannotBackUp: There is no such folder, no learner's data here, or it is another learner's.
        JoinBusy: The learner runs.
        RegistryUnavailable, KeysUnavailable, OffsetsSilent, SectionMoves: As a part's source says.
    """
    path, made_at_ms = _named(out), now_ms()
    with tempfile.TemporaryDirectory(prefix=".riskbeat-backup-", dir=path.parent) as name:
        folder = Path(name)
        # first the disk: while the learner is kept out, the store cannot run ahead of it
        stood = _save_learner(settings, folder, signing_key=signing_key) if learner else None
        shelves = await _save_store(settings, folder, lines)
        if learner and stood is not None:
            _check_same(settings, stood, shelves)
        offsets = await read_offsets(settings.kafka_options(), settings.topic_prefix)
        (folder / OFFSETS_PART).write_bytes(msgspec.json.encode(offsets))
        (folder / SPEC_PART).write_bytes(settings.spec_path.read_bytes())
        manifest = Manifest(
            format=FORMAT,
            made_at_ms=made_at_ms,
            software=importlib.metadata.version("riskbeat"),
            spec_digest=Spec.load(settings.spec_path).digest,
            lines=shelves,
            learner=stood,
            parts=list(_parts_of(folder)),
        )
        write_archive(path, manifest, folder)
    return path, manifest


def line_of(settings: Settings, spec_digest: str) -> str:
    """Return the name of the line of versions that the learner of these settings publishes."""
    return spec_digest[:12] + (f".{settings.line}" if settings.line else "")


def _named(out: Path) -> Path:
    path = out / datetime.now(UTC).strftime(NAME) if out.is_dir() else out
    if not path.parent.is_dir():
        raise CannotBackUp(f"{path.parent}: there is no such folder")
    return path


def _parts_of(folder: Path) -> Iterator[Part]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield part_of(path.relative_to(folder).as_posix(), path)


def _save_learner(settings: Settings, folder: Path, *, signing_key: bool) -> LearnerStood:
    (folder / JOIN_PART).parent.mkdir(parents=True)
    try:
        position = copy_join(join_path(settings), folder / JOIN_PART)
    except NoJoinStore as error:
        raise CannotBackUp(
            f"{error}: run this where RISKBEAT_DATA_DIR is the learner's, or leave the learner out "
            "(--without-learner)"
        ) from error
    judged = evaluation_folder(settings.data_dir)
    for source in sorted(judged.rglob("*.parquet")):
        _copy(source, folder / EVALUATION_PARTS / source.relative_to(judged))
    if signing_key and settings.signing_key_path.exists():
        _copy(settings.signing_key_path, folder / SIGNING_PART)
    for index, source in enumerate(settings.public_key_paths):
        if source.exists():
            _copy(source, folder / f"{PUBLIC_PARTS}{index}.pem")
    return LearnerStood(version=position.version, offsets=position.offsets)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


async def _save_store(settings: Settings, folder: Path, only: str) -> dict[str, int]:
    """Write the parts of the store; return the latest version of each line."""
    (folder / STORE_PARTS).mkdir()
    prefix = settings.redis_prefix
    async with aclosing(redis_client(settings)) as client:
        store = SectionStore(client)
        names = [name for name in await store.lines(prefix) if name.startswith(only)]
        latest = {name: await store.latest_of(line_section(prefix, name)) for name in names}
        for section in (policy_section(prefix), *(line_section(prefix, name) for name in names)):
            path = folder / STORE_PARTS / section.name
            if not await store.save(section, path):
                path.unlink()
        records = await key_store(settings, client).read_all()
        (folder / API_KEYS_PART).write_bytes(msgspec.json.encode(records))
        return latest


def _check_same(settings: Settings, stood: LearnerStood, shelves: dict[str, int]) -> None:
    """Refuse a data directory that lags behind what was published: it is not the learner's."""
    latest = shelves.get(line_of(settings, Spec.load(settings.spec_path).digest), 0)
    if latest > stood.version:
        raise CannotBackUp(
            f"version {latest} has been published, and the learner's data in "
            f"{settings.data_dir} is of version {stood.version}: it is not the data of the "
            "learner that published, or that one runs elsewhere"
        )

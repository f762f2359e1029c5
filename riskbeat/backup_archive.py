"""parts ↔ one archive: a tar whose first member is a manifest, verified before anything is taken.

An archive is written beside its place and moved there when it was read back whole, so there is
never half of one.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final

import msgspec

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
MANIFEST_MAX_BYTES: Final = 64 * 1024 * 1024
MODE: Final = 0o600
"""It may hold the private signing key."""
_BLOCK_BYTES = 1024 * 1024


class BadArchive(ValueError):
    """It is no archive of ours, or not whole; names the part and what is wrong."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an archive.

    Attributes:
        sha256: Of its bytes (hex).
    """

    name: str
    size_bytes: int
    sha256: str


class LearnerStood(msgspec.Struct, frozen=True, kw_only=True):
    """Where the learner stood whose join store is in an archive.

    Attributes:
        version: The newest that it had made.
        offsets: "topic:partition" → next offset.
    """

    version: int
    offsets: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive says of itself.

    Attributes:
        format: `FORMAT` of the build that wrote it.
        made_at_ms: When it was begun, by the clock of the machine that wrote it.
        software: Version of riskbeat.
        spec_digest: Of the feature spec that the settings named.
        lines: Line of versions, as its keys are named → its latest version.
        learner: None if the learner's data was left out.
        parts: In the order in which they follow.
    """

    format: int
    made_at_ms: int
    software: str
    spec_digest: str
    lines: dict[str, int]
    learner: LearnerStood | None
    parts: list[Part]


def part_of(name: str, path: Path) -> Part:
    """Return what a manifest says of a file."""
    with path.open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    return Part(name=name, size_bytes=path.stat().st_size, sha256=sha256)


def write_archive(path: Path, manifest: Manifest, folder: Path) -> None:
    """Write the parts that lie in a folder, read all back, and move the archive to its place.

    Raises:
        BadArchive: What was read back is not what was written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with _private(partial) as out:
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                data = msgspec.json.format(msgspec.json.encode(manifest))
                tar.addfile(_member(MANIFEST, len(data), manifest), io.BytesIO(data))
                for part in manifest.parts:
                    with (folder / part.name).open("rb") as source:
                        tar.addfile(_member(part.name, part.size_bytes, manifest), source)
            out.flush()
            os.fsync(out.fileno())
        with open_archive(partial) as (_, files):
            for _ in files:
                pass
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def open_archive(path: Path) -> Iterator[tuple[Manifest, Iterator[tuple[Part, IO[bytes]]]]]:
    """Open an archive; yields its manifest, and its parts in order.

    A part's bytes are read to the end and checked when the next one is asked for.

    Raises:
        BadArchive: It is none of ours, of a later format, or a part is absent or changed.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            yield _manifest_of(tar, path), _parts_of(tar, _manifest_of(tar, path), path)
    except (tarfile.TarError, EOFError) as error:
        raise BadArchive(f"{path}: no whole archive: {error}") from error
    except OSError as error:
        raise BadArchive(f"{path}: {error.strerror or error}") from error


def unpack(path: Path, folder: Path) -> Manifest:
    """Put an archive's parts into a folder, and verify them all.

    Raises:
        BadArchive: As `open_archive`.
    """
    with open_archive(path) as (manifest, files):
        for part, source in files:
            target = folder / part.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with _private(target) as out:
                for block in _blocks(source):
                    out.write(block)
    for part in manifest.parts:
        if part_of(part.name, folder / part.name) != part:
            raise BadArchive(f"{path}: {part.name}: was not unpacked whole")
    return manifest


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _manifest_of(tar: tarfile.TarFile, path: Path) -> Manifest:
    first = tar.getmembers()[:1]
    source = tar.extractfile(first[0]) if first and first[0].name == MANIFEST else None
    if source is None or first[0].size > MANIFEST_MAX_BYTES:
        raise BadArchive(f"{path}: {MANIFEST}: not the first member; this is no backup of riskbeat")
    data = source.read()
    try:
        form = msgspec.json.decode(data, type=_Form).format
        if form != FORMAT:
            raise BadArchive(f"{path}: format: {form}; this build reads {FORMAT}")
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BadArchive(f"{path}: {MANIFEST}: {error}") from error


class _Form(msgspec.Struct):
    format: int


def _parts_of(
    tar: tarfile.TarFile, manifest: Manifest, path: Path
) -> Iterator[tuple[Part, IO[bytes]]]:
    members = {member.name: member for member in tar.getmembers()[1:]}
    surplus = members.keys() - {part.name for part in manifest.parts}
    if surplus:
        raise BadArchive(f"{path}: {min(surplus)}: not in the manifest")
    for part in manifest.parts:
        pure = PurePosixPath(part.name)
        if pure.is_absolute() or ".." in pure.parts:
            raise BadArchive(f"{path}: {part.name}: not a name of a part")
        member = members.get(part.name)
        source = tar.extractfile(member) if member is not None and member.isreg() else None
        if source is None:
            raise BadArchive(f"{path}: {part.name}: is absent")
        digest = hashlib.sha256()
        for block in _blocks(source):
            digest.update(block)
        if digest.hexdigest() != part.sha256:
            raise BadArchive(f"{path}: {part.name}: its bytes are not those that were written")
        source.seek(0)
        yield part, source


def _blocks(source: IO[bytes]) -> Iterable[bytes]:
    while block := source.read(_BLOCK_BYTES):
        yield block


def _member(name: str, size_bytes: int, manifest: Manifest) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size_bytes, MODE, manifest.made_at_ms // 1000
    return member


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE), "wb")

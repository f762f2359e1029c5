"""An archive is taken whole or not at all, and is never half written."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from riskbeat.backup_archive import (
    FORMAT,
    MANIFEST,
    BadArchive,
    LearnerStood,
    Manifest,
    part_of,
    unpack,
    write_archive,
)

BODIES = {"store/policy": b"a policy", "learner/join.sqlite": bytes(range(256)) * 5000}


def a_manifest(folder: Path) -> Manifest:
    for name, body in BODIES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return Manifest(
        format=FORMAT,
        made_at_ms=1_700_000_000_000,
        software="0",
        spec_digest="d" * 64,
        lines={"dddddddddddd": 7},
        learner=LearnerStood(version=7, offsets={"labels.v1:0": 3}),
        parts=[part_of(name, folder / name) for name in BODIES],
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    manifest = a_manifest(tmp_path / "parts")
    path = tmp_path / "kept.tar"
    write_archive(path, manifest, tmp_path / "parts")
    return path


def test_what_was_written_is_unpacked(archive: Path, tmp_path: Path) -> None:
    manifest = unpack(archive, tmp_path / "out")
    assert {p.name: (tmp_path / "out" / p.name).read_bytes() for p in manifest.parts} == BODIES
    assert manifest == a_manifest(tmp_path / "parts")
    assert archive.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.glob("kept*")] == ["kept.tar"]


def rewritten(archive: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write an archive again with other bytes, or without a member."""
    with tarfile.open(archive) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    with tarfile.open(archive, "w") as tar:
        for name, body in members.items():
            data = change(name, body)
            if data is not None:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def manifest_with(**changes: object) -> Callable[[str, bytes], bytes | None]:
    def change(name: str, body: bytes) -> bytes:
        if name != MANIFEST:
            return body
        return msgspec.json.encode(msgspec.json.decode(body) | changes)

    return change


def escaping(name: str, body: bytes) -> bytes:
    return body.replace(b"store/policy", b"../../policy") if name == MANIFEST else body


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n, b: b"a p0licy" if n == "store/policy" else b, "store/policy: its bytes are not"),
        (lambda n, b: None if n == "learner/join.sqlite" else b, "learner/join.sqlite: is absent"),
        (lambda n, b: None if n == MANIFEST else b, "manifest.json: not the first member"),
        (manifest_with(format=FORMAT + 1), f"format: {FORMAT + 1}; this build reads {FORMAT}"),
        (manifest_with(parts=[]), "not in the manifest"),
        (manifest_with(lines=[]), "manifest.json: Expected `object`"),
        (lambda n, b: b"{" if n == MANIFEST else b, "manifest.json: "),
    ],
)
def test_a_changed_archive_is_refused_by_part(
    archive: Path, tmp_path: Path, change: Callable[[str, bytes], bytes | None], said: str
) -> None:
    rewritten(archive, change)
    with pytest.raises(BadArchive) as told:
        unpack(archive, tmp_path / "out")
    assert said in str(told.value)
    assert str(told.value).startswith(f"{archive}: ")


def test_a_part_never_leaves_its_folder(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    members["../../policy"] = members.pop("store/policy")
    members[MANIFEST] = escaping(MANIFEST, members[MANIFEST])
    with tarfile.open(archive, "w") as tar:
        for name in (MANIFEST, "../../policy", "learner/join.sqlite"):
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            tar.addfile(info, io.BytesIO(members[name]))
    with pytest.raises(BadArchive, match="not a name of a part"):
        unpack(archive, tmp_path / "a" / "b" / "out")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kept", [0, 600, 3_000])
def test_an_archive_that_was_cut_is_refused(archive: Path, tmp_path: Path, kept: int) -> None:
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(BadArchive):
        unpack(archive, tmp_path / "out")


def test_no_archive_is_left_where_a_part_changes_while_it_is_written(tmp_path: Path) -> None:
    manifest = a_manifest(tmp_path / "parts")
    (tmp_path / "parts" / "store/policy").write_bytes(b"A policy")
    with pytest.raises(BadArchive, match="store/policy"):
        write_archive(tmp_path / "kept.tar", manifest, tmp_path / "parts")
    assert list(tmp_path.glob("kept*")) == []


def test_an_earlier_archive_stays_where_a_later_one_fails(archive: Path, tmp_path: Path) -> None:
    before = archive.read_bytes()
    manifest = a_manifest(tmp_path / "parts")
    (tmp_path / "parts" / "store/policy").unlink()
    with pytest.raises(FileNotFoundError):
        write_archive(archive, manifest, tmp_path / "parts")
    assert archive.read_bytes() == before

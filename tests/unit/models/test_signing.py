"""Keys are made once, kept from others' eyes, and named when they do not fit."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from models.signing import BadKeys, BadSignature, ensure_keys, load_public_keys, verify


def test_a_pair_is_made_once_and_the_private_half_is_private(tmp_path: Path) -> None:
    private, public = tmp_path / "a" / "private.pem", tmp_path / "b" / "public.pem"
    signature = ensure_keys(private, public).sign(b"digest")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    verify(load_public_keys(public), signature, b"digest")
    assert ensure_keys(private, public).sign(b"digest") == signature
    assert sorted(path.name for path in tmp_path.rglob("*.pem")) == ["private.pem", "public.pem"]
    assert not list(tmp_path.rglob(".*"))


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    with ThreadPoolExecutor(8) as pool:
        private_of = list(pool.map(lambda _: ensure_keys(private, public), range(8)))
    assert len({signer.sign(b"x") for signer in private_of}) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_a_rotated_key_is_accepted_beside_the_old_one(tmp_path: Path) -> None:
    old = ensure_keys(tmp_path / "old", tmp_path / "old.pub")
    new = ensure_keys(tmp_path / "new", tmp_path / "new.pub")
    both = tmp_path / "both.pub"
    both.write_bytes((tmp_path / "old.pub").read_bytes() + (tmp_path / "new.pub").read_bytes())
    keys = load_public_keys(both)
    assert len(keys) == 2
    for signer in (old, new):
        verify(keys, signer.sign(b"x"), b"x")
    with pytest.raises(BadSignature):
        verify(keys, old.sign(b"x"), b"y")
    assert ensure_keys(tmp_path / "new", both).sign(b"x") == new.sign(b"x")


def test_halves_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    ensure_keys(tmp_path / "one", tmp_path / "one.pub")
    ensure_keys(tmp_path / "two", tmp_path / "two.pub")
    with pytest.raises(BadKeys, match="append it"):
        ensure_keys(tmp_path / "one", tmp_path / "two.pub")


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    ensure_keys(tmp_path / "private", tmp_path / "public")
    os.chmod(tmp_path / "private", 0o644)
    with pytest.raises(BadKeys, match="chmod 600"):
        ensure_keys(tmp_path / "private", tmp_path / "public")


def test_files_that_hold_no_key_are_named(tmp_path: Path) -> None:
    (tmp_path / "private").write_bytes(b"none")
    (tmp_path / "private").chmod(0o600)
    with pytest.raises(BadKeys, match="private"):
        ensure_keys(tmp_path / "private", tmp_path / "public")
    with pytest.raises(BadKeys, match="absent"):
        load_public_keys(tmp_path / "absent")
    (tmp_path / "public").write_bytes(b"none")
    with pytest.raises(BadKeys, match="1 to 16"):
        load_public_keys(tmp_path / "public")
    (tmp_path / "public").write_bytes(
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    )
    with pytest.raises(BadKeys, match="cannot read"):
        load_public_keys(tmp_path / "public")


def test_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1())
    (tmp_path / "private").write_bytes(
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "private").chmod(0o600)
    (tmp_path / "public").write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(BadKeys, match="not Ed25519"):
        ensure_keys(tmp_path / "private", tmp_path / "public")
    with pytest.raises(BadKeys, match="found 0 of 1"):
        load_public_keys(tmp_path / "public")

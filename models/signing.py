"""Ed25519 keys → signatures on weights: who may say that a version is the learner's.

The private half exists in the learner only; scorers hold one file with one or more public halves.
To rotate, append the new public key to that file on every scorer, then give the learner the new
private one, and take the old public key out once no kept version bears its signature.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

SIGNATURE_BYTES = 64
PRIVATE_MODE = 0o600
PUBLIC_KEYS_MAX = 16

_PEM_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)

PublicKey = Ed25519PublicKey


class BadKeys(ValueError):
    """A key file is missing, unreadable, or does not belong to the other one; says what to do."""


class BadSignature(ValueError):
    """No accepted public key made this signature of these bytes."""


class Signer:
    """The learner's private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Hold the key; it never leaves this object."""
        self._key = key

    def sign(self, digest: bytes) -> bytes:
        """Return 64 bytes; the same for the same digest."""
        return self._key.sign(digest)

    @property
    def public_key(self) -> PublicKey:
        """The half that scorers need."""
        return self._key.public_key()


def verify(public_keys: Sequence[PublicKey], signature: bytes, digest: bytes) -> None:
    """Check that one of the keys signed the digest.

    Raises:
        BadSignature: None did.
    """
    for key in public_keys:
        try:
            key.verify(signature, digest)
        except InvalidSignature:
            continue
        return
    raise BadSignature(f"none of the {len(public_keys)} accepted keys made this signature")


def ensure_keys(private_path: Path, public_path: Path) -> Signer:
    """Return the signer of the private file; make both files where there are none.

    The private file is created with mode 0600, whole or not at all, and is never overwritten, so
    two processes that start together agree on one key.

    Raises:
        BadKeys: A file cannot be read as a key, the private one can be read by others, or the
            public file lacks this private key's public half.
    """
    private_path.parent.mkdir(parents=True, exist_ok=True)
    public_path.parent.mkdir(parents=True, exist_ok=True)
    if not private_path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        _create(private_path, pem, PRIVATE_MODE)
    signer = load_signer(private_path)
    ours = _raw(signer.public_key)
    if not public_path.exists():
        pem = signer.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _create(public_path, pem, 0o644)
    if ours not in [_raw(key) for key in load_public_keys(public_path)]:
        raise BadKeys(
            f"{public_path} does not hold the public half of {private_path}: append it, "
            "or remove the public file to have it written again"
        )
    return signer


def load_signer(private_path: Path) -> Signer:
    """Read a private key file.

    Raises:
        BadKeys: It is missing, no Ed25519 key in PEM, or others than its owner may read it.
    """
    try:
        if private_path.stat().st_mode & 0o077:
            raise BadKeys(f"{private_path} can be read by others: chmod 600 {private_path}")
        key = load_pem_private_key(private_path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, BadKeys):
            raise
        raise BadKeys(f"cannot read a private key from {private_path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKeys(f"{private_path} holds a key that is not Ed25519")
    return Signer(key)


def load_public_keys(public_path: Path) -> tuple[PublicKey, ...]:
    """Read every public key of a file of PEM blocks, at most `PUBLIC_KEYS_MAX`.

    Raises:
        BadKeys: It is missing, holds no key, too many, or one that is not Ed25519.
    """
    try:
        blocks = _PEM_BLOCK.findall(public_path.read_bytes())
        keys = [load_pem_public_key(block) for block in blocks]
    except (OSError, ValueError) as error:
        raise BadKeys(f"cannot read public keys from {public_path}: {error}") from error
    accepted = tuple(key for key in keys if isinstance(key, Ed25519PublicKey))
    if not accepted or len(accepted) != len(keys) or len(keys) > PUBLIC_KEYS_MAX:
        raise BadKeys(
            f"{public_path} must hold 1 to {PUBLIC_KEYS_MAX} Ed25519 public keys in PEM; "
            f"found {len(accepted)} of {len(keys)} blocks"
        )
    return accepted


def _raw(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _create(path: Path, body: bytes, mode: int) -> None:
    """Write a new file whole; if somebody else was first, theirs stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(handle, body)
        os.fsync(handle)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(handle)
        draft.unlink()

"""A key pair that tests may know."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.signing import Signer

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(b"k" * 32))

"""an authority of our own → certificates of servers, for who has no better one."""

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
BACKDATED = timedelta(hours=1)  # clocks differ

Key = ec.EllipticCurvePrivateKey


def make_authority(now: datetime) -> tuple[bytes, bytes]:
    """Return the PEM of a new authority's certificate, and of its private key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("riskbeat authority")
    made = (
        _begun(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def make_certificate(
    authority: tuple[bytes, bytes], name: str, hosts: Sequence[str], now: datetime, days: int
) -> bytes:
    """Return one PEM of a new private key and its certificate, for a server and for a client.

    Args:
        authority: Certificate and private key, as `make_authority` gives them.
        name: Who it is: the subject's common name.
        hosts: Names and addresses under which it is reached.
        now: When it begins, but for an hour of clocks that differ.
        days: How long it is valid.

    Raises:
        ValueError: The authority's files are none, or a host is not a name.
    """
    issuer = x509.load_pem_x509_certificate(authority[0])
    signing = serialization.load_pem_private_key(authority[1], password=None)
    if not isinstance(signing, Key):
        raise ValueError("the authority's private key is not one of an elliptic curve")
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        _begun(_named(name), issuer.subject, key, now, days)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .sign(signing, hashes.SHA256())
    )
    return _key_pem(key) + made.public_bytes(serialization.Encoding.PEM)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: Key, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

"""The folder of secrets: each process' own, and renewed without a moment in which nothing fits."""

import ssl
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from typer.testing import CliRunner

from riskbeat.__main__ import app
from riskbeat.access import ROLES, access_page
from riskbeat.secret_files import CERTIFICATE_DAYS, RENEWALS, SERVERS, SecretFiles

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def files(tmp_path: Path) -> SecretFiles:
    files = SecretFiles(tmp_path / "secrets", "valkey:6379", "riskbeat:", ("risk.example",))
    files.make(NOW)
    return files


def contents(files: SecretFiles) -> dict[str, bytes]:
    paths = (path for path in files.root.rglob("*") if path.is_file())
    return {str(path.relative_to(files.root)): path.read_bytes() for path in paths}


def test_what_is_there_stays(files: SecretFiles) -> None:
    before = contents(files)
    files.make(NOW + timedelta(days=1))
    assert contents(files) == before


def test_only_the_owner_enters_and_only_the_owner_reads_the_authoritys_key(
    files: SecretFiles,
) -> None:
    assert files.root.stat().st_mode & 0o777 == 0o700
    assert (files.root / "authority" / "key.pem").stat().st_mode & 0o777 == 0o600
    key = (files.root / "authority" / "key.pem").read_bytes()
    assert [name for name, data in contents(files).items() if key in data] == ["authority/key.pem"]


def test_no_two_users_share_a_password(files: SecretFiles) -> None:
    kept = contents(files)
    passwords = [kept[f"{role}/kafka.password"] for role in ROLES]
    passwords += [str(urlsplit(kept[f"{role}/redis.url"].decode()).password) for role in ROLES]  # type: ignore[misc]
    assert len(set(passwords)) == 2 * len(ROLES)
    told = dict(line.split() for line in kept["kafka/users"].decode().splitlines())
    assert told == {role: kept[f"{role}/kafka.password"].decode() for role in ROLES}


@pytest.mark.parametrize("folder", SERVERS)
def test_a_server_is_known_by_its_names_to_who_trusts_the_authority(
    files: SecretFiles, folder: str
) -> None:
    pem = files.root / folder / "server.pem"
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    authority = x509.load_pem_x509_certificate((files.root / folder / "ca.pem").read_bytes())
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = [str(name) for name in names.get_values_for_type(x509.DNSName)]
    assert known == [*SERVERS[folder], "localhost", "risk.example"]
    assert certificate.not_valid_after_utc == NOW + timedelta(days=CERTIFICATE_DAYS)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem)


def test_the_store_takes_the_old_password_and_the_new(files: SecretFiles) -> None:
    def password() -> str:
        return str(urlsplit((files.root / "serve" / "redis.url").read_text()).password)

    def taken() -> list[str]:
        lines = (files.root / "redis" / "users.acl").read_text().splitlines()
        [line] = [line for line in lines if line.startswith("user serve ")]
        return [word[1:] for word in line.split() if word.startswith("#")]

    seen = [sha256(password().encode()).hexdigest()]
    for _ in range(2):
        RENEWALS["redis"](files, NOW)
        seen.insert(0, sha256(password().encode()).hexdigest())
        assert taken() == seen[:2]


def test_renewing_one_thing_leaves_the_others(files: SecretFiles) -> None:
    before = contents(files)
    for what, changed in {
        "certificates": {f"{folder}/server.pem" for folder in SERVERS},
        "kafka": {"kafka/users", *(f"{role}/kafka.password" for role in ROLES)},
        "redis": {"redis/users.acl", *(f"{role}/redis.url" for role in ROLES)},
    }.items():
        RENEWALS[what](files, NOW)
        after = contents(files)
        assert {name for name in after if after[name] != before[name]} == changed
        before = after


def test_an_unknown_renewal_is_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["secrets", "--out", str(tmp_path / "s"), "--renew", "rdis"])
    assert (done.exit_code, done.stderr) == (
        2,
        "riskbeat: --renew rdis: expected one of: certificates, redis, kafka\n",
    )
    assert not (tmp_path / "s").exists()


def test_the_page_tells_what_each_user_may_do() -> None:
    assert access_page() in (ROOT / "docs" / "secure.md").read_text()

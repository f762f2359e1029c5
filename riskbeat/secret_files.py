"""a folder → every secret of a deployment, each process' own in a folder of its own.

A process is given its folder, and nothing of the others. Files are put in place whole, by renaming,
so whoever reads one again reads the old or the new; that is why folders are mounted, not files.
The whole lies in a folder that only its owner enters; the files in it may be read by any user of a
container, for they are mounted as they are.
"""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from riskbeat.access import RELOAD, ROLES, acl_file
from riskbeat.certificates import make_authority, make_certificate

PASSWORD_BYTES = 24
CERTIFICATE_DAYS = 90
EVERYBODY = 0o644
OWNER = 0o600
KEPT = "previous"
SERVERS: Mapping[str, tuple[str, ...]] = {  # folder → names in the Compose network
    "kafka": ("kafka",),
    "redis": ("valkey",),
    "serve": ("serve", "serve-gpu"),
    "featurize": ("featurize",),
    "learn": ("learn",),
}
LOCAL = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """The folder, and what goes into the addresses in it.

    Attributes:
        root: Of the folder.
        redis_host: `host:port` of the store, as processes see it.
        prefix: Begins every key in the store.
        hosts: More names or addresses of this deployment's servers, for their certificates.
    """

    root: Path
    redis_host: str
    prefix: str
    hosts: Sequence[str] = ()

    def make(self, now: datetime) -> None:
        """Make what is not there; what is there stays as it is."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (*ROLES, "kafka", "redis", "authority", "public", "prometheus"):
            (self.root / folder).mkdir(mode=0o755, exist_ok=True)
        if not (self.root / "authority" / "key.pem").exists():
            certificate, key = make_authority(now)
            self._write("authority/certificate.pem", certificate)
            self._write("authority/key.pem", key, OWNER)
        for folder in (*ROLES, "kafka", "redis", "public", "prometheus"):
            self._write(f"{folder}/ca.pem", self._read("authority/certificate.pem"))
        if not (self.root / "kafka" / "server.pem").exists():
            self.renew_certificates(now)
        if not (self.root / "serve" / "keys.secret").exists():
            secret = _password().encode()
            for role in ("serve", "operate"):
                self._write(f"{role}/keys.secret", secret)
        if not (self.root / "redis" / "users.acl").exists():
            self._write(f"redis/{RELOAD}.password", _password().encode())
            self.renew_redis()
        if not (self.root / "kafka" / "users").exists():
            self.renew_kafka()

    def renew_certificates(self, now: datetime) -> None:
        """Make every server's certificate anew, of the same authority."""
        pair = self._read("authority/certificate.pem"), self._read("authority/key.pem")
        for folder, names in SERVERS.items():
            hosts = (*names, *LOCAL, *self.hosts)
            pem = make_certificate(pair, folder, hosts, now, CERTIFICATE_DAYS)
            self._write(f"{folder}/server.pem", pem)

    def renew_redis(self) -> None:
        """Make the store's passwords anew; the store takes those before, too, until the next time.

        The ACL file is written first: whoever tells the store to read it again at once finds that
        it takes the new ones before, or a moment after, anybody comes with them.
        """
        before = {role: self._password_in_url(role) for role in ROLES}
        now = {role: _password() for role in ROLES}
        takes = {role: (now[role], *filter(None, (before[role],))) for role in ROLES}
        takes[RELOAD] = (self._read(f"redis/{RELOAD}.password").decode(),)
        self._write("redis/users.acl", acl_file(takes, self.prefix).encode())
        for role, password in now.items():
            url = f"rediss://{role}:{password}@{self.redis_host}/0"
            self._write(f"{role}/redis.url", url.encode())

    def renew_kafka(self) -> None:
        """Make Kafka's passwords anew; a user of Kafka has one, so tell the broker at once."""
        now = {role: _password() for role in ROLES}
        lines = "".join(f"{role} {password}\n" for role, password in now.items())
        self._write("kafka/users", lines.encode())
        for role, password in now.items():
            self._write(f"{role}/kafka.password", password.encode())

    def _password_in_url(self, role: str) -> str:
        path = self.root / role / "redis.url"
        return path.read_text().split(":")[2].split("@")[0] if path.exists() else ""

    def _read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def _write(self, name: str, data: bytes, mode: int = EVERYBODY) -> None:
        path = self.root / name
        part = path.with_name(f".{path.name}.part")
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
        part.replace(path)


RENEWALS: Mapping[str, Callable[[SecretFiles, datetime], None]] = {
    "certificates": SecretFiles.renew_certificates,
    "redis": lambda files, _: files.renew_redis(),
    "kafka": lambda files, _: files.renew_kafka(),
}


def _password() -> str:
    return secrets.token_hex(PASSWORD_BYTES)

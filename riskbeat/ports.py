"""Ports of this machine: whether one is free, and which are."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

from riskbeat.settings_load import SettingError

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 1.0
SERVICES_FROM = 10_000
"""Ports that are drawn begin here: below it well-known services have theirs."""
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_FROM = 32_768
"""Linux's own default, where it does not say."""
TRIES = 1_000


def free_ports(count: int) -> list[int]:
    """Return distinct loopback ports that were free a moment ago.

    They are drawn from below those that the system gives to outgoing connections: one of these
    could take it before its server does.

    Raises:
        OSError: None is free.
    """
    end = _ephemeral_from()
    with ExitStack() as held:
        ports: list[int] = []
        for _ in range(TRIES):
            if len(ports) == count:
                return ports
            one = held.enter_context(socket.socket())
            try:
                one.bind((LOOPBACK, random.randrange(SERVICES_FROM, end)))
            except OSError:
                continue
            ports.append(one.getsockname()[1])
    raise OSError(f"no {count} free ports of {SERVICES_FROM} to {end}")


def listens(port: int) -> bool:
    """Say whether anything accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        return probe.connect_ex((LOOPBACK, port)) == 0


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether nothing listens on a port now."""
    try:
        _bind(host, port)
    except OSError:
        return False
    return True


def check_port(setting: str, host: str, port: int) -> None:
    """See that a process may listen before it starts all else; 0 is any port.

    Args:
        setting: The environment variable that names the port.
        host: Address to listen on.
        port: Number.

    Raises:
        SettingError: It may not; says why.
    """
    try:
        _bind(host, port)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise SettingError(setting, f"cannot listen on {host}:{port}: {why}") from error


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _ephemeral_from() -> int:
    try:
        return max(int(EPHEMERAL.read_text().split()[0]), SERVICES_FROM + TRIES)
    except OSError:
        return EPHEMERAL_FROM

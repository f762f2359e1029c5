"""`RISKBEAT_…_FILE` → a secret as it is now: read again by every connection that begins.

A file that is away or empty for a moment, while it is replaced, leaves the secret as it was.
"""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from riskbeat.redact import PROCESS
from riskbeat.settings_files import SECRET_MAX_BYTES

Secret = Callable[[], str]


def secret_again(prefix: str, field: str, value: str) -> Secret:
    """Return what tells a secret as it is now.

    Args:
        prefix: Of the environment's keys.
        field: The secret's name in the settings.
        value: As it was read at the start; it stays, if it came from no file.
    """
    key = f"{prefix}{field.upper()}"
    name = os.environ.get(f"{key}_FILE")
    if not name or os.environ.get(key):
        return lambda: value
    path, last = Path(name), value

    def read() -> str:
        nonlocal last
        try:
            with path.open(encoding="utf-8") as file:
                last = file.read(SECRET_MAX_BYTES).strip() or last
                PROCESS.learn(last)  # no line of the log may hold it
        except (OSError, UnicodeDecodeError):
            pass
        return last

    return read


def login_in(url: str) -> tuple[str, str]:
    """Return user and password in an address; empty for what it lacks."""
    parts = urlsplit(url)
    return unquote(parts.username or ""), unquote(parts.password or "")


class AgainPassword(str):
    """A password that is read again whenever it is encoded.

    aiokafka takes a text and encodes it for each connection that begins (SCRAM; seen with 0.14.0),
    and has no other way to ask.
    """

    _again: Secret

    def __new__(cls, value: str, again: Secret) -> "AgainPassword":
        """Be the password as it was at the start."""
        made = super().__new__(cls, value)
        made._again = again
        return made

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return the password as it is now."""
        return self._again().encode(encoding, errors)

"""user and password of a store → whoever connects, asked anew each time."""

from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from redis.credentials import CredentialProvider

Login = Callable[[], tuple[str, str]]
"""Returns user and password as they are now."""


class AskedLogin(CredentialProvider):
    """Lets redis-py ask for each connection, so that a new password counts without a restart."""

    def __init__(self, login: Login) -> None:
        """Take who knows."""
        self._login = login

    def get_credentials(self) -> tuple[str, str]:
        """Return user and password as they are now."""
        return self._login()

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return the same; the library's own warns of a thread that it does not take."""
        return self._login()


def without_login(url: str) -> str:
    """Return an address without the user and password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

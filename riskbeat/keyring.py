"""settings → the store of API keys that they name, and the ring that scorers judge by."""

from collections.abc import Callable

from api.keys import KeyStore
from api.keys_file import FileKeyStore
from api.keys_redis import RedisKeyStore
from api.keys_ring import KeyRing, Told
from features.client_redis import Client
from riskbeat.settings import Settings
from riskbeat.settings_load import SettingMissing

SECRET_KEY = "RISKBEAT_KEYS_SECRET"


class NoKeys(ValueError):
    """The operator's fault: callers need keys, and there are none."""

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(
            "no API key is valid: make one (riskbeat keys create NAME --scope decide), "
            "or set RISKBEAT_AUTH=off to let anybody in"
        )


def key_secret(settings: Settings) -> bytes:
    """Return the key of the hashes.

    Raises:
        SettingMissing: It is not set.
    """
    if settings.keys_secret is None:
        raise SettingMissing(
            SECRET_KEY, "not set (or its _FILE); API keys need it, RISKBEAT_AUTH=off does not"
        )
    return settings.keys_secret.get_secret_value().encode()


def key_store(settings: Settings, client: Client) -> KeyStore:
    """Return where the keys are kept: the file that the settings name, or Redis."""
    if settings.keys_path is not None:
        return FileKeyStore(settings.keys_path)
    return RedisKeyStore(client, settings.redis_prefix, settings.redis_timeout_s)


def key_ring(
    settings: Settings, client: Client, now_ms: Callable[[], int], told: Told
) -> KeyRing | None:
    """Return the ring; None where nobody needs a key.

    Raises:
        SettingMissing: Keys are needed and the key of their hashes is not set.
    """
    if settings.auth == "off":
        return None
    return KeyRing(
        key_store(settings, client),
        key_secret(settings),
        now_ms,
        told,
        refresh_s=settings.keys_refresh_s,
        stale_max_s=settings.keys_stale_max_s,
    )

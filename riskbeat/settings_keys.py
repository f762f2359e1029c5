"""environment → who may call over HTTP, and how much."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class KeysSettings(BaseSettings):
    """Keys of callers, and their limits."""

    auth: Literal["on", "off"] = Field(
        "on", description="`off`: HTTP asks for no key, and the log warns of it; for local use"
    )
    keys_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="Key of the hashes of API keys, 32 characters or more; or `…_FILE`. Required "
        "with `RISKBEAT_AUTH=on`; another one makes every key void",
    )
    keys_path: Path | None = Field(
        None, description="Keep API keys in this JSON file; in Redis if absent"
    )
    keys_refresh_s: float = Field(
        5.0, ge=0.1, le=3600, description="A scorer knows of new and revoked keys after this"
    )
    keys_stale_max_s: float = Field(
        3600.0, ge=1, description="Without the store known keys go on for so long; then 503"
    )
    key_requests_per_s: float = Field(
        5000.0, ge=0, description="Of one key, in one process; an item of a batch counts; 0 = any"
    )
    address_requests_per_s: float = Field(
        0.0, ge=0, description="Of one peer address, likewise; behind a proxy that is the proxy"
    )
    rate_burst_s: float = Field(
        2.0, gt=0, le=3600, description="Who was silent may catch up so much of its rate at once"
    )

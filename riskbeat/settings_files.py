"""`RISKBEAT_…_FILE` → a secret: mounted secrets, as containers hand them over."""

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

SECRETS = ("kafka_password", "redis_url", "keys_secret")
SECRET_MAX_BYTES = 64 * 1024


class SecretFiles(PydanticBaseSettingsSource):
    """Reads each secret of `SECRETS` from the file named by its key with `_FILE` behind it."""

    def __init__(self, settings_cls: type[BaseSettings], prefix: str) -> None:
        """Remember the prefix of the keys."""
        super().__init__(settings_cls)
        self._prefix = prefix

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the secret, its key and that it is no JSON.

        Raises:
            SecretUnreadable: The file is named but cannot be read.
        """
        key = f"{self._prefix}{field_name.upper()}_FILE"
        name = os.environ.get(key)
        if field_name not in SECRETS or not name:
            return None, field_name, False
        try:
            with Path(name).open(encoding="utf-8") as file:
                return file.read(SECRET_MAX_BYTES).strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise SecretUnreadable(key, f"cannot read {name}: {error}") from error

    def __call__(self) -> dict[str, Any]:
        """Return every secret that a file gives."""
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class SecretUnreadable(ValueError):
    """The operator's fault: a `…_FILE` key names a file that cannot be read."""

    def __init__(self, key: str, detail: str) -> None:
        """Name the key and the cause."""
        super().__init__(f"{key}: {detail}")
        self.key = key

"""environment → Settings or one readable line: which key is missing, which does not parse."""

import json
import os
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import SettingsError as SourceError

from riskbeat.settings import (
    PREFIX,
    FeaturizeSettings,
    KafkaSettings,
    LearnSettings,
    RedisSettings,
    Settings,
)
from riskbeat.settings_audit import AuditSettings
from riskbeat.settings_files import SECRETS, SecretUnreadable
from riskbeat.settings_judge import JudgeSettings
from riskbeat.settings_keys import KeysSettings
from riskbeat.settings_learners import LearnersSettings
from riskbeat.settings_lookup import LookupSettings
from riskbeat.settings_policy import PolicySettings
from riskbeat.settings_publish import PublishSettings
from riskbeat.settings_rollout import RolloutSettings
from riskbeat.settings_safety import SafetySettings
from riskbeat.settings_serve import ServeSettings
from riskbeat.settings_trace import TraceSettings

EXIT_CODE = 2
SECTIONS = (
    ("Kafka", KafkaSettings),
    ("Redis", RedisSettings),
    ("Featurize", FeaturizeSettings),
    ("Learn", LearnSettings),
    ("Learners", LearnersSettings),
    ("Callers", KeysSettings),
    ("Lookup", LookupSettings),
    ("Safety", SafetySettings),
    ("Publish", PublishSettings),
    ("Policy", PolicySettings),
    ("Judge", JudgeSettings),
    ("Audit", AuditSettings),
    ("Rollout", RolloutSettings),
    ("Serve", ServeSettings),
    ("Traces", TraceSettings),
    ("Every process", Settings),
)
OTHER_KEYS = (  # read by docker-compose.yml and by the tests
    *("IMAGE", "LOGS", "PORT", "KAFKA_PORT", "REDIS_PORT", "PROMETHEUS_PORT"),
    "GRAFANA_PORT",
    *("SECRETS", "VALKEY_IMAGE"),
    *("ASYNCAPI_SCHEMA", "TEST_KAFKA", "TEST_REDIS", "HANDBOOK", "CONTAINER_SETUP"),
)


class SettingError(ValueError):
    """The operator's fault: a process cannot start with this environment.

    Attributes:
        key: The environment variable at fault.
    """

    def __init__(self, key: str, detail: str) -> None:
        """Name the key and what is wrong with it."""
        super().__init__(f"{key}: {detail}")
        self.key = key


class SettingMissing(SettingError):
    """A key without a default is not set."""


class SettingInvalid(SettingError):
    """A key is set to what does not parse, or is out of range."""


def load_settings(*, servers: bool = True) -> Settings:
    """Read the environment.

    Args:
        servers: Whether the command talks to Kafka and Redis; one that does not needs no
            addresses, and gets ones that nothing can answer at.

    Raises:
        SettingMissing: A required key is absent; the first, in the order of the page.
        SettingInvalid: A key does not parse or is out of range.
    """
    try:
        return Settings(**({} if servers else _absent_servers()))
    except ValidationError as error:
        raise _translated(error.errors()) from None
    except SecretUnreadable as error:
        raise SettingInvalid(error.key, str(error).removeprefix(f"{error.key}: ")) from None
    except SourceError as error:
        field = str(error).split('"')[1]
        raise SettingInvalid(_key(field), 'expected JSON, as in ["a", "b"]') from None


def _absent_servers() -> dict[str, Any]:
    nowhere = {
        "kafka_bootstrap_servers": "nowhere.invalid:0",
        "redis_url": "redis://nowhere.invalid",
    }
    given = {key.removesuffix("_FILE") for key in os.environ}
    return {field: value for field, value in nowhere.items() if _key(field) not in given}


def settings_page() -> str:
    """Return `docs/settings.md`: one table per section."""
    lines = [
        "# Settings",
        "",
        "Every process reads its settings from the environment, once; this page is made by",
        "`riskbeat settings --markdown`. A missing key and a value that does not parse end the",
        "process with code 2 and one line that names the key. Durations are seconds. Secrets have",
        "no default, and may lie in a file that the key with `_FILE` behind it names.",
    ]
    for title, rows in settings_rows():
        lines += ["", f"## {title}", "", "| key | default | meaning |", "|---|---|---|"]
        lines += [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in rows]
    return "\n".join(lines) + "\n"


def settings_rows() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield each section's title and its rows of (key, default, meaning)."""
    seen: set[str] = set()
    for title, section in SECTIONS:
        fields = {n: f for n, f in section.model_fields.items() if n not in seen}
        seen |= set(fields)
        yield title, [(_key(n), _default(f), f.description or "") for n, f in fields.items()]


def unknown_keys() -> list[tuple[str, str | None]]:
    """Return `RISKBEAT_` variables that nothing reads, each with the key it resembles."""
    fields = [name.upper() for name in Settings.model_fields]
    known = {*fields, *(f"{name.upper()}_FILE" for name in SECRETS), *OTHER_KEYS}
    found = []
    for key in sorted(os.environ):
        name = key.removeprefix(PREFIX)
        if key.startswith(PREFIX) and name not in known:
            near = get_close_matches(name, fields, n=1)
            found.append((key, PREFIX + near[0] if near else None))
    return found


def _key(field: str) -> str:
    return PREFIX + field.upper()


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "**required**"
    if value is None or isinstance(value, SecretStr):
        return "none"
    if isinstance(value, tuple):
        return f"`{json.dumps([str(item) for item in value])}`"
    if isinstance(value, dict):
        return f"`{json.dumps(value)}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`"


def _translated(errors: list[ErrorDetails]) -> SettingError:
    first = errors[0]
    if first["type"] == "missing":
        field = str(first["loc"][0] if first["loc"] else first["ctx"]["field"])
        hint = " (or its _FILE)" if field in SECRETS else ""
        why = "" if first["loc"] else f", {first['msg']}"
        return SettingMissing(_key(field), f"not set{hint}{why}")
    field = str(first["loc"][0])
    given = "" if field in SECRETS else f", not {str(first['input'])!r}"
    message = first["msg"][:1].lower() + first["msg"][1:]
    return SettingInvalid(_key(field), f"{message}{given}")

"""The environment is read once; what is wrong with it is one line that names the key."""

import os
import re
import ssl
from pathlib import Path

import pytest
from pydantic import ValidationError

from riskbeat.settings import PREFIX, Settings
from riskbeat.settings_load import (
    SettingInvalid,
    SettingMissing,
    load_settings,
    settings_page,
    unknown_keys,
)

ROOT = Path(__file__).parents[3]
REQUIRED = {
    "RISKBEAT_KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
    "RISKBEAT_REDIS_URL": "redis://store:6379/0",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for key in list(os.environ):
        if key.startswith(PREFIX):
            monkeypatch.delenv(key)
    for key, value in REQUIRED.items():
        monkeypatch.setenv(key, value)
    return monkeypatch


def test_two_addresses_are_enough() -> None:
    settings = load_settings()
    assert settings.kafka_options() == {
        "bootstrap_servers": "broker:9092",
        "security_protocol": "PLAINTEXT",
        "request_timeout_ms": 15000,
    }
    assert settings.redis_address == "redis://store:6379/0"
    assert settings.topics.events == "riskbeat.events.v1"


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(environment: pytest.MonkeyPatch, key: str) -> None:
    environment.delenv(key)
    with pytest.raises(SettingMissing, match=rf"^{key}: not set") as caught:
        load_settings()
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("RISKBEAT_HTTP_PORT", "eighty"),
        ("RISKBEAT_HTTP_PORT", "70000"),
        ("RISKBEAT_PUBLISH_INTERVAL_S", "0"),
        ("RISKBEAT_PUBLISH_INTERVAL_S", "nan"),
        ("RISKBEAT_LABEL_HORIZON_S", "inf"),
        ("RISKBEAT_KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("RISKBEAT_PUBLIC_KEY_PATHS", "one.pem,two.pem"),
        ("RISKBEAT_PUBLIC_KEY_PATHS", "[]"),
        ("RISKBEAT_REDIS_PREFIX", "a{b}"),
        ("RISKBEAT_LOG_FORMAT", "xml"),
    ],
)
def test_a_value_that_does_not_parse_is_named(
    environment: pytest.MonkeyPatch, key: str, value: str
) -> None:
    environment.setenv(key, value)
    with pytest.raises(SettingInvalid, match=rf"^{key}: ") as caught:
        load_settings()
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


def test_sasl_asks_for_user_and_password(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RISKBEAT_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(SettingMissing, match="RISKBEAT_KAFKA_USERNAME"):
        load_settings()
    environment.setenv("RISKBEAT_KAFKA_USERNAME", "scorer")
    with pytest.raises(SettingMissing, match="RISKBEAT_KAFKA_PASSWORD"):
        load_settings()
    environment.setenv("RISKBEAT_KAFKA_PASSWORD", "open sesame")
    options = load_settings().kafka_options()
    context = options.pop("ssl_context")
    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "scorer"
    assert options["sasl_plain_password"] == "open sesame"


def test_a_secret_may_lie_in_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("RISKBEAT_REDIS_URL")
    environment.setenv("RISKBEAT_REDIS_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(SettingInvalid, match="RISKBEAT_REDIS_URL_FILE: cannot read"):
        load_settings()
    (tmp_path / "url").write_text("rediss://user:secret@store:6380/1\n")
    assert load_settings().redis_address == "rediss://user:secret@store:6380/1"


def test_an_own_authority_of_redis_goes_into_its_address(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("RISKBEAT_REDIS_URL", "rediss://store:6380/1")
    environment.setenv("RISKBEAT_REDIS_CA", "/etc/own ca.pem")
    assert load_settings().redis_address == (
        "rediss://store:6380/1?ssl_ca_certs=%2Fetc%2Fown%20ca.pem"
    )


def test_secrets_are_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RISKBEAT_REDIS_URL", "redis://user:hunter2@store/0")
    environment.setenv("RISKBEAT_KAFKA_PASSWORD", "hunter2")
    settings = load_settings()
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().http_port = 1


def test_an_unknown_key_is_found_with_what_it_resembles(
    environment: pytest.MonkeyPatch,
) -> None:
    assert unknown_keys() == []
    environment.setenv("RISKBEAT_HTPP_PORT", "1")
    environment.setenv("RISKBEAT_KAFKA_PASSWORD_FILE", "known")
    assert unknown_keys() == [("RISKBEAT_HTPP_PORT", "RISKBEAT_HTTP_PORT")]


def test_every_setting_has_a_meaning_and_no_secret_a_default() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if "Secret" in str(field.annotation):
            assert field.is_required() or field.default is None, name


def test_the_page_is_the_one_in_docs() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()


def test_every_key_that_is_named_elsewhere_exists() -> None:
    """Compose and Dockerfile speak of settings by name; a typo there would be ignored."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for path in (ROOT / "docker-compose.yml", ROOT / "Dockerfile"):
        named = set(re.findall(r"\b(RISKBEAT_[A-Z_]+)(?:: |=)", path.read_text()))
        assert named <= known, path


def test_a_command_without_servers_needs_no_addresses(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS")
    environment.setenv("RISKBEAT_REDIS_URL", "redis://given:1/0")
    settings = load_settings(servers=False)
    assert settings.kafka_bootstrap_servers.endswith(".invalid:0")
    assert settings.redis_url.get_secret_value() == "redis://given:1/0"


def test_a_line_of_its_own_needs_a_model_of_its_own(environment: pytest.MonkeyPatch) -> None:
    digest = "d" * 64
    assert load_settings().topics.weights(digest) == f"riskbeat.weights.v1.{digest[:12]}"
    environment.setenv("RISKBEAT_LEARN_LINE", "rival")
    with pytest.raises(SettingMissing, match="RISKBEAT_MODEL_NAME"):
        load_settings()
    environment.setenv("RISKBEAT_MODEL_NAME", "rival")
    assert load_settings().topics.weights(digest) == f"riskbeat.weights.v1.{digest[:12]}.rival"

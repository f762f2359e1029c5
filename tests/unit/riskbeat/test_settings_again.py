"""Secrets in files are read again by every connection that begins; others stay as they were."""

from pathlib import Path

import pytest

from riskbeat.settings import Settings

URL = "rediss://serve:{}@valkey:6379/0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "redis.url").write_text(URL.format("one"))
    (tmp_path / "kafka.password").write_text("first\n")
    monkeypatch.setenv("RISKBEAT_REDIS_URL_FILE", str(tmp_path / "redis.url"))
    monkeypatch.setenv("RISKBEAT_KAFKA_PASSWORD_FILE", str(tmp_path / "kafka.password"))
    monkeypatch.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.setenv("RISKBEAT_KAFKA_USERNAME", "serve")
    monkeypatch.setenv("RISKBEAT_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    return tmp_path


def test_a_new_password_of_the_store_counts_for_the_next_connection(folder: Path) -> None:
    login = Settings().redis_login()
    assert login is not None
    assert login() == ("serve", "one")
    (folder / "redis.url").write_text(URL.format("tw%2Fo"))
    assert login() == ("serve", "tw/o")
    (folder / "redis.url").unlink()
    assert login() == ("serve", "tw/o")


def test_a_new_password_of_kafka_counts_for_the_next_connection(folder: Path) -> None:
    password = Settings().kafka_options()["sasl_plain_password"]
    assert (password, password.encode("utf-8")) == ("first", b"first")
    (folder / "kafka.password").write_text("second\n")
    assert password.encode("utf-8") == b"second"


def test_what_stands_in_the_environment_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISKBEAT_REDIS_URL", URL.format("said"))
    monkeypatch.setenv("RISKBEAT_KAFKA_PASSWORD", "said, too")
    settings = Settings()
    login = settings.redis_login()
    assert login is not None
    assert login() == ("serve", "said")
    assert settings.kafka_options()["sasl_plain_password"].encode() == b"said, too"


def test_a_store_without_users_is_asked_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISKBEAT_REDIS_URL", "redis://valkey:6379/0")
    assert Settings().redis_login() is None

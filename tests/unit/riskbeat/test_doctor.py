"""`riskbeat doctor` says of each thing whether it is there, and what to do where it is not."""

import asyncio
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from riskbeat import doctor
from riskbeat.doctor import State
from riskbeat.ports import free_ports
from riskbeat.settings_load import load_settings

WIDE = {"COLUMNS": "250"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for key in list(os.environ):
        if key.startswith("RISKBEAT_"):
            monkeypatch.delenv(key)
    return monkeypatch


@pytest.fixture
def nobody(environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings that name a Kafka and a Redis that do not answer."""
    kafka, redis = free_ports(2)
    environment.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{kafka}")
    environment.setenv("RISKBEAT_REDIS_URL", f"redis://127.0.0.1:{redis}/0")
    return environment


def an_app() -> typer.Typer:
    app = typer.Typer()
    doctor.register(app)
    return app


def test_this_machine_is_fit_for_the_local_stack() -> None:
    findings = [*doctor.check_machine(), *doctor.check_local_stack()]
    names = [finding.what for finding in findings]
    assert names == [
        *("Python", "packages", "numba", "torch", "disk"),
        *("embedded broker", "embedded Valkey", "free ports"),
    ]
    assert [f for f in findings if f.state is State.MISSING] == []


def test_without_settings_nothing_of_a_deployment_is_missing() -> None:
    findings = list(doctor.check_deployment())
    assert [finding.state for finding in findings] == [State.OPTIONAL]


def test_a_typing_error_in_a_key_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RISKBEAT_HTPP_PORT", "1")
    first = next(doctor.check_deployment())
    assert (first.what, first.state) == ("RISKBEAT_HTPP_PORT", State.WARNING)
    assert "RISKBEAT_HTTP_PORT" in first.advice


def test_a_silent_broker_and_store_are_missing_with_advice(nobody: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    kafka = asyncio.run(doctor.check_kafka(settings))
    redis = asyncio.run(doctor.check_redis(settings))
    assert (kafka.state, redis.state) == (State.MISSING, State.MISSING)
    assert "RISKBEAT_KAFKA_BOOTSTRAP_SERVERS" in kafka.advice
    assert "RISKBEAT_REDIS_URL" in redis.advice


def test_a_missing_file_is_named_with_its_key(nobody: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nobody.setenv("RISKBEAT_SPEC_PATH", str(tmp_path / "none.yaml"))
    nobody.setenv("RISKBEAT_DATA_DIR", str(tmp_path / "a" / "b"))
    spec, _, data = doctor.check_files(load_settings())
    assert spec.state is State.MISSING
    assert "RISKBEAT_SPEC_PATH" in spec.advice
    assert data.state is State.OK


def test_the_command_ends_with_1_when_something_is_missing(nobody: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(an_app(), [], env=WIDE)
    assert result.exit_code == 1
    assert "missing" in result.output


def test_the_command_ends_with_0_when_nothing_is_missing() -> None:
    result = CliRunner().invoke(an_app(), [], env=WIDE)
    assert result.exit_code == 0, result.output
    for what in ("Python", "numba", "torch", "embedded broker", "Docker", "Java"):
        assert what in result.output

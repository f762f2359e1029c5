"""The data commands: a log is written, and every user's error is one readable line."""

from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from riskbeat.commands_data import register


@pytest.fixture
def app() -> typer.Typer:
    commands = typer.Typer(pretty_exceptions_enable=False)
    register(commands)
    return commands


@pytest.fixture(autouse=True)
def deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RISKBEAT_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("RISKBEAT_DATA_DIR", str(tmp_path / "data"))


def test_a_log_is_generated(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    options = ["--events", "2000", "--days", "5", "--seed", "9", "--start", "2024-01-01"]
    done = CliRunner().invoke(app, ["generate", str(path), *options])
    assert done.exit_code == 0
    assert f"{path}: 2,000 events" in done.stdout
    frame = pl.read_parquet(path)
    assert len(frame) == 2000
    assert frame["event_time"][0].startswith("2024-01-01")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "{}/log.xls"], "expected a name that ends in .parquet"),
        (["generate", "{}/none/log.csv"], "No such file"),
        (["generate", "{}/log.csv", "--days", "0"], "days: must lie in"),
        (["replay", "{}/none.csv", "--mapping", "generator"], "no such file"),
        (["replay", "{}/none.csv", "--barrier", "soon"], "--barrier: expected a duration"),
    ],
)
def test_a_users_error_is_one_line_and_code_2(
    app: typer.Typer, tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = CliRunner().invoke(
        app, [*(a.format(tmp_path) for a in arguments), "--no-progress"], catch_exceptions=False
    )
    assert done.exit_code == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

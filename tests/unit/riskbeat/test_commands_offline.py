"""The offline commands as they are typed: files come out, and errors are one readable line."""

import json
from pathlib import Path

import msgspec
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from models.decision_codec import decode_vector, encode_record, encode_vector
from pipeline.skew_log import write_log
from riskbeat import commands_data, commands_offline
from tests.unit.pipeline.test_skew import Past, a_past

ROOT = Path(__file__).parents[3]
FEATURES = str(ROOT / "features.yaml")


@pytest.fixture
def app() -> typer.Typer:
    commands = typer.Typer(pretty_exceptions_enable=False)
    commands_data.register(commands)
    commands_offline.register(commands)
    return commands


@pytest.fixture(autouse=True)
def deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RISKBEAT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RISKBEAT_UPDATES_PARTITIONS", "3")


@pytest.fixture
def log(app: typer.Typer, tmp_path: Path) -> Path:
    path = tmp_path / "log.parquet"
    options = ["--events", "600", "--days", "20", "--no-progress"]
    assert CliRunner().invoke(app, ["generate", str(path), *options]).exit_code == 0
    return path


def test_a_log_is_backfilled(app: typer.Typer, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.parquet"
    arguments = [str(log), "--mapping", "generator", "--spec", FEATURES, "--out", str(out)]
    done = CliRunner().invoke(app, ["backfill", *arguments, "--no-progress"])
    assert done.exit_code == 0, done.stderr
    assert f"{out}: 600 vectors of 600 events" in done.stdout
    told = pl.read_parquet_metadata(out)
    assert told["riskbeat.source"] == str(log)
    assert len(told["riskbeat.spec_digest"]) == 64
    assert told["riskbeat.code_version"]
    assert pl.read_parquet(out)["event_time"].is_sorted()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["backfill", "{}/none.csv", "--out", "{}/x.parquet"], "no such file"),
        (["backfill", "{}/none.jsonl", "--out", "{}/x.parquet"], "no such file"),
        (["backfill", "{}/l.jsonl", "--out", "{}/x.csv"], "expected a name that ends in .parquet"),
        (["backfill", "{}/l.jsonl", "--out", "{}/no/x.parquet"], "no such folder"),
        (
            ["backfill", "{}/l.jsonl", "--out", "{}/x.parquet", "--legit-after", "soon"],
            "--legit-after: expected a duration",
        ),
        (["skew", "--decisions", "{}/none.jsonl", "--log", "{}/l.jsonl"], "none.jsonl"),
        (["skew", "--decisions", "{}/l.jsonl", "--log", "{}/l.jsonl"], "l.jsonl:1"),
        (
            ["skew", "--decisions", "{}/l.jsonl", "--log", "{}/l.jsonl", "--plot", "{}/p.gif"],
            "expected a name that ends in .png or .svg",
        ),
    ],
)
def test_a_users_error_is_one_line_and_code_2(
    app: typer.Typer, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "l.jsonl").write_text("{}\n")
    told = [a.format(tmp_path) for a in arguments] + ["--spec", FEATURES]
    told += ["--no-progress"] if arguments[0] == "backfill" else []
    done = CliRunner().invoke(app, told, catch_exceptions=False)
    assert done.exit_code == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def skew_of(app: typer.Typer, past: Past, folder: Path, *more: str) -> tuple[int, str]:
    write_log(folder / "log.parquet", past.log)
    (folder / "decisions.jsonl").write_bytes(b"\n".join(map(encode_record, past.decisions)))
    files = ["--decisions", str(folder / "decisions.jsonl"), "--log", str(folder / "log.parquet")]
    done = CliRunner().invoke(app, ["skew", *files, "--spec", str(folder / "features.yaml"), *more])
    return done.exit_code, done.stdout


@pytest.mark.parametrize("plot", ["plot.png", "plot.svg"])
async def test_skew_is_told_written_and_drawn(app: typer.Typer, tmp_path: Path, plot: str) -> None:
    past = await a_past(tmp_path, 2, 7)
    out = tmp_path / "skew.json"
    code, told = skew_of(app, past, tmp_path, "--out", str(out), "--plot", str(tmp_path / plot))
    assert code == 0
    assert "Every vector is bit for bit" in told
    assert "differ from those of a perfectly fresh store" in told
    document = json.loads(out.read_text())
    assert document["compared"] == len(past.decisions)
    assert document["defective"] == 0
    assert document["stale"] > 0
    assert (tmp_path / plot).stat().st_size > 10_000


async def test_a_vector_that_cannot_be_made_again_ends_with_code_1(
    app: typer.Typer, tmp_path: Path
) -> None:
    past = await a_past(tmp_path, 2, 7)
    x = decode_vector(past.decisions[30].vector)
    x[0] += 1
    past.decisions[30] = msgspec.structs.replace(past.decisions[30], vector=encode_vector(x))
    code, told = skew_of(app, past, tmp_path)
    assert code == 1
    assert "DEFECT: 1 vectors are not" in told
    assert past.decisions[30].decision_id in told.replace("\n", "")

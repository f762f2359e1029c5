"""`riskbeat model`: an absent store and bad input are one readable line; pages say what differs."""

import dataclasses

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from models.registry import Freeze
from models.weights import sha256_of
from models.weights_chain import Held
from riskbeat.commands_model import register
from riskbeat.model_pages import difference_row, freeze_line
from riskbeat.versions import ranges
from tests.builders_weights import some_weights


@pytest.fixture
def app() -> typer.Typer:
    commands = typer.Typer(pretty_exceptions_enable=False)
    register(commands)
    return commands


@pytest.fixture(autouse=True)
def deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RISKBEAT_REDIS_URL", "redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["show"],
        ["diff", "1", "2"],
        ["pin", "1", "--why", "x"],
        ["unpin", "--why", "x"],
        ["rollback", "--why", "x"],
        ["freeze", "--why", "x"],
        ["thaw", "--why", "x"],
    ],
)
def test_without_a_store_there_is_one_line_and_code_2(words: list[str], app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["model", *words])
    assert done.exit_code == 2
    assert done.output.startswith("riskbeat: ")
    assert done.output.count("\n") == 1


@pytest.mark.parametrize("act", ["pin 1", "unpin", "rollback", "freeze", "thaw"])
def test_an_act_asks_why(act: str, app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["model", *act.split()])
    assert done.exit_code == 2
    assert "--why" in done.output


def test_a_difference_names_what_changed_and_by_how_much() -> None:
    weights = some_weights("d" * 64, 4)
    changed = weights.arrays["scaler.mean"].copy()
    changed[1] += np.float32(0.25)
    later = dataclasses.replace(
        weights,
        version=weights.version + 1,
        labels_learned=weights.labels_learned + 3,
        metrics={**weights.metrics, "brier": 0.5},
        arrays={**weights.arrays, "scaler.mean": changed},
    )
    one, other = Held(weights, sha256_of(b"1")), Held(later, sha256_of(b"2"))
    row = difference_row(one, other)
    assert row["labels_learned"] == 3
    assert row["metrics"]["brier"][1] == 0.5
    assert row["shares"] == {}
    assert [(c["name"], c["numbers"], c["largest"]) for c in row["arrays"]] == [
        ("scaler.mean", 1, pytest.approx(0.25))
    ]
    assert difference_row(one, one)["arrays"] == []


def test_who_froze_is_said_in_one_line() -> None:
    ann = freeze_line(Freeze(by="ann", why="a release", at_ms=0, cause="operator"))
    assert ann.startswith("by ann, ")
    assert ann.endswith(": a release")
    checks = freeze_line(Freeze(by="learner", why="norm: 9e9", at_ms=0, cause="checks"))
    assert checks.startswith("by the learner's own checks, ")


@pytest.mark.parametrize(
    ("numbers", "expected"), [([4], "4"), ([1, 2, 3], "1-3"), ([1, 2, 5, 7, 8], "1-2, 5, 7-8")]
)
def test_numbers_are_written_as_people_write_them(numbers: list[int], expected: str) -> None:
    assert ranges(numbers) == expected

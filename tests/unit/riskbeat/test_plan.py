"""A plan is arithmetic on figures that stand in files; none is invented."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from riskbeat.__main__ import app
from riskbeat.plan import Load, plan
from riskbeat.plan_measured import ASSUMED, EVIDENCE, MEASURED, RECORD_BYTES, Assumed, Measured

ROOT = Path(__file__).parents[3]
RETENTION_S = {
    "events.v1": 86_400.0,
    "updates.v1": 43_200.0,
    "decisions.v1": 86_400.0,
    "weights.v1": 86_400.0,
}


def a_load(events_per_s: float = 2_000.0, latency_ms: float | None = None) -> Load:
    return Load(events_per_s, 1_000_000, latency_ms, RETENTION_S, 1.0, 3)


def needs(load: Load) -> dict[str, float | None]:
    return {item.what: item.value for item in plan(load)}


@pytest.mark.parametrize("one", MEASURED, ids=lambda one: one.row)
def test_a_figure_is_what_its_file_says(one: Measured) -> None:
    document = json.loads((ROOT / EVIDENCE / one.file).read_text())
    [row] = [row for row in document["rows"] if row["what"] == one.row]
    assert (row["value"], row["unit"]) == (one.value, one.unit)
    module = one.command.split()[2]
    assert (ROOT / (module.replace(".", "/") + ".py")).exists()


def test_every_item_rests_on_something_that_is_told() -> None:
    told = {*MEASURED, *ASSUMED.values()}
    for item in plan(a_load()):
        assert item.rests_on
        assert set(item.rests_on) <= told
    assert all(guess.why for guess in ASSUMED.values())


def test_what_is_planned_keeps_up_at_the_share_that_is_used() -> None:
    by_row = {one.row: one.value for one in MEASURED}
    used = ASSUMED["share of a process used"].value
    for events_per_s in (1.0, 2_757.0, 2_758.0, 10_000.0):
        found = needs(a_load(events_per_s))
        for what, row in (
            ("featurize: workers", "flat out: featurize, events per CPU-second"),
            ("serve: processes", "flat out: serve, events per CPU-second"),
        ):
            count = found[what]
            assert count is not None
            assert count * by_row[row] * used >= events_per_s
            assert (count - 1) * by_row[row] * used < events_per_s


def test_a_shorter_latency_needs_more_workers_until_none_was_measured() -> None:
    counts = [needs(a_load(4_000.0, ms))["featurize: workers"] for ms in (None, 200, 50)]
    assert counts == sorted(counts, key=float)  # type: ignore[arg-type]
    assert counts[2] == math.ceil(4_000 / 200)
    [workers] = [one for one in plan(a_load(4_000.0, 1.0)) if one.what == "featurize: workers"]
    assert workers.value is None
    assert "no measurement" in workers.note


def test_a_learner_that_cannot_keep_up_is_told() -> None:
    [learner] = [one for one in plan(a_load(1e5)) if one.what.startswith("learn")]
    assert learner.value is not None
    assert learner.value < 1
    assert "does not keep up" in learner.note


def test_disk_and_memory_grow_with_what_they_hold() -> None:
    once, twice = needs(a_load(1_000)), needs(a_load(2_000))
    for name in ("events.v1", "updates.v1", "decisions.v1"):
        less, more = once[f"Kafka: {name}"], twice[f"Kafka: {name}"]
        assert less is not None
        assert more == pytest.approx(2 * less)
    size = RECORD_BYTES["events.v1"].value
    assert once["Kafka: events.v1"] == pytest.approx(1_000 * 86_400 * size * 3 / 2**30)


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["plan", "--events-per-s", "800", "--entities", "5", *words])


def test_the_command_prints_each_figure_with_its_file() -> None:
    told = run()
    assert told.exit_code == 0, told.output
    for one in MEASURED:
        assert f"{EVIDENCE}/{one.file}; {one.command}" in told.output
    assert all(guess.why in told.output for guess in ASSUMED.values())


def test_json_holds_the_same() -> None:
    found = json.loads(run("--json", "--latency-ms", "300").output)
    assert {row["what"] for row in found["plan"]} == {item.what for item in plan(a_load())}
    assert len(found["measured"]) == len(MEASURED)
    assert {name: Assumed(**one) for name, one in found["assumed"].items()} == ASSUMED

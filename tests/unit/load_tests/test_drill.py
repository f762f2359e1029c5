"""Every shipped alert has a drill, and one that stays mute or does not end is told."""

from pathlib import Path

from load_tests.drill.drills import ROUNDS
from load_tests.drill.record import Heard, Record, rows_of, shipped_alerts


def counts(heard: list[Heard], false_alarms: list[str]) -> dict[str, tuple[float | None, str]]:
    rows = rows_of(heard, false_alarms)
    return {row.what: (row.value, row.note) for row in rows if row.what.startswith("alerts")}


def test_every_alert_is_drilled_once() -> None:
    drilled = [alert for drills in ROUNDS for drill in drills for alert in drill.alerts]
    assert sorted(drilled) == sorted(shipped_alerts())


def test_every_drill_looks_at_something() -> None:
    assert all(drill.looks and drill.causes for drills in ROUNDS for drill in drills)


def test_what_is_mute_endless_or_left_out_is_named() -> None:
    heard = [Heard(alert, "a cause", 10.0, 20.0) for alert in sorted(shipped_alerts())]
    heard[0].fired_s = heard[0].silent_s = None
    heard[1].silent_s = None
    heard[2].left_out = "it takes root"
    found = counts(heard, ["RiskbeatDown"])
    assert found["alerts that did not fire"] == (1, heard[0].alert)
    assert found["alerts that stayed"] == (2, f"{heard[0].alert}, {heard[1].alert}")
    assert found["alerts that fired with nothing broken"] == (1, "RiskbeatDown")
    assert found["alerts without a drill"] == (1, heard[2].alert)


def test_a_later_run_adds_to_what_a_file_holds(tmp_path: Path) -> None:
    first = Record.read(tmp_path / "drill.json")
    first.heard["RiskbeatDown"] = Heard("RiskbeatDown", "a cause", 10.0, 20.0, {"up": "0"})
    first.keep()
    second = Record.read(tmp_path / "drill.json")
    second.heard["RiskbeatErrors"] = Heard("RiskbeatErrors", "another", 30.0, 40.0)
    second.keep()
    kept = Record.read(tmp_path / "drill.json")
    assert kept == second
    assert kept.heard["RiskbeatDown"].found == {"up": "0"}

"""Every shipped alert has a drill, and one that stays mute or does not end is told."""

from load_tests.drill.__main__ import Heard, rows_of, shipped_alerts
from load_tests.drill.drills import ROUNDS


def counts(heard: list[Heard], false_alarms: list[str]) -> dict[str, tuple[float | None, str]]:
    rows = rows_of(heard, false_alarms, shipped_alerts())
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

"""What became of each alert, kept in the measurement's file: a later run adds to it."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import yaml

from load_tests.report import COMMIT, Row, write
from tests.live.prometheus import DEPLOYED

NAME = "drill"


@dataclass
class Heard:
    """What became of one alert.

    Attributes:
        fired_s: From the cause until it fired; None if it did not.
        silent_s: From the cure until it was silent; None if it was not.
        found: What its page says to look at → what was seen.
        left_out: Why it could not be drilled.
    """

    alert: str
    causes: str
    fired_s: float | None = None
    silent_s: float | None = None
    found: dict[str, str] = field(default_factory=dict)
    left_out: str = ""
    commit: str = COMMIT
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def good(self) -> bool:
        """Whether it fired and fell silent, or could not be drilled here."""
        return bool(self.left_out) or None not in (self.fired_s, self.silent_s)


@dataclass
class Record:
    """All that is known of the alerts, by earlier runs too.

    Attributes:
        heard: Alert → what became of it.
        false_alarms: Alerts that fired with nothing broken, in any run.
    """

    path: Path
    heard: dict[str, Heard] = field(default_factory=dict)
    false_alarms: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Return what a file holds, which need not be there."""
        if not path.exists():
            return cls(path)
        document = json.loads(path.read_text())
        heard = [Heard(**one) for one in document["alerts"]]
        return cls(path, {one.alert: one for one in heard}, document["false alarms"])

    def keep(self) -> None:
        """Write it down."""
        write(NAME, rows_of(self.heard.values(), self.false_alarms), self.path)
        document = json.loads(self.path.read_text())
        document["alerts"] = [asdict(one) for one in self.heard.values()]
        document["false alarms"] = self.false_alarms
        self.path.write_text(json.dumps(document, indent=1) + "\n")


def shipped_alerts() -> set[str]:
    """Return the names of all alerts."""
    groups = yaml.safe_load((DEPLOYED / "alerts.yml").read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def rows_of(heard: Collection[Heard], false_alarms: Sequence[str]) -> list[Row]:
    """Return the figures."""
    rows = []
    for one in heard:
        note = one.left_out or one.causes
        rows.append(Row(f"{one.alert}: fires after", one.fired_s, "s", None, None, "lower", note))
        rows.append(Row(f"{one.alert}: silent after the cure", one.silent_s, "s", better="lower"))
    held = [one for one in heard if not one.left_out]
    mute = [one.alert for one in held if one.fired_s is None]
    endless = [one.alert for one in held if one.silent_s is None]
    without = sorted(shipped_alerts() - {one.alert for one in held})
    return [
        *rows,
        Row("alerts that did not fire", len(mute), "alerts", 0, 0, "lower", ", ".join(mute)),
        Row("alerts that stayed", len(endless), "alerts", 0, 0, "lower", ", ".join(endless)),
        Row("alerts that fired with nothing broken", len(false_alarms), "alerts", 0, 0, "lower",
            ", ".join(false_alarms)),
        Row("alerts without a drill", len(without), "alerts", 0, 0, "lower", ", ".join(without)),
    ]  # fmt: skip

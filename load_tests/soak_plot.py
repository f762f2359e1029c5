"""looks at a soak → a picture: memory, open files, times and what waits, against minutes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure

MIB = 2**20


class Look(Protocol):
    """See `load_tests.soak.Sample`."""

    @property
    def at_s(self) -> float: ...
    @property
    def rss_bytes(self) -> dict[str, int]: ...
    @property
    def files(self) -> dict[str, int]: ...
    @property
    def lag(self) -> float: ...
    @property
    def p99_s(self) -> float: ...


def draw(looks: Sequence[Look], path: Path) -> None:
    """Draw all against minutes; the file's ending chooses the format."""
    minutes = [one.at_s / 60 for one in looks]
    figure = Figure(figsize=(10, 9), layout="constrained")
    memory, files, times, waits = figure.subplots(4, 1, sharex=True)
    for name in looks[0].rss_bytes:
        memory.plot(minutes, [one.rss_bytes[name] / MIB for one in looks], label=name)
        files.plot(minutes, [one.files[name] for one in looks], label=name)
    times.plot(minutes, [one.p99_s * 1000 for one in looks], color="#2a6f97")
    waits.plot(minutes, [one.lag for one in looks], color="#c1121f")
    labels: list[tuple[Any, str]] = [
        (memory, "resident, MiB"),
        (files, "open files"),
        (times, "p99 of answers, ms"),
        (waits, "records that wait"),
    ]
    for axes, label in labels:
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    memory.legend(ncol=5, fontsize=8, loc="lower right")
    waits.set_xlabel("minutes at half of saturation")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)

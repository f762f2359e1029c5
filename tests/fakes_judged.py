"""Where judged rows wait, and who hears of them, in memory; and builders of judged rows."""

from collections.abc import Sequence

import numpy as np

from pipeline.join import SILENCE
from pipeline.judged import Horizon
from pipeline.judged_columns import Judged

DAY_MS = 86_400_000
DAY_0 = 20_000


class MemoryJudgedStore:
    """Entries in a dictionary; `commit` keeps what was done, `crash` forgets it."""

    def __init__(self) -> None:
        self._committed: tuple[dict[int, bytes], int] = ({}, 0)
        self._entries: dict[int, bytes] = {}
        self._last = 0

    def keep_judged(self, rows: Sequence[bytes]) -> None:
        for body in rows:
            self._last += 1
            self._entries[self._last] = body

    def judged(self, after_seq: int, limit: int) -> list[tuple[int, bytes]]:
        return [(seq, self._entries[seq]) for seq in sorted(self._entries) if seq > after_seq][
            :limit
        ]

    def drop_judged(self, upto_seq: int) -> None:
        for seq in [seq for seq in self._entries if seq <= upto_seq]:
            del self._entries[seq]

    def commit(self) -> None:
        self._committed = (dict(self._entries), self._last)

    def crash(self) -> None:
        self._entries, self._last = dict(self._committed[0]), self._committed[1]


class MemoryJudgeWatch:
    """Remembers the newest figures of each predictor and horizon."""

    def __init__(self) -> None:
        self.figures: dict[tuple[str, Horizon], dict[str, float]] = {}

    def judged(self, predictor: str, horizon: Horizon, figures: dict[str, float]) -> None:
        self.figures[predictor, horizon] = figures


def a_judged(number: int, *, day: int = DAY_0, k: int = 2, fraud: bool | None = None) -> Judged:
    """A row; equal numbers give equal rows."""
    rng = np.random.default_rng(number)
    p = float(rng.random())
    y = int(rng.random() < p) if fraud is None else int(fraud)
    event_ms = day * DAY_MS + int(rng.integers(DAY_MS))
    return Judged(
        key=number - 500,
        name=f"default/card_payment/pay_{number}",
        event_ms=event_ms,
        judged_ms=event_ms + 7 * DAY_MS,
        y=y,
        p=p,
        amount=float(rng.integers(1, 90_000)),
        card=int(rng.integers(1, 50)),
        outcome="approve",
        propensity=1.0,
        weights_version=number // 10 + 1,
        lane_source="chargeback" if y else SILENCE,
        beliefs=rng.normal(size=k).astype("<f4").tobytes(),
    )

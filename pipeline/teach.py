"""settled rows → lanes taught and untaught: each net label reaches the right lanes exactly once."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.ensemble import Ensemble
from models.plan import LANES
from models.taught import Taught
from pipeline.join import SILENCE, JoinRow
from pipeline.step_ports import Influence
from pipeline.truth import importance_of, targets_of

Change = tuple[JoinRow, bool]
"""A row, and the label that a lane is taught or untaught."""


class Lesson(NamedTuple):
    """What a lane was taught, and what it was untaught."""

    taught: list[Change]
    untaught: list[Change]


class Teacher:
    """Compares what each lane was taught of a row with what it should be, and makes it so."""

    def __init__(
        self,
        ensemble: Ensemble,
        influence: Influence | None,
        n_features: int,
        feedback_sources: Collection[str],
    ) -> None:
        """Take the ports."""
        self._ensemble = ensemble
        self._influence = influence
        self._n = n_features
        self._sources = frozenset(feedback_sources)

    def teach(self, rows: Sequence[JoinRow]) -> dict[str, Lesson]:
        """Untaught first, then taught, lane by lane, in the order of the rows.

        Returns:
            What each lane was taught and what it was untaught, by lane.
        """
        targets = [targets_of(row, self._sources) for row in rows]
        done: dict[str, Lesson] = {}
        for lane in LANES:
            wrong: list[Change] = []
            news: list[Change] = []
            for row, target in zip(rows, targets, strict=True):
                known, wanted = row.taught.get(lane), target.get(lane)
                if known == wanted:
                    continue
                if known is not None:
                    wrong.append((row, row.taught.pop(lane)))
                if wanted is not None:
                    news.append((row, wanted))
            if wrong:
                self._ensemble.forget_many(lane, self._told(wrong))
            news = self._admitted(news)
            if news:
                for row, fraud in news:
                    row.taught[lane] = fraud
                self._ensemble.learn_many(lane, self._told(news))
            done[lane] = Lesson(news, wrong)
        return done

    def _admitted(self, news: list[Change]) -> list[Change]:
        """Leave out what would make one source or entity too loud; it may come again later."""
        if self._influence is None or not news:
            return news
        told = self._told(news)
        sources = ["" if row.source == SILENCE else row.source for row, _ in news]
        cards = np.array([row.card for row, _ in news], np.int64)
        admitted = self._influence.admit(sources, cards, told.w)
        return [one for one, taken in zip(news, admitted.tolist(), strict=True) if taken]

    def _told(self, changes: Sequence[Change]) -> Taught:
        rows = [row for row, _ in changes]
        return Taught(
            vectors_of(rows, self._n),
            np.array([fraud for _, fraud in changes], np.uint8),
            np.array([importance_of(row) for row in rows], np.float32),
            ids_of(rows),
            np.array([row.event_ms for row in rows], np.int64),
        )


def vectors_of(rows: Sequence[JoinRow], n_features: int) -> NDArray[np.float32]:
    """Return the vectors of rows that have one, shape (m, n); infinity is taken as missing."""
    body = b"".join(row.x or b"" for row in rows)
    X = np.frombuffer(body, "<f4").reshape(len(rows), n_features)
    return np.where(np.isinf(X), np.float32(np.nan), X)


def ids_of(rows: Sequence[JoinRow]) -> NDArray[np.uint64]:
    """Return the identity hashes of rows."""
    return np.array([row.key for row in rows], np.int64).view(np.uint64)

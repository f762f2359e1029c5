"""labelled rows of one kind of truth → its learners taught alike, weighed by what came true.

A lane holds learners that see the same rows, their shared memory, and the rows that wait for a
full step. Challengers learn beside the members and are never published.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.calibration import IDENTITY, Line, better_line, log_loss
from models.fading import Fader
from models.learner import Learner, Normalise, Part
from models.memory import Memory
from models.taught import Taught

LOSS_HALF_LIFE_ROWS = 20_000
"""Judged rows after which a loss counts half in the weighing of members."""
SHARPNESS = 3.0
"""A member whose log loss is worse by a share r weighs exp(-SHARPNESS · r) of the best. Chosen on
the weeks before the Handbook's test weeks, where networks whose loss was worse by .17 served best
with a share of .4 (ADR 0011)."""
PRIOR_JUDGED = 2_000.0
"""Judged rows by which the weights are pulled towards equal ones."""

Floats = NDArray[np.float64]


class LaneState(msgspec.Struct):
    """The small part of a lane's checkpoint."""

    legits: int
    frauds: int
    losses: list[float]
    judged: float
    a: float
    b: float
    rows_total: int
    frauds_total: int
    waiting: list[bytes]
    shares: dict[str, list[float]]


class Lane:
    """One kind of truth, and those who learn from it."""

    def __init__(
        self,
        name: str,
        members: Mapping[str, Learner],
        challengers: Mapping[str, Learner],
        memory: Memory,
        normalise: Normalise,
        n_features: int,
        step_rows: int,
    ) -> None:
        """Take the parts; `step_rows` is the size of a full step."""
        self.name = name
        self.members = dict(members)
        self.challengers = dict(challengers)
        self._memory = memory
        self._normalise = normalise
        self._n = n_features
        self._step_rows = step_rows
        self._reset()

    def _reset(self) -> None:
        self.line = IDENTITY
        self.legits = self.frauds = 0
        self._losses = np.zeros(len(self.members))
        self._judged = 0.0
        self._waiting = Taught.none(self._n)
        self._faders: dict[str, Fader] = {name: Fader() for name in self.members}

    @property
    def learners(self) -> dict[str, Learner]:
        """All who learn here, members first."""
        return self.members | self.challengers

    @property
    def memory_bytes(self) -> int:
        """Bytes that the memory and the learners take at most."""
        return self._memory.memory_bytes + sum(
            learner.memory_bytes for learner in self.learners.values()
        )

    def learn_many(self, rows: Taught) -> None:
        """Learn whole steps; what is left waits for more rows or for `flush`."""
        self.frauds += int(rows.y.sum())
        self.legits += int(len(rows.y) - rows.y.sum())
        every = self._waiting.beside(rows)
        whole = len(every.y) // self._step_rows * self._step_rows
        for start in range(0, whole, self._step_rows):
            self._learn(every.part(slice(start, start + self._step_rows)))
        self._waiting = every.part(slice(whole, None))

    def flush(self) -> None:
        """Learn what waits: a version holds all that was taught before it."""
        if len(self._waiting.y):
            rows, self._waiting = self._waiting, Taught.none(self._n)
            self._learn(rows)

    def forget_many(self, rows: Taught) -> None:
        """Undo rows: those that still wait were never learned, the others are forgotten."""
        self.frauds -= int(rows.y.sum())
        self.legits -= int(len(rows.y) - rows.y.sum())
        waits = np.isin(rows.ids, self._waiting.ids)
        self._waiting = self._waiting.part(~np.isin(self._waiting.ids, rows.ids))
        learned = rows.part(~waits)
        if len(learned.y):
            self._memory.forget(learned.ids)
            told = learned.normalised(self._normalise)
            for learner in self.learners.values():
                learner.forget_many(told)

    def logit_many(
        self, X: NDArray[np.float32], z: NDArray[np.float32], standing: bool = False
    ) -> Floats:
        """Return the members' log-odds, shape (m, members).

        Args:
            X: Vectors.
            z: The same, normalised.
            standing: Whether trees answer as the last version has them, faded, or as they are now.
        """
        logits = np.zeros((len(X), len(self.members)))
        for column, (name, learner) in enumerate(self.members.items()):
            fader = self._faders[name]
            faded = standing and len(fader.parts) > 1
            logits[:, column] = fader.logit_many(X) if faded else learner.predict_many(X, z)
        return logits

    @property
    def weights(self) -> Floats:
        """Share of each member, by its fading log loss on what came true; they sum to 1."""
        if not len(self._losses):
            return self._losses
        mean = self._losses / max(self._judged, 1e-9)
        best = max(float(mean.min()), 1e-9)
        trust = self._judged / (self._judged + PRIOR_JUDGED)
        weights = np.exp(-SHARPNESS * trust * (mean - best) / best)
        return np.asarray(weights / weights.sum())

    def judge_many(self, beliefs: Floats, y: NDArray[np.uint8], w: Floats) -> None:
        """Weigh members by what they believed, log-odds (m, members), when events were decided."""
        losses = np.stack([log_loss(self.line.of(column), y) for column in beliefs.T])
        kept = 0.5 ** (len(y) / LOSS_HALF_LIFE_ROWS)
        self._losses = self._losses * kept + (losses * w).sum(axis=1)
        self._judged = self._judged * kept + float(w.sum())

    def calibrate(self, beliefs: Floats, y: NDArray[np.uint8], w: Floats) -> None:
        """Fit the lane's line anew on judged rows, oldest first."""
        self.line = better_line(self.line, beliefs @ self.weights, y, w)

    def folded(self, joint: Line) -> Line:
        """Return the lane's line with the joint one folded in: shares sum to 1, so it is exact."""
        return Line(joint.a * self.line.a, joint.a * self.line.b + joint.b)

    def figures(self) -> dict[str, float]:
        """Return what a version's metrics say of the lane."""
        figures = {"frauds": float(self.frauds), "legits": float(self.legits)}
        for name, weight in zip(self.members, self.weights.tolist(), strict=True):
            figures[f"weight_{name}"] = weight
        return {f"{self.name}_{name}": value for name, value in figures.items()}

    def parts(self) -> list[tuple[str, Part, float]]:
        """Return the next version's (member name, part, weight), weights summing to 1."""
        found: list[tuple[str, Part, float]] = []
        for (name, learner), weight in zip(self.members.items(), self.weights, strict=True):
            part = learner.snapshot()
            if part.kind != "trees":
                found.append((name, part, float(weight)))
                continue
            fader = self._faders[name]
            fader.follow(part)
            found += [
                (f"{name}.{one.steady}", one, float(weight) * share)
                for one, share in zip(fader.parts, fader.shares, strict=True)
            ]
        return found

    def state(self) -> LaneState:
        """Return the small part of the checkpoint."""
        return LaneState(
            self.legits,
            self.frauds,
            self._losses.tolist(),
            self._judged,
            *self.line,
            self._memory.rows.total,
            self._memory.frauds.total,
            self._waiting.state(),
            {name: fader.shares for name, fader in self._faders.items() if fader.parts},
        )

    def state_changes(self) -> dict[str, bytes]:
        """Return the large parts that changed since the last call."""
        parts = {f"memory/{name}": body for name, body in self._memory.changed_pages().items()}
        for name, learner in self.learners.items():
            parts |= {f"{name}/{part}": body for part, body in learner.state_changes().items()}
        for name, fader in self._faders.items():
            parts |= {f"fade/{name}/{part}": body for part, body in fader.changed().items()}
        return parts

    def restore(self, state: LaneState | None, parts: Mapping[str, bytes]) -> None:
        """Take a checkpoint back; None: as new."""
        self._reset()
        self._memory.restore(
            below("memory/", parts),
            state.rows_total if state else 0,
            state.frauds_total if state else 0,
        )
        for name, learner in self.learners.items():
            learner.restore(below(f"{name}/", parts) if state else {})
        if state is None:
            return
        self.legits, self.frauds = state.legits, state.frauds
        self._losses = np.array(state.losses)
        self._judged = state.judged
        self.line = Line(state.a, state.b)
        self._waiting = Taught.restored(state.waiting, self._n)
        for name, shares in state.shares.items():
            self._faders[name].restore(below(f"fade/{name}/", parts), shares)

    def _learn(self, rows: Taught) -> None:
        told = rows.normalised(self._normalise)
        for learner in self.learners.values():
            learner.learn_many(told)
        self._memory.append(rows.X, rows.y, rows.w, rows.ids, rows.at_ms)


def below(prefix: str, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the parts whose names begin with a prefix, without it."""
    return {n.removeprefix(prefix): body for n, body in parts.items() if n.startswith(prefix)}


def lane_shares(lanes: Sequence[Lane], frauds_min: int) -> list[float]:
    """Return the lanes' shares: equal among those that learned enough of both kinds.

    Where none has, the one that is furthest answers alone: a lane that has seen one kind of row
    has nothing to say.
    Source: Dal Pozzolo et al., Credit Card Fraud Detection: A Realistic Modeling and a Novel
    Learning Strategy, IEEE TNNLS 2018: feedback and delayed models, averaged half and half.
    """
    known = [min(lane.frauds, lane.legits) if lane.members else -1 for lane in lanes]
    enough = [count >= frauds_min for count in known]
    if not any(enough):
        enough = [index == known.index(max(known)) for index in range(len(lanes))]
    return [one / sum(enough) for one in enough]

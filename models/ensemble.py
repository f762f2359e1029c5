"""decided vectors, labelled rows, judged rows → the next version: all learners, as one.

The ensemble owns what learners share (the normaliser, a memory per lane) and what is none's alone:
the weight of each member, the calibration of each lane, the probe, the quantiles. It is a function
of the calls made to it; nothing in it asks a clock or the order of a hash table.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.calibration import IDENTITY, Line, better_line, sigmoid
from models.lane import Lane, LaneState, below, lane_shares
from models.learner import Context, Learner, Space, Stamp, StateMismatch
from models.memory import Memory
from models.observed import Observed
from models.plan import LANES, Challenger, Member, Plan, PlanMismatch
from models.rehearsal import Ring
from models.scaling import Normaliser
from models.taught import Taught
from models.weights import LaneRef, MemberRef, Weights

JUDGED_ROWS = 40_960
"""Newest judged rows that calibrations are fitted on."""
REFIT_ROWS = 2_048
"""Judged rows after which they are fitted again."""


class _Core(msgspec.Struct):
    """The part of the state that changes at every step."""

    digest: str
    n_features: int
    plan: str
    normaliser: bytes
    lanes: dict[str, LaneState]
    joint: tuple[float, float]
    judged_total: int
    refit_in: int


class Ensemble:
    """All learners of a deployment; `pipeline.learn` feeds it."""

    def __init__(
        self, space: Space, plan: Plan, seed: int, make: Callable[[str, Context], Learner]
    ) -> None:
        """Make every learner of the plan by `models.learners.make`, or another.

        Raises:
            ValueError: No entry point has that name, or a learner refuses an option.
        """
        self._space = space
        self._plan = plan
        self._signature = plan.signature(seed)
        self._normaliser = Normaliser(space.n, [one.column for one in space.categories])
        self._new = self._normaliser.state()
        self._lanes = {name: self._lane(name, seed, make) for name in LANES}
        self.predictors = tuple(
            f"{lane.name}.{name}" for lane in self._lanes.values() for name in lane.members
        ) + tuple(f"challenger.{name}" for name in plan.challengers)
        self._observed = Observed(space, seed, plan.probe_renew_ms)
        self._reset()

    def _lane(self, lane: str, seed: int, make: Callable[[str, Context], Learner]) -> Lane:
        plan, n = self._plan, self._space.n
        memory = Memory(n, plan.keep_rows, plan.keep_frauds)

        shared = partial(Context, self._space, lane, seed, memory, self._normaliser.transform)

        def made(one: Member | Challenger) -> Learner:
            return make(one.learner, shared(one.options))

        return Lane(
            lane,
            {name: made(one) for name, one in plan.lanes.get(lane, {}).items()},
            {
                f"challenger.{k}": made(one)
                for k, one in plan.challengers.items()
                if one.lane == lane
            },
            memory,
            self._normaliser.transform,
            n,
            plan.step_rows,
        )

    def _reset(self) -> None:
        self._judged = Ring("judged", JUDGED_ROWS, len(self.predictors))
        self._joint = IDENTITY
        self._refit_in = REFIT_ROWS

    @property
    def memory_bytes(self) -> int:
        """Bytes that learners, memories and judged rows take at most."""
        return self._judged.memory_bytes + sum(lane.memory_bytes for lane in self._lanes.values())

    def observe_many(self, X: NDArray[np.float32], p: NDArray[np.float64]) -> None:
        """See decided vectors, shape (m, n), and the probabilities they were given (NaN: none)."""
        if len(X):
            self._normaliser.observe(X)
            self._observed.observe_many(X, p)

    def advance(self, clock_ms: int) -> None:
        """Hear the largest event time decided."""
        self._observed.advance(clock_ms)
        for lane in self._lanes.values():
            for learner in lane.learners.values():
                learner.advance(clock_ms)

    def pace(self, factor: float) -> None:
        """Learn faster (factor above 1) or at the usual pace from now on."""
        for lane in self._lanes.values():
            for learner in lane.learners.values():
                learner.pace(factor)

    def predict_each(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what each of `predictors` believes, log-odds, float32, shape (m, k)."""
        z = self._normaliser.transform(X)
        columns = [lane.logit_many(X, z) for lane in self._lanes.values()]
        for name, one in self._plan.challengers.items():
            learner = self._lanes[one.lane].challengers[f"challenger.{name}"]
            columns.append(learner.predict_many(X, z)[:, None].astype(np.float64))
        return np.concatenate(columns, axis=1).astype(np.float32)

    def predict_many(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return fraud probabilities, shape (m,), as a version of this moment would."""
        return sigmoid(self._logit_many(X))

    def mix_many(self, beliefs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return `predict_many` by what `predict_each` gave, where no forest is fading."""
        return sigmoid(self._mixed([beliefs[:, one].astype(float) for _, one in self._columns()]))

    def learn_many(self, lane: str, rows: Taught) -> None:
        """Teach a lane labelled rows, in this order."""
        self._lanes[lane].learn_many(rows)

    def forget_many(self, lane: str, rows: Taught) -> None:
        """Undo rows that a lane was taught, with the labels of then."""
        self._lanes[lane].forget_many(rows)

    def flush(self) -> None:
        """Learn what waits for a full step; done where a version is cut, and nowhere else."""
        for lane in self._lanes.values():
            lane.flush()

    def judge_many(
        self,
        beliefs: NDArray[np.float32],
        y: NDArray[np.uint8],
        w: NDArray[np.float32],
        ids: NDArray[np.uint64],
        at_ms: NDArray[np.int64],
    ) -> None:
        """Hold what was believed when events were decided against what they turned out to be.

        Moves weights, and calibrates each `REFIT_ROWS` rows. A row judged again replaces its first.

        Args:
            beliefs: Of `predictors`, as `predict_each` gave them; shape (m, k).
            y: What happened, uint8, shape (m,).
            w: Importance, float32, shape (m,).
            ids: Identity hashes; with `at_ms`, event times, as in `models.learner.Rows`.
            at_ms: See there.
        """
        if not len(y):
            return
        for lane, columns in self._columns():
            lane.judge_many(beliefs[:, columns].astype(np.float64), y, w.astype(np.float64))
        self._judged.forget(ids)
        self._judged.append(beliefs, y, ids, w, at_ms)
        self._refit_in -= len(y)
        if self._refit_in <= 0:
            self._refit_in = REFIT_ROWS
            self._calibrate()

    def snapshot(self, stamp: Stamp) -> Weights:
        """Freeze the next version: learns what waits, and moves fading forests by one version."""
        self.flush()
        shares = self._shares()
        arrays: dict[str, NDArray[np.float32] | NDArray[np.int32]] = {
            "scaler.mean": self._normaliser.mean,
            "scaler.scale": self._normaliser.scale,
            "quantiles": self._observed.quantiles(),
            "probe.x": self._observed.probe.copy(),
        }
        lanes, members = [], []
        for lane, _ in self._columns():
            name, line = lane.name, lane.folded(self._joint)
            lanes.append(LaneRef(name=name, weight=shares[name], a=line.a, b=line.b))
            for member, part, w in lane.parts():
                ref = MemberRef(lane=name, name=member, kind=part.kind, weight=w, beta=part.beta)
                members.append(ref)
                arrays |= {f"{name}.{member}.{n}": array for n, array in part.arrays.items()}
        arrays["probe.logit"] = self._logit_many(self._observed.probe).astype(np.float32)
        return Weights(
            model=self._plan.model,
            version=stamp.version,
            schema_digest=self._space.digest,
            parent_sha256=stamp.parent_sha256,
            offsets=stamp.offsets,
            learned_until_ms=stamp.learned_until_ms,
            labels_learned=stamp.labels_learned,
            created_at_ms=stamp.created_at_ms,
            metrics=stamp.metrics,
            code_version=stamp.code_version,
            lanes=tuple(lanes),
            members=tuple(members),
            arrays=arrays,
        )

    def figures(self) -> dict[str, float]:
        """Return what a version's metrics say of its lanes."""
        return {k: v for lane, _ in self._columns() for k, v in lane.figures().items()}

    def state_changes(self) -> dict[str, bytes]:
        """Return the named parts of the state that changed since the last call."""
        core = _Core(
            self._space.digest,
            self._space.n,
            self._signature,
            self._normaliser.state(),
            {name: lane.state() for name, lane in self._lanes.items()},
            self._joint,
            self._judged.total,
            self._refit_in,
        )
        parts = {"core": msgspec.msgpack.encode(core)} | self._judged.changed_pages()
        parts |= {f"seen/{name}": body for name, body in self._observed.state_changes().items()}
        for name, lane in self._lanes.items():
            parts |= {f"{name}/{part}": body for part, body in lane.state_changes().items()}
        return parts

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Become the ensemble whose parts these are; no parts: a new one.

        Raises:
            PlanMismatch: Other learners made them, or with other options.
            StateMismatch: They were made for other vectors.
        """
        self._reset()
        self._observed.restore(below("seen/", parts))
        if "core" not in parts:
            self._normaliser.restore(self._new)
            for lane in self._lanes.values():
                lane.restore(None, {})
            return
        core = msgspec.msgpack.decode(parts["core"], type=_Core)
        theirs, ours = (core.n_features, core.digest), (self._space.n, self._space.digest)
        if theirs != ours:
            told = f"spec {theirs[1][:12]}…, in use is {ours[1][:12]}…"
            raise StateMismatch(f"the checkpoint learned {told}")
        if core.plan != self._signature:
            raise PlanMismatch(f"the checkpoint was made by {core.plan}, not {self._signature}")
        self._normaliser.restore(core.normaliser)
        self._judged.restore(parts, core.judged_total)
        self._joint = Line(*core.joint)
        self._refit_in = core.refit_in
        for name, lane in self._lanes.items():
            lane.restore(core.lanes[name], below(f"{name}/", parts))

    def _columns(self) -> list[tuple[Lane, slice]]:
        """Return the lanes with members, and where theirs stand among the predictors."""
        found, first = [], 0
        for lane in self._lanes.values():
            if lane.members:
                found.append((lane, slice(first, first + len(lane.members))))
            first += len(lane.members)
        return found

    def _shares(self) -> dict[str, float]:
        shares = lane_shares(list(self._lanes.values()), self._plan.lane_frauds_min)
        return dict(zip(self._lanes, shares, strict=True))

    def _logit_many(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        z = self._normaliser.transform(X)
        return self._mixed([lane.logit_many(X, z, standing=True) for lane, _ in self._columns()])

    def _mixed(self, logits: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Mix the lanes' members, log-odds (m, members) each."""
        shares = self._shares()
        return sum(  # type: ignore[return-value]
            shares[lane.name] * lane.folded(self._joint).of(logit @ lane.weights)
            for (lane, _), logit in zip(self._columns(), logits, strict=True)
        )

    def _calibrate(self) -> None:
        """Fit each lane's line, then one over their mixture: the mean of two is too timid."""
        rows = self._judged.held(self._judged.slots(0, self._judged.total))
        rows = rows[rows["live"] == 1]
        beliefs, y, w = rows["x"].astype(np.float64), rows["y"], rows["w"].astype(np.float64)
        shares = self._shares()
        mixed = np.zeros(len(y))
        for lane, columns in self._columns():
            lane.calibrate(beliefs[:, columns], y, w)
            mixed += shares[lane.name] * lane.line.of(beliefs[:, columns] @ lane.weights)
        self._joint = better_line(self._joint, mixed, y, w)

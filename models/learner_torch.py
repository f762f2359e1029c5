"""(Vector, label) → a changed network, on torch: a linear part and two hidden layers, by Adam.

Each new row is learned together with a few rehearsed ones: uniform over the newest learned rows,
and a share from a ring of frauds, weighted so that the expected loss is the uniform one. Negatives
are thinned to the share β by a hash of (seed, identity), and scoring adds ln β.
Every draw comes from a counter-based generator keyed by (seed, step).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from models.learner import Stamp, StateMismatch
from models.member_torch import Member, Recipe, scaled
from models.rehearsal import Ring
from models.scaling import Scaling
from models.weights import QUANTILES, Weights

PROBE_ROWS = 64
KEEP_SCORES = 20_000
MODEL = "champion"


class _Core(msgspec.Struct):
    """The part of the state that changes at every step."""

    n_features: int
    spec_digest: str
    recipe: str
    steps: int
    flat: list[bytes]
    first: list[bytes]
    second: list[bytes]
    scaling: list[bytes]
    rows_total: int
    frauds_total: int
    scores: bytes
    scores_total: int
    probe: bytes


class TorchLearner:
    """`learner.Learner` on one CPU core."""

    def __init__(
        self,
        n_features: int,
        spec_digest: str,
        recipe: Recipe,
        model: str = MODEL,
        left_out: Sequence[int] = (),
    ) -> None:
        """Make a learner that has seen nothing and believes the prior rate.

        `left_out` are columns that are no quantities: categories, until there are embeddings.
        """
        torch.set_num_threads(1)
        self._n = n_features
        self._digest = spec_digest
        self._recipe = recipe
        self._model = model
        self._left_out = tuple(left_out)
        self._reset()

    def _reset(self) -> None:
        recipe = self._recipe
        self._members = [Member(self._n, recipe, i) for i in range(recipe.members)]
        self._scaling = Scaling(self._n, self._left_out)
        self._rows = Ring("rows", recipe.keep_rows, self._n)
        self._frauds = Ring("frauds", recipe.keep_frauds, self._n)
        self._scores = np.zeros(KEEP_SCORES, np.float32)
        self._scores_total = 0
        draws = np.random.Generator(np.random.Philox(key=[recipe.seed, 0]))
        self._probe = draws.lognormal(0.0, 1.0, (PROBE_ROWS, self._n)).astype(np.float32)
        self._steps = 0
        self._kept_back: list[_Rows] = []

    def observe_many(self, X: NDArray[np.float32], p: NDArray[np.float64]) -> None:
        """Merge vectors into the scaling and their scores into the quantiles; see the port."""
        if not len(X):
            return
        self._scaling.observe(X)
        for start in range(0, len(X), PROBE_ROWS):
            part = X[start : start + PROBE_ROWS]
            self._probe = np.concatenate([self._probe[len(part) :], part])
        scored = p[~np.isnan(p)][-KEEP_SCORES:]
        places = np.arange(self._scores_total, self._scores_total + len(scored)) % KEEP_SCORES
        self._scores[places] = scored
        self._scores_total += len(scored)

    def learn_many(
        self, X: NDArray[np.float32], y: NDArray[np.uint8], ids: NDArray[np.uint64]
    ) -> None:
        """Thin the negatives, then learn in mini-batches of `new_rows`; see the port."""
        kept = (y == 1) | self._survives(ids)
        if kept.any():
            self._kept_back.append(_Rows(X[kept].astype(np.float32), y[kept], ids[kept]))
        size = self._recipe.new_rows
        if sum(len(rows.y) for rows in self._kept_back) < size:
            return
        rows = self._take_kept_back()
        whole = len(rows.y) // size * size
        for start in range(0, whole, size):
            self._step(rows.part(start, start + size))
        if whole < len(rows.y):
            self._kept_back = [rows.part(whole, len(rows.y))]

    def forget_many(self, ids: NDArray[np.uint64]) -> None:
        """Stop rehearsing these rows; see the port."""
        self.flush()
        self._rows.forget(ids)
        self._frauds.forget(ids)

    def flush(self) -> None:
        """Learn what was kept back for a full mini-batch."""
        if self._kept_back:
            self._step(self._take_kept_back())

    def predict_many(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return fraud probabilities; see the port."""
        logit = self._logit_many(X).astype(np.float64)
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))

    def snapshot(self, stamp: Stamp) -> Weights:
        """Return what is known now; see the port."""
        mean, scale = self._scales()
        arrays = {
            "scaler.mean": mean.numpy().copy(),
            "scaler.scale": scale.numpy().copy(),
            "calibration": np.array([1.0, 0.0], np.float32),
            "quantiles": self._quantiles(),
            "probe.x": self._probe.copy(),
            "probe.logit": self._logit_many(self._probe),
        }
        for index, member in enumerate(self._members):
            arrays |= {f"m{index}.{name}": array for name, array in member.arrays().items()}
        return Weights(
            model=self._model,
            version=stamp.version,
            schema_digest=self._digest,
            parent_sha256=stamp.parent_sha256,
            beta=self._recipe.beta,
            offsets=stamp.offsets,
            learned_until_ms=stamp.learned_until_ms,
            labels_learned=stamp.labels_learned,
            created_at_ms=stamp.created_at_ms,
            metrics=stamp.metrics,
            code_version=stamp.code_version,
            arrays=arrays,
        )

    def state_changes(self) -> dict[str, bytes]:
        """Return the core and the rings' changed pages; see the port."""
        assert not self._kept_back, "flush before a checkpoint"
        core = _Core(
            n_features=self._n,
            spec_digest=self._digest,
            recipe=repr(self._recipe),
            steps=self._steps,
            flat=[member.flat.detach().numpy().tobytes() for member in self._members],
            first=[member.first.numpy().tobytes() for member in self._members],
            second=[member.second.numpy().tobytes() for member in self._members],
            scaling=[
                part.tobytes()
                for part in (self._scaling.count, self._scaling.mean, self._scaling.spread)
            ],
            rows_total=self._rows.total,
            frauds_total=self._frauds.total,
            scores=self._scores.tobytes(),
            scores_total=self._scores_total,
            probe=self._probe.tobytes(),
        )
        pages = self._rows.changed_pages() | self._frauds.changed_pages()
        return {"core": msgspec.msgpack.encode(core)} | pages

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Become the learner whose parts these are; see the port."""
        self._reset()
        if "core" not in parts:
            return
        core = msgspec.msgpack.decode(parts["core"], type=_Core)
        if (core.n_features, core.spec_digest) != (self._n, self._digest):
            raise StateMismatch(
                f"the checkpoint learned spec {core.spec_digest[:12]}… with {core.n_features} "
                f"features; in use is {self._digest[:12]}… with {self._n}"
            )
        if core.recipe != repr(self._recipe):
            raise StateMismatch(f"the checkpoint was made by {core.recipe}, not {self._recipe!r}")
        for member, flat, first, second in zip(
            self._members, core.flat, core.first, core.second, strict=True
        ):
            member.restore(flat, first, second, core.steps)
        count, mean, spread = (np.frombuffer(part).copy() for part in core.scaling)
        self._scaling.count, self._scaling.mean, self._scaling.spread = count, mean, spread
        self._rows.restore(parts, core.rows_total)
        self._frauds.restore(parts, core.frauds_total)
        self._scores = np.frombuffer(core.scores, np.float32).copy()
        self._scores_total = core.scores_total
        self._probe = np.frombuffer(core.probe, np.float32).reshape(PROBE_ROWS, self._n).copy()
        self._steps = core.steps

    def _survives(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether a legit row is learned: a hash of (seed, identity), so a replay agrees."""
        limit = int(self._recipe.beta * 2**64)
        seed = self._recipe.seed
        hashes = (xxhash.xxh3_64_intdigest(int(i).to_bytes(8, "little"), seed) for i in ids)
        return np.fromiter((value < limit for value in hashes), np.bool_, len(ids))

    def _take_kept_back(self) -> "_Rows":
        rows = _Rows.joined(self._kept_back)
        self._kept_back = []
        return rows

    def _step(self, new: "_Rows") -> None:
        """One optimizer step on new rows and rehearsed ones, then remember the new ones."""
        self._steps += 1
        draws = np.random.Generator(np.random.Philox(key=[self._recipe.seed, self._steps]))
        X, y, w = self._rehearse(len(new.y), draws)
        X = np.concatenate([new.X, X])
        y = np.concatenate([new.y.astype(np.float32), y])
        w = np.concatenate([np.ones(len(new.y), np.float32), w])
        mean, scale = self._scales()
        z = scaled(torch.from_numpy(X), mean, scale)
        for member in self._members:
            member.learn(z, torch.from_numpy(y), torch.from_numpy(w))
        self._rows.append(new.X, new.y, new.ids)
        fraud = new.y == 1
        self._frauds.append(new.X[fraud], new.y[fraud], new.ids[fraud])

    def _rehearse(
        self, new: int, draws: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Draw old rows; with weights that undo the larger share of frauds among them."""
        recipe = self._recipe
        wanted = max(new * recipe.rehearsed_per_row, recipe.rehearsed_min)
        size, frauds = self._rows.size, self._frauds.size
        if not size or not wanted:
            empty = np.zeros(0, np.float32)
            return np.zeros((0, self._n), np.float32), empty, empty
        wanted = min(wanted, size)
        extra = int(wanted * recipe.fraud_share) if frauds else 0
        uniform = self._rows.take(draws.integers(0, size, wanted - extra))
        stratum = self._frauds.take(draws.integers(0, max(frauds, 1), extra))
        X = np.concatenate([uniform[0], stratum[0]])
        y = np.concatenate([uniform[1], stratum[1]]).astype(np.float32)
        live = np.concatenate([uniform[2], stratum[2]]).astype(np.float32)
        rate = self._rows.fraud_rate
        share = extra / wanted
        fraud_weight = rate / (rate * (1.0 - share) + share) if rate else 1.0
        weights = np.where(y > 0, fraud_weight, 1.0 / (1.0 - share))
        return X, y, (weights * live).astype(np.float32)

    def _scales(self) -> tuple[torch.Tensor, torch.Tensor]:
        mean = torch.from_numpy(self._scaling.mean.astype(np.float32))
        return mean, torch.from_numpy(self._scaling.scale.astype(np.float32))

    def _quantiles(self) -> NDArray[np.float32]:
        held = min(self._scores_total, KEEP_SCORES)
        if not held:
            return np.linspace(0.0, 1.0, QUANTILES, dtype=np.float32)
        steps = np.linspace(0.0, 1.0, QUANTILES)
        return np.quantile(self._scores[:held], steps, method="lower").astype(np.float32)

    def _logit_many(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        mean, scale = self._scales()
        with torch.inference_mode():
            z = scaled(torch.from_numpy(np.ascontiguousarray(X, np.float32)), mean, scale)
            total = torch.zeros(len(X))
            for member in self._members:
                total = total + member.logit(z)
            logit = total / len(self._members) + math.log(self._recipe.beta)
        return np.asarray(logit.numpy().copy())


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    X: NDArray[np.float32]
    y: NDArray[np.uint8]
    ids: NDArray[np.uint64]

    @staticmethod
    def joined(parts: "list[_Rows]") -> "_Rows":
        return _Rows(
            np.concatenate([part.X for part in parts]),
            np.concatenate([part.y for part in parts]),
            np.concatenate([part.ids for part in parts]),
        )

    def part(self, start: int, stop: int) -> "_Rows":
        return _Rows(self.X[start:stop], self.y[start:stop], self.ids[start:stop])

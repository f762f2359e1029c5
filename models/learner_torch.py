"""labelled rows → a changed stack of networks, on torch: a wide linear part, two hidden layers.

Each new row is learned together with a few rows of the lane's memory: uniform over those it holds,
and a share from its frauds, weighted so that the expected loss is the uniform one. Legit rows are
thinned to the share β by a hash of (seed, identity), and scoring adds ln β. Every draw comes from
a counter-based generator keyed by (seed, step). No row is kept here.
"""

import math
from collections.abc import Mapping

import msgspec
import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from models.learner import Context, Part, Rows, StateMismatch
from models.member_torch import Stack
from models.options import read_options
from models.recipe import Recipe
from models.tables import Table, look_up
from models.thinning import survives

RATE_STEPS = 64
"""Steps for which the memory's fraud rate is taken as unchanged: to count it reads every row."""
PACE_MAX = 10.0
FORGET_STEPS_MAX = 8

FLOATS = NDArray[np.float32]


class _Core(msgspec.Struct):
    """The part of the state that changes at every step."""

    made_by: str
    steps: int
    networks: list[bytes]
    fraud_rate: float
    pace: float


class NetworkLearner:
    """`learner.Learner` on one CPU core: the entry point `network`; options are `Recipe`'s."""

    def __init__(self, context: Context) -> None:
        """Make a learner that has seen nothing and believes the prior rate.

        Raises:
            ValueError: An option is unknown or out of its limits.
        """
        torch.set_num_threads(1)
        self._recipe = read_options("network", Recipe, context.options)
        self._context = context
        self._seed = xxhash.xxh3_64_intdigest(context.lane.encode(), context.seed & (2**64 - 1))
        self._reset()

    def _reset(self) -> None:
        space, recipe = self._context.space, self._recipe
        self._tables = [Table(category, recipe.embedding_size) for category in space.categories]
        embedded = len(self._tables) * recipe.embedding_size
        self._stack = Stack(space.n, embedded, recipe, self._seed)
        self._fraud_rate = 0.0
        self._pace = 1.0

    def learn_many(self, rows: Rows) -> None:
        """Thin the legit rows, then learn in steps of at most `batch_rows`; see the port."""
        if self._recipe.beta < 1.0:
            rows = rows.part((rows.y == 1) | survives(rows.ids, self._recipe.beta, self._seed))
        size = self._recipe.batch_rows
        for start in range(0, len(rows), size):
            self._step(rows.part(slice(start, start + size)) if len(rows) > size else rows)

    def forget_many(self, rows: Rows) -> None:
        """Take steps away from these rows, beside rehearsed ones that hold the rest in place.

        As many as pulled towards them: the one that learned them, and those expected since then
        from rehearsing, at most `FORGET_STEPS_MAX`. What they bent in other rows' steps stays;
        later steps wear it off, since the memory holds the rows no longer. Averages are moved as
        far as they had taken the rows in.
        """
        size, memory = self._recipe.batch_rows, self._context.memory.rows
        ages = memory.ages(rows.ids).astype(np.float64)
        ages[ages < 0] = memory.size  # left the memory: rehearsed as often as ever a row is
        pulls = 1.0 + self._recipe.rehearsed_per_row * ages / max(memory.size, 1)
        for start in range(0, len(rows), size):
            part = rows.part(slice(start, start + size))
            mine = pulls[start : start + size]
            steps = min(math.ceil(mine.max()), FORGET_STEPS_MAX)
            away = part.weighted((-part.w * mine / steps).astype(np.float32))
            before = self._stack.flat.clone()
            for _ in range(steps):
                self._step(away)
            self._stack.follow(before, float(ages[start : start + size].mean()) / size)

    def advance(self, clock_ms: int) -> None:
        """Do nothing: no work of this learner waits for a time; see the port."""

    def pace(self, factor: float) -> None:
        """Multiply the learning rate from now on, by at most `PACE_MAX`; see the port.

        Averages reach back so many times less, so that what is published follows as fast.
        """
        self._pace = min(max(factor, 1.0 / PACE_MAX), PACE_MAX)

    def predict_many(self, X: FLOATS, z: FLOATS) -> FLOATS:
        """Return log-odds; see the port."""
        if not len(z):
            return np.zeros(0, np.float32)
        x = np.concatenate([z.T, *(t.values[t.indices(X)].T for t in self._tables)])
        logit = self._stack.logit(torch.from_numpy(x)) + math.log(self._recipe.beta)
        return np.asarray(logit.numpy())

    def snapshot(self) -> Part:
        """Return the published parameters, and which rows of the tables changed; see the port."""
        arrays = self._stack.arrays()
        changed = {}
        for table in self._tables:
            arrays[table.name] = table.values.copy()
            rows = table.take_changed()
            if rows is not None:
                changed[table.name] = rows
        return Part("network", arrays, self._recipe.beta, changed)

    def state_changes(self) -> dict[str, bytes]:
        """Return the networks, and the changed pages of the tables; see the port."""
        core = _Core(
            made_by=self._made_by(),
            steps=self._stack.steps,
            networks=self._stack.state(),
            fraud_rate=self._fraud_rate,
            pace=self._pace,
        )
        found = {"core": msgspec.msgpack.encode(core)}
        for table in self._tables:
            found |= table.changed_pages()
        return found

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Become the learner whose parts these are; see the port."""
        core = None
        if "core" in parts:
            core = msgspec.msgpack.decode(parts["core"], type=_Core)
            if core.made_by != self._made_by():
                raise StateMismatch(
                    f"the checkpoint was made by {core.made_by}; this is {self._made_by()}"
                )
        self._reset()
        if core is not None:
            self._stack.restore(core.networks, core.steps)
            self._fraud_rate, self._pace = core.fraud_rate, core.pace
            for table in self._tables:
                table.restore(parts)

    @property
    def memory_bytes(self) -> int:
        """Bytes of networks and tables; constant."""
        return self._stack.memory_bytes + sum(table.memory_bytes for table in self._tables)

    def _made_by(self) -> str:
        """Return what must be equal for a state to fit, in words for an error."""
        context, space = self._context, self._context.space
        categories = [(category.column, category.size) for category in space.categories]
        return (
            f"network of lane {context.lane}, seed {context.seed}, spec {space.digest}, "
            f"{space.n} features, categories {categories}, {self._recipe!r}"
        )

    def _step(self, new: Rows) -> None:
        """Take one optimizer step on new rows and rehearsed ones."""
        X, z, y, w = new.X, new.z, new.y, new.w
        old = self._rehearsed(len(new))
        if old is not None:
            held, weights = old
            z = np.concatenate([z, self._context.normalise(held["x"])])
            y, w = np.concatenate([y, held["y"]]), np.concatenate([w, weights])
            X = np.concatenate([X, held["x"]]) if self._tables else X
        looked_up = look_up(self._tables, X)
        embedded = (t.values[rows].T for t, rows in zip(self._tables, looked_up, strict=True))
        slope = self._stack.learn(
            torch.from_numpy(np.concatenate([z.T, *embedded])),
            torch.from_numpy(y.astype(np.float32)),
            torch.from_numpy(w / np.float32(len(y))),
            self._recipe.learning_rate,
            self._pace,
        )
        width, rate = self._recipe.embedding_size, self._recipe.embedding_rate * self._pace
        for index, (table, rows) in enumerate(zip(self._tables, looked_up, strict=True)):
            part = slope[index * width : (index + 1) * width]
            table.learn(rows, part.numpy().T, rate)

    def _rehearsed(self, new: int) -> tuple[NDArray[np.void], FLOATS] | None:
        """Draw old rows, with weights that undo the larger share of frauds among them."""
        recipe, memory = self._recipe, self._context.memory
        size, frauds = memory.rows.size, memory.frauds.size
        wanted = min(max(new * recipe.rehearsed_per_row, recipe.rehearsed_min), size)
        if not recipe.rehearsed_per_row or not wanted:
            return None
        draws = np.random.Generator(np.random.Philox(key=[self._seed, self._stack.steps]))
        if self._stack.steps % RATE_STEPS == 0 or (frauds and not self._fraud_rate):
            self._fraud_rate = memory.rows.fraud_rate
        extra = int(wanted * recipe.fraud_share) if frauds else 0
        held = memory.rows.held(draws.integers(0, size, wanted - extra))
        if extra:
            held = np.concatenate([held, memory.frauds.held(draws.integers(0, frauds, extra))])
        share, rate = extra / wanted, self._fraud_rate
        of_fraud = rate / (rate * (1.0 - share) + share) if rate else 1.0
        of_legit = recipe.beta / (1.0 - share)
        weights = np.where(held["y"] > 0, of_fraud, of_legit) * held["w"] * held["live"]
        return held, weights.astype(np.float32)

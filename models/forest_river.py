"""labelled rows → growing Hoeffding trees, and now and then their arrays: trees of River.

What is believed is the latest export, not the tree as it stands: an export costs time and a version
jumps with it, so it is made after `refresh_rows` learned rows, or `refresh_s` of event time.
A missing feature (NaN) is left out of the row that River sees.

State: River's objects as they were at a base, and a journal of what was learned since. Writing a
forest takes up to a second, writing new rows does not; learning again what the journal holds ends
in the same bits, since River draws from a generator that is part of the state.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from river.forest import ARFClassifier
from river.tree import HoeffdingTreeClassifier

from models.arrays import decode_arrays, encode_arrays
from models.learner import PRIOR_RATE, Context, Part, Rows, StateMismatch
from models.state_river import decode_state, encode_state
from models.thinning import survives
from models.tree_options import TreeOptions
from models.trees import constant, logits_many
from models.trees_river import forest_arrays, leaf_of, tree_arrays

JOURNAL_ROWS = 4_096
"""Rows learned again at a restart, at most."""
JOURNAL_PAGES = 64
BAGGING_RATE = 6.0
"""Mean weight of a row in a tree of the forest. Source: Gomes et al. 2017, River's default."""
RATE_MAX = 500.0
"""Largest rate of the Poisson draw of a weighted row; River's generator underflows at 745."""
LEAF_FLOOR = 1e-6
"""Weight that a class keeps in a leaf whose rows were all withdrawn."""
OBSERVER_BYTES = 3_500
"""Of one feature in one leaf: an observer, and two Gaussians; an allowance."""
NODE_BYTES = 2_500
"""Of a leaf or branch without its observers."""
PACE_MAX = 10.0

Model = HoeffdingTreeClassifier | ARFClassifier


class _Entry(msgspec.Struct, array_like=True):
    """What was done to the model: `learn`, `forget` or `pace`."""

    what: str
    X: bytes = b""
    y: bytes = b""
    w: bytes = b""
    factor: float = 1.0


class _Core(msgspec.Struct):
    made_by: str
    refreshes: int
    refreshed_at_ms: int
    rows_since: int
    pages: int
    rows_in_pages: int
    clock_ms: int
    pace: float


class RiverTrees:
    """`learner.Learner` of one Hoeffding tree or an adaptive random forest."""

    def __init__(
        self,
        name: str,
        context: Context,
        options: TreeOptions,
        make: Callable[[], Model],
    ) -> None:
        """Make a learner that has seen nothing; `make` makes its model without a row."""
        self._name = name
        self._context = context
        self._options = options
        self._make = make
        self._prior = math.log(PRIOR_RATE / (1.0 - PRIOR_RATE))
        self._reset()

    def _reset(self) -> None:
        self.model = self._make()
        self._arrays = constant(self._prior - math.log(self._options.beta))
        self._refreshes = 0
        self._refreshed_at_ms = 0
        self._clock_ms = 0
        self._rows_since = 0
        self._pace = 1.0
        self._new: list[_Entry] = []
        self._new_rows = 0
        self._pages = 0
        self._rows_in_pages = 0
        self._base_written = False
        self._export_written = False

    def learn_many(self, rows: Rows) -> None:
        """Thin the legit rows, then learn one by one; see the port."""
        kept = (rows.y == 1) | survives(rows.ids, self._options.beta, self._context.seed)
        if kept.any():
            self._do(_entry("learn", rows.part(kept)))
            self._rows_since += int(kept.sum())
        if self._rows_since * self._pace >= self._options.refresh_rows:
            self._refresh()

    def forget_many(self, rows: Rows) -> None:
        """Take the rows' weight out of the leaves where they fall today.

        A forest drew a random weight for each tree, so its mean is taken back. Splits that the
        rows helped to choose stay until the tree is replaced.
        """
        kept = (rows.y == 1) | survives(rows.ids, self._options.beta, self._context.seed)
        if kept.any():
            self._do(_entry("forget", rows.part(kept)))
            self._rows_since += int(kept.sum())

    def advance(self, clock_ms: int) -> None:
        """Export when `refresh_s` of event time have passed since the last export; see the port."""
        self._clock_ms = max(self._clock_ms, clock_ms)
        waited_ms = (self._clock_ms - self._refreshed_at_ms) * self._pace
        if self._rows_since and waited_ms >= 1000.0 * self._options.refresh_s:
            self._refresh()

    def pace(self, factor: float) -> None:
        """Export and try to split so much sooner (at most `PACE_MAX`); see the port."""
        factor = min(max(factor, 1.0 / PACE_MAX), PACE_MAX)
        if factor != self._pace:
            self._do(_Entry("pace", factor=factor))

    def predict_many(self, X: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-odds of the latest export; see the port."""
        logit = logits_many(self._arrays, X) + math.log(self._options.beta)
        return np.asarray(logit.astype(np.float32))

    def snapshot(self) -> Part:
        """Return the latest export; see the port."""
        return Part("trees", self._arrays, self._options.beta, steady=self._refreshes)

    def state_changes(self) -> dict[str, bytes]:
        """Return the journal's new page, or a new base when the journal is full; see the port."""
        found: dict[str, bytes] = {}
        rows = self._new_rows
        full = self._rows_in_pages + rows > JOURNAL_ROWS or self._pages == JOURNAL_PAGES
        if not self._base_written or (self._new and full):
            found["model"] = encode_state(self.model)
            found |= {f"journal/{page}": b"" for page in range(self._pages)}
            self._pages = self._rows_in_pages = 0
            self._base_written = True
        elif self._new:
            found[f"journal/{self._pages}"] = msgspec.msgpack.encode(self._new)
            self._pages += 1
            self._rows_in_pages += rows
        self._new, self._new_rows = [], 0
        if not self._export_written:
            found["export"] = encode_arrays(self._arrays)
            self._export_written = True
        return found | {"core": msgspec.msgpack.encode(self._core())}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take the base and learn the journal again; see the port."""
        self._reset()
        if "core" not in parts:
            return
        core = msgspec.msgpack.decode(parts["core"], type=_Core)
        if core.made_by != self._made_by():
            raise StateMismatch(f"made by {core.made_by}, not by {self._made_by()}")
        self.model = decode_state(parts["model"], type(self.model))
        for page in range(core.pages):
            for entry in msgspec.msgpack.decode(parts[f"journal/{page}"], type=list[_Entry]):
                self._do(entry)
        self._new, self._new_rows = [], 0
        self._arrays = decode_arrays(parts["export"])
        self._refreshes, self._refreshed_at_ms = core.refreshes, core.refreshed_at_ms
        self._rows_since, self._clock_ms = core.rows_since, core.clock_ms
        self._pages, self._rows_in_pages = core.pages, core.rows_in_pages
        self._pace = core.pace
        self._base_written = self._export_written = True

    @property
    def memory_bytes(self) -> int:
        """Bytes of all trees with all their leaves, the journal and the export; a bound."""
        options, n = self._options, self._context.space.n
        standing = options.trees if options.trees == 1 else 2 * options.trees  # and what succeeds
        leaf = NODE_BYTES + (options.max_features or n) * OBSERVER_BYTES
        trees = standing * options.max_leaves * (leaf + NODE_BYTES)
        journal = (JOURNAL_ROWS + 4_096) * (4 * n + 64)
        return trees + journal + options.trees * 2 * options.max_leaves * 64 + 65_536

    def _core(self) -> _Core:
        return _Core(
            made_by=self._made_by(),
            refreshes=self._refreshes,
            refreshed_at_ms=self._refreshed_at_ms,
            rows_since=self._rows_since,
            pages=self._pages,
            rows_in_pages=self._rows_in_pages,
            clock_ms=self._clock_ms,
            pace=self._pace,
        )

    def _made_by(self) -> str:
        context = self._context
        return (
            f"{self._name} {self._options} of lane {context.lane}, seed {context.seed}, "
            f"spec {context.space.digest} with {context.space.n} features"
        )

    def _refresh(self) -> None:
        prior = self._prior - math.log(self._options.beta)
        if isinstance(self.model, ARFClassifier):
            self._arrays = forest_arrays(self.model, prior)
        else:
            self._arrays = tree_arrays(self.model, prior)
        self._refreshes += 1
        self._refreshed_at_ms = self._clock_ms
        self._rows_since = 0
        self._export_written = False

    def _do(self, entry: _Entry) -> None:
        self._note(entry)
        if entry.what == "pace":
            self._pace = entry.factor
            for tree in (self.model, *self._trees()):
                tree.grace_period = max(1, round(self._options.grace_period / self._pace))
            return
        y = np.frombuffer(entry.y, np.uint8).tolist()
        w = np.frombuffer(entry.w, np.float32).tolist()
        X = np.frombuffer(entry.X, np.float32).reshape(len(y), self._context.space.n)
        for x, label, weight in zip(_seen(X), y, w, strict=True):
            if entry.what == "learn":
                self._learn_one(x, label, weight)
            else:
                self._forget_one(x, label, weight)

    def _note(self, entry: _Entry) -> None:
        """Keep an entry for the next page; beyond a journal's worth a base must be written."""
        self._new.append(entry)
        self._new_rows += len(entry.y)
        if self._new_rows > JOURNAL_ROWS:
            self._new, self._new_rows = [], 0
            self._base_written = False

    def _learn_one(self, x: dict[int, float], y: int, w: float) -> None:
        if w <= 0.0:
            return
        if isinstance(self.model, ARFClassifier):
            self.model.lambda_value = min(BAGGING_RATE * w, RATE_MAX)  # type: ignore[assignment]
            self.model.learn_one(x, y)
        else:
            self.model.learn_one(x, y, w=w)  # type: ignore[no-untyped-call]
        for tree in self._trees():
            if tree._n_active_leaves + tree._n_inactive_leaves >= self._options.max_leaves:
                tree._growth_allowed = False

    def _forget_one(self, x: dict[int, float], y: int, w: float) -> None:
        times = BAGGING_RATE if isinstance(self.model, ARFClassifier) else 1.0
        for tree in self._trees():
            if tree._root is not None:
                stats = leaf_of(tree._root, x).stats
                if y in stats:
                    stats[y] = max(stats[y] - times * w, LEAF_FLOOR)

    def _trees(self) -> Iterator[HoeffdingTreeClassifier]:
        if isinstance(self.model, ARFClassifier):
            trees: list[Any] = [*self.model.data, *self.model._background]
            yield from (tree for tree in trees if tree is not None)
        else:
            yield self.model


def _entry(what: str, rows: Rows) -> _Entry:
    X = np.ascontiguousarray(rows.X, np.float32)
    return _Entry(what, X.tobytes(), rows.y.tobytes(), rows.w.astype(np.float32).tobytes())


def _seen(X: NDArray[np.float32]) -> Iterator[dict[int, float]]:
    """Return rows as River takes them, without what is missing."""
    missing = np.asarray(np.isnan(X).any(axis=1))
    for row, lacking in zip(X.tolist(), missing, strict=True):
        if lacking:
            yield {column: value for column, value in enumerate(row) if not math.isnan(value)}
        else:
            yield dict(enumerate(row))

"""labelled rows → boosted trees, fitted anew in the background: LightGBM on a sliding window.

The entry point `boosted`. It keeps rows of its own: all frauds and a thinned share of the legit
ones, so that three months fit where the lane's memory holds weeks.

When a fit begins and when it is adopted is decided by event time alone (ADR 0015): the same calls
give the same parts, bit for bit, whatever the clock on the wall did. A fit that is due and not
done is waited for. It runs in a thread: LightGBM lets go of Python's lock while it fits.
"""

import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.arrays import Array, decode_arrays, encode_arrays
from models.boosted_options import BoostedOptions
from models.learner import PRIOR_RATE, Context, Part, Rows, StateMismatch
from models.options import read_options
from models.rehearsal import PAGE_ROWS, Ring
from models.thinning import survives
from models.trees import constant, logits_many
from models.trees_lightgbm import fit

FIRST_S = 86_400.0
"""Before the first trees, each of these is an occasion to grow them."""
PACE_MAX = 10.0
RESERVED = 16
"""One row in so many, the oldest ones, sits a fit out: they may leave while it runs."""
GROW_SALT = 0x5EED
LIGHTGBM_BYTES = 64 << 20
"""Room for histograms and the model of a fit, beside the rows: an allowance."""
BYTES_PER_CELL = 12
"""Of a fitted row's feature: ours as float32, LightGBM's bins, and its copy while binning."""


class FitOverdue(TimeoutError):
    """A fit that is due was waited for longer than `wait_limit_s`."""


class _Pending(msgspec.Struct):
    """A fit that has begun: which rows it sees, exactly."""

    started_ms: int
    first: int
    last: int
    chosen: bytes  # a bit for each row from first to last


class _Core(msgspec.Struct):
    made_by: str
    rows_total: int
    clock_ms: int
    looked_ms: int
    refreshes: int
    pace: float
    pending: bool


@dataclass(slots=True)
class _Running:
    """A fit that has begun, and where its trees will be: the thread's answer, or here already."""

    told: _Pending
    future: Future[dict[str, Array]] | None = None
    trees: dict[str, Array] | None = None


class BoostedLearner:
    """`learner.Learner` of gradient-boosted trees."""

    def __init__(self, context: Context) -> None:
        """Make a learner that has seen nothing and believes the prior rate.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        self._context = context
        self._options = read_options("boosted", BoostedOptions, context.options)
        self._capacity = -(-self._options.keep_rows // PAGE_ROWS) * PAGE_ROWS
        self._reserve = self._capacity // RESERVED
        self._pool = ThreadPoolExecutor(1, "boosted-fit")
        self._running: _Running | None = None
        self._reset()

    def _reset(self) -> None:
        if self._running is not None and self._running.future is not None:
            self._running.future.cancel()
        self._running = None
        self._rows = Ring("rows", self._options.keep_rows, self._context.space.n)
        self._arrays = constant(math.log(PRIOR_RATE / (1.0 - PRIOR_RATE)))
        self._refreshes = 0
        self._clock_ms = 0
        self._looked_ms = -1
        self._pace = 1.0
        self._unsaved = {"trees"}

    def learn_many(self, rows: Rows) -> None:
        """Keep the frauds and a share of the legit rows for the next fit; see the port."""
        share = self._options.legit_share
        kept = (rows.y == 1) | survives(rows.ids, share, self._context.seed)
        if not kept.any():
            return
        rows = rows.part(kept)
        self._settle_before(self._rows.total + len(rows))
        w = np.where(rows.y == 1, rows.w, rows.w / share).astype(np.float32)
        self._rows.append(rows.X, rows.y, rows.ids, w, rows.at_ms)

    def forget_many(self, rows: Rows) -> None:
        """Leave these rows out of later fits; trees that saw them stand until the next refresh."""
        self._rows.forget(rows.ids)

    def advance(self, clock_ms: int) -> None:
        """Adopt a fit that is due, and begin one at a boundary of `refresh_s`; see the port.

        Raises:
            FitOverdue: A fit that is due did not end within `wait_limit_s`.
        """
        before, self._clock_ms = self._clock_ms, max(self._clock_ms, clock_ms)
        if self._clock_ms == before and self._looked_ms >= 0:
            return
        self._adopt_if_due()
        if self._running is None and self._crossed():
            self._begin()
            self._adopt_if_due()

    def pace(self, factor: float) -> None:
        """Refresh so much more often from now on, at most `PACE_MAX`; see the port."""
        self._pace = min(max(factor, 1.0 / PACE_MAX), PACE_MAX)

    def predict_many(self, X: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return log-odds; see the port."""
        return logits_many(self._arrays, X).astype(np.float32)

    def snapshot(self) -> Part:
        """Return the trees adopted last; see the port."""
        return Part("trees", self._arrays, steady=self._refreshes)

    def state_changes(self) -> dict[str, bytes]:
        """Return new rows, and the trees and the pending fit if they changed; see the port.

        What the thread is at is not part of it: a restart fits again, on the same rows.
        """
        running = self._running
        core = _Core(
            made_by=self._made_by(),
            rows_total=self._rows.total,
            clock_ms=self._clock_ms,
            looked_ms=self._looked_ms,
            refreshes=self._refreshes,
            pace=self._pace,
            pending=running is not None,
        )
        found = {"core": msgspec.msgpack.encode(core)}
        if "trees" in self._unsaved:
            found["trees"] = encode_arrays(self._arrays)
        if "pending" in self._unsaved:
            found["pending"] = msgspec.msgpack.encode(running.told) if running else b""
        if "settled" in self._unsaved:
            settled = running is not None and running.trees is not None
            found["settled"] = encode_arrays(running.trees) if settled else b""  # type: ignore[union-attr,arg-type]
        self._unsaved = set()
        return found | self._rows.changed_pages()

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take rows and trees back, and begin a pending fit again; see the port."""
        self._reset()
        if "core" not in parts:
            return
        core = msgspec.msgpack.decode(parts["core"], type=_Core)
        if core.made_by != self._made_by():
            raise StateMismatch(f"made by {core.made_by}, not by {self._made_by()}")
        self._rows.restore(parts, core.rows_total)
        self._arrays = decode_arrays(parts["trees"])
        self._clock_ms, self._looked_ms = core.clock_ms, core.looked_ms
        self._refreshes, self._pace = core.refreshes, core.pace
        self._unsaved = set()
        if core.pending:
            self._running = _Running(msgspec.msgpack.decode(parts["pending"], type=_Pending))
            if parts.get("settled"):
                self._running.trees = decode_arrays(parts["settled"])
            else:
                self._start()

    @property
    def memory_bytes(self) -> int:
        """Bytes of the rows kept, of the trees, and of a fit on all rows; a bound."""
        options, n = self._options, self._context.space.n
        nodes = options.trees * 2 * options.num_leaves
        fitted = options.keep_rows * (n * BYTES_PER_CELL + 64)
        return self._rows.memory_bytes + fitted + 4 * nodes * 24 + LIGHTGBM_BYTES

    def _made_by(self) -> str:
        context = self._context
        return (
            f"boosted {self._options} of lane {context.lane}, seed {context.seed}, "
            f"spec {context.space.digest} with {context.space.n} features"
        )

    def _crossed(self) -> bool:
        """Whether the clock crossed a boundary since it was last looked at."""
        every_s = self._options.refresh_s
        if not self._refreshes:
            every_s = min(every_s, FIRST_S)
        every_ms = max(1, int(1000.0 * every_s / self._pace))
        looked, self._looked_ms = self._looked_ms, self._clock_ms
        return looked >= 0 and self._clock_ms // every_ms > looked // every_ms

    def _begin(self) -> None:
        """Begin a fit on the rows held now, if they hold enough frauds and a legit one."""
        first, last = max(0, self._rows.total - self._capacity + self._reserve), self._rows.total
        held = self._rows.held(self._rows.slots(first, last))
        oldest_ms = self._clock_ms - int(1000.0 * self._options.window_s)
        chosen = (held["live"] == 1) & (held["at_ms"] >= oldest_ms) & (held["w"] > 0)
        if self._options.mode == "grow" and self._refreshes:
            chosen &= survives(
                held["id"], self._options.grow_share, GROW_SALT + self._context.seed + last
            )
        frauds = int(held["y"][chosen].sum())
        if frauds < self._options.frauds_min or frauds == int(chosen.sum()):
            return
        skipped = int(np.argmax(chosen))  # too old for the window
        bits = np.packbits(chosen[skipped:]).tobytes()
        told = _Pending(self._clock_ms, first + skipped, last, bits)
        self._running = _Running(told)
        self._unsaved |= {"pending", "settled"}
        self._start()

    def _start(self) -> None:
        assert self._running is not None
        told = self._running.told
        held = self._rows.held(self._rows.slots(told.first, told.last))
        bits = np.unpackbits(np.frombuffer(told.chosen, np.uint8), count=told.last - told.first)
        held = held[bits.astype(np.bool_)]
        grows = self._options.mode == "grow" and self._refreshes > 0
        self._running.future = self._pool.submit(
            fit,
            held["x"],
            held["y"],
            held["w"],
            self._options,
            self._context.seed,
            self._arrays if grows else None,
        )

    def _adopt_if_due(self) -> None:
        running = self._running
        if running is None:
            return
        if self._clock_ms < running.told.started_ms + int(1000.0 * self._options.adopt_after_s):
            return
        self._arrays = self._trees_of(running)
        self._refreshes += 1
        self._running = None
        self._unsaved |= {"trees", "pending", "settled"}

    def _settle_before(self, rows_total: int) -> None:
        """Wait for a fit before rows that it saw leave the ring: a restart could not repeat it."""
        running = self._running
        if running is None or running.trees is not None:
            return
        if rows_total - self._capacity > running.told.first:
            running.trees = self._trees_of(running)
            self._unsaved.add("settled")

    def _trees_of(self, running: _Running) -> dict[str, Array]:
        if running.trees is not None:
            return running.trees
        assert running.future is not None
        try:
            return running.future.result(self._options.wait_limit_s)
        except FutureTimeoutError as fault:
            raise FitOverdue(
                f"boosted: a fit did not end within wait_limit_s = {self._options.wait_limit_s} s"
            ) from fault


def boosted(context: Context) -> BoostedLearner:
    """Make boosted trees; the entry point `boosted`; options are `BoostedOptions`'s.

    Raises:
        ValueError: An option is unknown or out of range.
    """
    return BoostedLearner(context)

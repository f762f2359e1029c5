"""a log → the same events and labels again, in order, each when it was due: history as a stream.

The loop: **1 read** a piece of items in order, **2 skip** what an earlier run sent, **3 pace**
by the clock and the barrier, **4 send**, **5 save** the progress after the acknowledgements.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.replay_order import LogFacts, Piece
from pipeline.replay_ports import (
    Barrier,
    Batch,
    Clock,
    OnTold,
    ReplayOptions,
    ReplayTarget,
    Told,
    WallClock,
)
from pipeline.replay_progress import BadRows, Progress, ProgressFile, ReplayRefused
from pipeline.replay_rows import EVENT

BATCH_ITEMS: Final = 1_000
TICK_S: Final = 0.005  # with --speed, what is due within a tick leaves together
SAVE_EVERY_S: Final = 1.0
TELL_EVERY_S: Final = 0.1


class Replay:
    """One replay of one log into one target."""

    def __init__(
        self,
        facts: LogFacts,
        target: ReplayTarget,
        options: ReplayOptions,
        *,
        bad_rows: BadRows,
        source: str = "",
        progress: ProgressFile | None = None,
        barrier: Barrier | None = None,
        clock: Clock | None = None,
        on_told: OnTold | None = None,
    ) -> None:
        """Hold the parts.

        Args:
            facts: From `replay_order.look_at`.
            target: Where to send.
            options: What to send, and how fast.
            bad_rows: Takes the rows that mean nothing.
            source: Fingerprint of log, mapping and cut; guards `progress`.
            progress: Where to keep it; without, nothing can be resumed.
            barrier: Awaited between slices when `options.barrier_ms` is set.
            clock: For pacing.
            on_told: Called about ten times a second, and at the end.
        """
        self._facts, self._target, self._options = facts, target, options
        self._bad_rows, self._barrier = bad_rows, barrier
        self._file = progress
        self._progress = Progress(run_id=uuid.uuid4().hex[:12], source=source)
        self._clock = clock or WallClock()
        self._on_told = on_told
        self._told = Told()
        self._saved_s = self._told_s = -1e9
        self._began_s = 0.0
        self._anchor: tuple[float, int] | None = None
        until = [o for o in (options.until_ms,) if o is not None]
        if not options.tail:
            until.append(facts.last_ms + 1)
        self._until_ms = min(until, default=2**62)
        span = options.barrier_ms
        self._slice_end_ms = 2**62 if span is None else facts.first_ms + span

    async def run(self, pieces: Generator[Piece, None, None]) -> Told:
        """Send everything; return how it stands at the end.

        Raises:
            TargetFailed: The target stopped taking items; progress is saved.
            ReplayRefused: The progress file belongs to another replay, or to one that ended.
        """
        acked = await self._begin()
        self._began_s = self._clock.now_s()
        number = 0
        try:
            async with aclosing(_ahead(pieces)) as coming:
                async for piece in coming:
                    self._bad_rows.add_many(piece.bad)
                    self._told.bad_rows = self._bad_rows.count
                    items, ended = self._cut(piece.items)
                    skip = min(max(acked - number, 0), len(items))
                    self._count(items[:skip], skipped=True)
                    await self._send_items(items[skip:], number + skip)
                    number += len(items)
                    self._told.fraction = piece.fraction
                    self._tell()
                    if ended:
                        break
            await self._finish_slice()
        finally:
            self._save()  # also when cancelled: what is acknowledged now need not be asked for
        self._progress = Progress(
            run_id=self._progress.run_id, source=self._progress.source, acked=number, finished=True
        )
        self._save()
        self._told.finished, self._told.fraction = True, 1.0
        self._tell(now=True)
        return self._told

    async def _begin(self) -> int:
        """Find out what was done before; return the first number that may not be."""
        found = self._file.load(self._progress.source) if self._file is not None else None
        if found is not None and found.finished:
            raise ReplayRefused("this replay has ended; `--restart` sends it again")
        if found is not None:
            self._progress = found
        positions = await self._target.begin(
            self._progress.run_id, found.positions if found is not None else None
        )
        if found is None:
            self._progress = Progress(
                run_id=self._progress.run_id, source=self._progress.source, positions=positions
            )
            if self._file is not None:
                self._file.save(self._progress)
        return self._progress.acked

    def _cut(self, items: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
        """Drop what lies behind the end of the replay; say whether that was reached."""
        size = int(items["due_ms"].search_sorted(self._until_ms)) if len(items) else 0
        limit = self._options.limit_events
        if limit is not None and len(items):
            left = limit - self._told.events
            nth = np.flatnonzero(items["kind"].to_numpy() == EVENT)
            if len(nth) >= left:
                size = min(size, int(nth[left - 1]) + 1 if left > 0 else 0)
                return items[:size], True
        return items[:size], size < len(items)

    async def _send_items(self, items: pl.DataFrame, first: int) -> None:
        if not len(items):
            return
        due_ms = items["due_ms"].to_numpy()
        kinds = items["kind"].to_list()
        keys, bodies = items["key"].to_list(), items["body"].to_list()
        begin = 0
        while begin < len(due_ms):
            if due_ms[begin] >= self._slice_end_ms:
                await self._finish_slice()
                span = self._options.barrier_ms
                assert span is not None
                slices = (int(due_ms[begin]) - self._facts.first_ms) // span
                self._slice_end_ms = self._facts.first_ms + (slices + 1) * span
            end = await self._pace(due_ms, begin)
            batch = Batch(first + begin, kinds[begin:end], keys[begin:end], bodies[begin:end])
            await self._target.send_many(batch)
            self._count(items[begin:end])
            begin = end
            self._tell()
            if self._clock.now_s() - self._saved_s >= SAVE_EVERY_S:
                self._save()

    async def _pace(self, due_ms: NDArray[np.int64], begin: int) -> int:
        """Wait until the next item is due; return the end of what may leave with it."""
        last = min(begin + BATCH_ITEMS, len(due_ms))
        last = min(last, max(int(np.searchsorted(due_ms, self._slice_end_ms)), begin + 1))
        speed = self._options.speed
        if speed is None:
            return last
        if self._anchor is None:
            self._anchor = (self._clock.now_s(), int(due_ms[begin]))
        start_s, start_ms = self._anchor
        wait_s = start_s + (int(due_ms[begin]) - start_ms) / 1000 / speed - self._clock.now_s()
        while wait_s > 0:
            await self._clock.sleep(min(max(wait_s, TICK_S), SAVE_EVERY_S))
            self._tell()
            wait_s = start_s + (int(due_ms[begin]) - start_ms) / 1000 / speed - self._clock.now_s()
        due_until = start_ms + (self._clock.now_s() - start_s) * 1000 * speed
        return max(min(last, int(np.searchsorted(due_ms, due_until, side="right"))), begin + 1)

    async def _finish_slice(self) -> None:
        """Wait until everything is acknowledged, and learned where a barrier is asked for."""
        await self._target.flush()
        self._save()
        if self._barrier is not None and self._options.barrier_ms is not None:
            self._told.waiting = True
            self._tell(now=True)
            await self._barrier.wait()
            self._told.waiting = False

    def _count(self, items: pl.DataFrame, *, skipped: bool = False) -> None:
        if not len(items):
            return
        events = int((items["kind"] == EVENT).sum())
        self._told.events += events
        self._told.labels += len(items) - events
        self._told.skipped += len(items) if skipped else 0
        self._told.event_time_ms = int(items["due_ms"][-1])

    def _save(self) -> None:
        self._saved_s = self._clock.now_s()
        if self._file is None:
            return
        if not self._progress.finished:
            acked, positions = self._target.acked()
            self._progress = Progress(
                run_id=self._progress.run_id,
                source=self._progress.source,
                acked=max(acked, self._progress.acked),
                positions={**self._progress.positions, **positions},
            )
        self._file.save(self._progress)

    def _tell(self, *, now: bool = False) -> None:
        if self._on_told is not None and (
            now or self._clock.now_s() - self._told_s >= TELL_EVERY_S
        ):
            self._told_s = self._clock.now_s()
            sent = self._told.events + self._told.labels - self._told.skipped
            self._told.items_per_s = sent / max(self._told_s - self._began_s, 1e-9)
            self._on_told(self._told)


async def _ahead(pieces: Generator[Piece, None, None]) -> AsyncGenerator[Piece, None]:
    """Read the next piece in a thread while this one is sent; close the reader at the end."""
    coming = asyncio.ensure_future(asyncio.to_thread(next, pieces, None))
    try:
        while (piece := await asyncio.shield(coming)) is not None:
            coming = asyncio.ensure_future(asyncio.to_thread(next, pieces, None))
            yield piece
    finally:
        await asyncio.wait([coming])
        pieces.close()

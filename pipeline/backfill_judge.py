"""parsed batches in log order → which rows count and which ask: the one sequential step.

Lateness and repeats are judged as the worker judges them, with its own code, for each updates
partition, the log being one source partition. So the verdicts are a function of the log alone.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.window_walk import APPLY, ASK, PEEK
from pipeline.backfill_job import BackfillJob, Cut
from pipeline.backfill_parse import Parsed
from pipeline.dedup import FRESH, LATE, SeenIdentities
from pipeline.spill import read_numbers, read_segment, unpack, write_numbers

AGAIN: Final = "again"  # positions of events whose identity was there before
CLOCK: Final = "clock"  # largest event time so far, by event in order
CLOCK_AT: Final = "clock-at"  # position of that event
SKIP: Final = 3  # a row that neither counts nor asks


@dataclass(slots=True)
class Judged:
    """What became of the events so far.

    Attributes:
        events: Events read.
        written: Those whose vectors are written.
        late: Those older than the lateness limit, for some entity: asked, but not counted.
        repeats: Those whose identity was there before: left out.
        outside: Those before `since_ms` or from `until_ms` on: counted, but not asked.
        labels: Labels read.
    """

    events: int = 0
    written: int = 0
    late: int = 0
    repeats: int = 0
    outside: int = 0
    labels: int = 0


class Judge:
    """Remembers the identities of the dedup horizon, by updates partition."""

    def __init__(self, job: BackfillJob) -> None:
        """Begin at the log's start."""
        self._job = job
        horizon_ms = job.spec.dedup_horizon_ms
        self._seen = [SeenIdentities(horizon_ms, -1, {}) for _ in range(job.updates_partitions)]
        self._clock_ms = -1
        self.judged = Judged()

    def take(self, number: int, parsed: Parsed) -> None:
        """Judge the next batch; writes `steps-N` (by row), `asks-N` (by event), and the clock."""
        job, judged = self._job, self.judged
        verdict = self._verdicts(parsed)
        events = len(parsed.time_ms)
        any_late = np.zeros(events, np.bool_)
        any_late[parsed.row_event[verdict == LATE]] = True
        asks = (parsed.time_ms >= job.since_ms) & (parsed.time_ms < job.until_ms)
        row_asks = asks[parsed.row_event]
        steps = np.where(
            verdict == FRESH,
            np.where(row_asks, ASK, APPLY),
            np.where(row_asks, PEEK, SKIP),
        ).astype(np.uint8)
        write_numbers(job.file("steps", number), steps)
        write_numbers(job.file("asks", number), asks)
        clock = np.maximum.accumulate(np.concatenate([[self._clock_ms], parsed.time_ms]))
        self._clock_ms = int(clock[-1])
        write_numbers(job.file(CLOCK), clock[1:])
        write_numbers(job.file(CLOCK_AT), parsed.position)
        judged.events += events
        judged.labels += parsed.labels
        judged.written += int(np.count_nonzero(asks))
        judged.late += int(np.count_nonzero(any_late))
        judged.outside += int(np.count_nonzero(~asks))

    def leave_out(self, cut: Cut, again: NDArray[np.int64]) -> None:
        """Let events not ask whose identity has asked before, as decisions keep the first.

        Writes `again` (positions), and `asks-N` anew. Whether they count is another matter: one
        that comes again when the dedup horizon has passed does.

        Args:
            cut: How the log was cut.
            again: int64, positions of such events, ascending.
        """
        job, judged = self._job, self.judged
        write_numbers(job.file(AGAIN), again)
        batch = cut.batch_of(again)
        for number in np.unique(batch).tolist():
            position = unpack(read_segment(job.file("events", number), 0))["position"]
            mine = np.searchsorted(position, again[batch == number])
            asks = read_numbers(job.file("asks", number), np.bool_).copy()
            judged.repeats += len(mine)
            judged.written -= int(np.count_nonzero(asks[mine]))
            judged.outside -= int(np.count_nonzero(~asks[mine]))
            asks[mine] = False
            job.file("asks", number).unlink()
            write_numbers(job.file("asks", number), asks)

    def _verdicts(self, parsed: Parsed) -> NDArray[np.uint8]:
        """Return each row's verdict: that of its event in the partition that owns its entity."""
        verdict = np.zeros(len(parsed.row_event), np.uint8)
        for owner in np.unique(parsed.row_owner).tolist():
            mine = np.flatnonzero(parsed.row_owner == owner)
            event = parsed.row_event[mine].astype(np.int64)
            judged = self._seen[owner].judge_rows(event, parsed.row_id[mine], parsed.time_ms[event])
            verdict[mine] = judged.verdicts
        return verdict

"""parsed batches in log order → which rows count and which ask: the one sequential step.

Lateness and repeats are judged as the worker judges them, with its own code, for each updates
partition, the log being one source partition. So the verdicts are a function of the log alone.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.window_walk import APPLY, ASK, PEEK
from pipeline.backfill_job import BackfillJob
from pipeline.backfill_parse import Parsed
from pipeline.dedup import DUPLICATE, FRESH, LATE, SeenIdentities
from pipeline.spill import write_numbers

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
        repeats: Those whose identity was there before, for every entity: left out.
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
        any_new, any_late = np.zeros(events, np.bool_), np.zeros(events, np.bool_)
        any_new[parsed.row_event[verdict != DUPLICATE]] = True
        any_late[parsed.row_event[verdict == LATE]] = True
        rows_of = np.bincount(parsed.row_event, minlength=events)
        any_new |= rows_of == 0  # of no entity that the spec declares: nobody remembers it
        inside = (parsed.time_ms >= job.since_ms) & (parsed.time_ms < job.until_ms)
        asks = any_new & inside
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
        judged.repeats += int(np.count_nonzero(~any_new))
        judged.outside += int(np.count_nonzero(any_new & ~inside))

    def _verdicts(self, parsed: Parsed) -> NDArray[np.uint8]:
        """Return each row's verdict: that of its event in the partition that owns its entity."""
        verdict = np.zeros(len(parsed.row_event), np.uint8)
        for owner in np.unique(parsed.row_owner).tolist():
            mine = np.flatnonzero(parsed.row_owner == owner)
            event = parsed.row_event[mine]
            starts = np.flatnonzero(np.diff(event, prepend=-1))
            found = self._seen[owner].judge(
                parsed.row_id[mine[starts]], parsed.time_ms[event[starts]]
            )
            verdict[mine] = np.repeat(found, np.diff(starts, append=len(mine)))
        return verdict

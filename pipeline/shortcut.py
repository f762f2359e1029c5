"""Which updates must come by the log, and whether any must: the short way past the fetch.

A worker that owns every partition sends itself every update, and is handed each as soon as the log
has it (`pipeline.owned`). What it would fetch it has applied already, so it need not fetch it:
that was half of its work at low rates. It must fetch again as soon as something is missing.
"""

from features.store import UNKNOWN_OFFSET

NEVER = 1 << 62


class Shortcut:
    """For each updates partition, up to which offset records must come by the log."""

    def __init__(self) -> None:
        """Know of nothing that is missing."""
        self._until: dict[int, int] = {}

    def read_until(self, partition: int, end: int) -> None:
        """What lies before `end` was not, or not only, sent by this process."""
        self._until[partition] = max(end, self._until.get(partition, 0))

    def distrust(self, partition: int) -> None:
        """The log does not say where it put what was sent: it must be read from now on."""
        self._until[partition] = NEVER

    def forget(self) -> None:
        """Begin anew, as at an assignment."""
        self._until.clear()

    def complete(self, partition: int, next_offset: int) -> bool:
        """Return whether everything that must come by the log has come."""
        return next_offset != UNKNOWN_OFFSET and next_offset >= self._until.get(partition, NEVER)

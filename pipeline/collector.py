"""Python's garbage collector, kept out of the way of processes that must not stop."""

import gc
from typing import Final

SMALL_STEPS: Final = 10_000
"""Objects after which the young are looked through, where a pause of 1 ms would be felt."""
LARGE_STEPS: Final = 50_000
"""Where batches of thousands of events are held for a moment, and would be walked in vain."""
OLDER_AFTER: Final = (20, 50)
"""Collections of a generation before the next one's."""


def calm_collector(young_after: int) -> None:
    """Keep the collector's work small and rare, for it stops everything else.

    What lives since the start is looked at no more. Almost all that a request or a record leaves
    is freed by its count of references; cycles are few, so their generations may fill further.

    Args:
        young_after: Objects made, less those freed, after which the young are looked through.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young_after, *OLDER_AFTER)

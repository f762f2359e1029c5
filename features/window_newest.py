"""states → the event time of the newest event in each."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.spec import Spec
from features.window_jit import Bytes, Int, Ints, entered
from features.window_plan import EVENTS, TIME, Plan, Scratch
from features.window_room import join, room_of
from features.window_state import OK, load

NO_EVENT_MS: Final = -1


def newest_many(spec: Spec, entity: int, blobs: Sequence[bytes]) -> NDArray[np.int64]:
    """Return the newest event time of each state, -1 where it holds no event.

    Args:
        spec: What the states mean.
        entity: `EntitySpec.index` of all of them.
        blobs: States that `features.window.evaluate_many` took; `b""` is an entity never seen.
    """
    offsets = np.zeros(len(blobs) + 1, dtype=np.int64)
    np.cumsum([len(blob) for blob in blobs], out=offsets[1:])
    room = room_of(spec)
    newest = np.full(len(blobs), NO_EVENT_MS, dtype=np.int64)
    status = find_newest(room.plan, room.scratch, entity, join(blobs), offsets, newest)
    assert status == OK
    return newest


@entered
def find_newest(
    plan: Plan, scratch: Scratch, entity: Int, data: Bytes, offsets: Ints, newest: Ints
) -> Int:
    """Write the newest event time of each state that has one; return OK or what is wrong."""
    for s in range(newest.shape[0]):
        status = load(plan, scratch, entity, data, offsets[s], offsets[s + 1])
        if status != OK:
            return status
        end = scratch.span[EVENTS, 1]
        if end > scratch.span[EVENTS, 0]:
            newest[s] = scratch.heads[EVENTS, TIME, end - 1]
    return OK

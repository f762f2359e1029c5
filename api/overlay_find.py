"""questions, accepted events → the rows that the states read for them lack: compiled.

Events and rows are numbered from 0 as they are accepted, and stand in rings: number n is in column
n modulo the ring's size, a power of two. The rows of one key are a chain, each knows the one before
it. In Python all this took an eighth of a decision at saturation, and several times that while the
states lag (ADR 0040).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.window_jit import Int, Ints, compiled, entered

PARTITION, OFFSET, ALIVE, FIRST_ROW = range(4)  # of an event
EVENT, BEFORE, KEY = range(3)  # of a row: its event, its key's row before it, its key
NONE: Final = -1
COUNT, AT, BEYOND, FOUND = range(4)
"""Of a key's room: how many rows were found, at which of them the merge is, the newest row behind
the bound; then the rows that were found, newest first."""
ROOM_LACKS: Final = -1
"""What `find_lacking` returns when its answer has no room."""


@entered
def link_rows(
    events: Ints,
    rows: Ints,
    newest: Ints,
    numbers: Ints,
    question: NDArray[np.int32],
    keys: Ints,
    oldest: Int,
    row: Int,
    at_most: Int,
    ends: Ints,
    lowest: Ints,
    starts: Ints,
) -> Int:
    """Chain a batch's rows to those before them; return the number of the next row.

    Args:
        events: int64, shape (4, ring): events by their numbers.
        rows: int64, shape (3, ring): rows by theirs.
        newest: int64, shape (keys,): the newest row of each key.
        numbers: int64, shape (m + 1,): of each question's event, -1 if it is not accepted; then of
            the next event of all.
        question: int32, shape (batch's rows,), ascending: whose row it is.
        keys: int64, shape (batch's rows,): number of each row's key; -1 is one that nothing has.
        oldest: Number of the oldest event.
        row: Number of the next row.
        at_most: Events before a question that count for it.
        ends: int64, shape (m,), written: where each question's rows end.
        lowest: int64, shape (m,), written: the oldest row that counts for the question.
        starts: int64, shape (batch's rows,), written: the newest row of the key before this one.
    """
    events_mask = events.shape[1] - 1
    rows_mask = rows.shape[1] - 1
    m = ends.shape[0]
    before = numbers[m]
    for i in range(m):
        before -= numbers[i] >= 0
    r = np.int64(0)
    for i in range(m):
        number = numbers[i]
        events[FIRST_ROW, before & events_mask] = row
        lowest[i] = events[FIRST_ROW, max(oldest, before - at_most) & events_mask]
        while r < question.shape[0] and question[r] == i:
            starts[r] = newest[keys[r]] if keys[r] >= 0 else NONE
            if number >= 0:
                rows[EVENT, row & rows_mask] = number
                rows[BEFORE, row & rows_mask] = starts[r]
                rows[KEY, row & rows_mask] = keys[r]
                newest[keys[r]] = row
                row += 1
            r += 1
        before += number >= 0
        ends[i] = r
    events[FIRST_ROW, before & events_mask] = row
    return row


@compiled
def lacks(events: Ints, number: Int, ahead: Ints) -> bool:
    """Return whether a state that has applied up to these offsets lacks an event.

    The same of one place, uncompiled: `api.overlay_place.is_in`.
    """
    at = number & (events.shape[1] - 1)
    if not events[ALIVE, at]:
        return False
    partition = events[PARTITION, at]
    known = 0 <= partition < ahead.shape[0]
    return not known or events[OFFSET, at] >= ahead[partition]


@compiled
def gather(
    events: Ints, rows: Ints, start: Int, lowest: Int, at_most: Int, ahead: Ints, room: Ints
) -> None:
    """Write those of one key's newest `at_most` rows that its state lacks into its room."""
    mask = rows.shape[1] - 1
    row = start
    count = 0
    left = at_most
    while left > 0 and row >= lowest:
        if lacks(events, rows[EVENT, row & mask], ahead):
            room[FOUND + count] = row
            count += 1
        row = rows[BEFORE, row & mask]
        left -= 1
    room[COUNT] = count
    room[AT] = 0
    room[BEYOND] = row


@compiled
def newest_found(rows: Ints, room: Ints, keys: Int) -> Int:
    """Return the newest event of the rows found that the merge has not come to, or -1."""
    mask = rows.shape[1] - 1
    number = np.int64(NONE)
    for k in range(keys):
        if room[k, AT] < room[k, COUNT]:
            number = max(number, rows[EVENT, room[k, FOUND + room[k, AT]] & mask])
    return number


@compiled
def row_of(events: Ints, rows: Ints, number: Int, lowest: Int, ahead: Ints, room: Ints) -> Int:
    """Return the row that a lacking event has in one key and its state lacks, or -1.

    Events are asked about from the newest on.
    """
    mask = rows.shape[1] - 1
    if room[AT] < room[COUNT]:
        row = room[FOUND + room[AT]]
        if rows[EVENT, row & mask] != number:
            return np.int64(NONE)
        room[AT] += 1
        return row
    while room[BEYOND] >= lowest and rows[EVENT, room[BEYOND] & mask] > number:
        room[BEYOND] = rows[BEFORE, room[BEYOND] & mask]
    row = room[BEYOND]
    if row >= lowest and rows[EVENT, row & mask] == number and lacks(events, number, ahead):
        return row
    return np.int64(NONE)


@compiled
def reverse(values: Ints, begin: Int, end: Int) -> None:
    """Turn a stretch of values round."""
    end -= 1
    while begin < end:
        values[begin], values[end] = values[end], values[begin]
        begin += 1
        end -= 1


@entered
def find_lacking(
    events: Ints,
    rows: Ints,
    ends: Ints,
    lowest: Ints,
    starts: Ints,
    marks: Ints,
    ahead: Ints,
    room: Ints,
    at_most: Int,
    out_ends: Ints,
    out_events: Ints,
    out_rows: Ints,
) -> Int:
    """Find for each question what its states lack; return the number of rows, or `ROOM_LACKS`.

    An event is lacking if one of its rows is among the newest `at_most` of a key of the question,
    and that key's state lacks it; then all its rows that states of the question lack are found,
    also those that newer ones have pushed behind the bound.

    Args:
        events: As `link_rows` has them.
        rows: As `link_rows` has them.
        ends: As `link_rows` writes them.
        lowest: As `link_rows` writes them.
        starts: As `link_rows` writes them.
        marks: int64, shape (batch's rows,): which of `ahead` is of the key's partition.
        ahead: int64, shape (partitions + 1, topic's partitions): next offsets that are applied.
        room: int64, shape (keys of a question or more, FOUND + at_most): to work in.
        at_most: Rows of one key that count.
        out_ends: int64, shape (m, 2), written: where each question's events and rows end.
        out_events: int64, shape (2, n), written: numbers of the events lacking, by question and
            ascending, and whether nobody said where the log has them.
        out_rows: int64, shape (2, n), written: numbers of the rows, by question and ascending by
            event, and for which of the batch's rows (whose key it is).
    """
    n_events = np.int64(0)
    n_rows = np.int64(0)
    begin = np.int64(0)
    for i in range(ends.shape[0]):
        keys = ends[i] - begin
        first_event = n_events
        first_row = n_rows
        for k in range(keys):
            r = begin + k
            gather(events, rows, starts[r], lowest[i], at_most, ahead[marks[r]], room[k])
        number = newest_found(rows, room, keys)
        while number >= 0:
            if n_events == out_events.shape[1] or n_rows + keys > out_rows.shape[1]:
                return ROOM_LACKS
            out_events[0, n_events] = number
            out_events[1, n_events] = events[PARTITION, number & (events.shape[1] - 1)] < 0
            n_events += 1
            for k in range(keys - 1, -1, -1):
                row = row_of(events, rows, number, lowest[i], ahead[marks[begin + k]], room[k])
                if row >= 0:
                    out_rows[0, n_rows] = row
                    out_rows[1, n_rows] = begin + k
                    n_rows += 1
            number = newest_found(rows, room, keys)
        reverse(out_events[0], first_event, n_events)
        reverse(out_events[1], first_event, n_events)
        reverse(out_rows[0], first_row, n_rows)
        reverse(out_rows[1], first_row, n_rows)
        out_ends[i, 0] = n_events
        out_ends[i, 1] = n_rows
        begin = ends[i]
    return n_rows

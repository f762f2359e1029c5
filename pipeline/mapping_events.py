"""JSON Lines of events and labels as they are → the same, checked: for topics and exports."""

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.event import (
    EventRejected,
    EventRules,
    entity_key,
    identity_of,
    parse_event,
    parse_label,
)
from features.event_wire import UNREADABLE
from pipeline.replay_rows import EVENT, ITEMS, LABEL, NO_TIME, BadRow, Chunk, Mapped


class _Peek(msgspec.Struct):
    """The two fields that tell an event from a label, and when."""

    event_time: str | None = None
    label_time: str | None = None


_peek: Final = msgspec.json.Decoder(_Peek)


class EventMapping:
    """Rows that are events (or labels, told by `label_time`) already (a `RowMapping`)."""

    wants_raw = True

    def __init__(self, rules: EventRules, now_ms: Callable[[], int]) -> None:
        """Take what the spec allows, and the clock against which the future is judged."""
        self._rules, self._now_ms = rules, now_ms

    def check_columns(self, present: list[str]) -> None:
        """Accept anything: rows are checked one by one."""

    def times_ms(self, chunk: Chunk) -> NDArray[np.int64]:
        """Return each row's time (a label's own), `NO_TIME` where it has none."""
        told = [_time_of(body) for body in chunk.frame["raw"]]
        instants = pl.Series(told, dtype=pl.String).str.to_datetime(
            "%+", time_unit="us", time_zone="UTC", strict=False
        )
        times: NDArray[np.int64] = (instants.dt.epoch("us") // 1000).fill_null(NO_TIME).to_numpy()
        return times

    def items_of(self, chunk: Chunk) -> Mapped:
        """Return the rows that are whole; name the field of each that is not."""
        rows: list[tuple[int, int, int, bytes, bytes]] = []
        bad = list(chunk.bad)
        now_ms = self._now_ms()
        for line, body in zip(chunk.lines.tolist(), chunk.frame["raw"], strict=True):
            try:
                rows.append(self._item(line, body, now_ms))
            except EventRejected as error:
                bad.append(BadRow(line, error.pointer, error.detail))
        return Mapped(pl.DataFrame(rows, schema=ITEMS, orient="row"), bad)

    def _item(self, line: int, body: bytes, now_ms: int) -> tuple[int, int, int, bytes, bytes]:
        if b'"label_time"' in body:
            label = parse_label(body, self._rules, now_ms)
            return label.label_time_ms, LABEL, line, identity_of(label).encode(), body
        event = parse_event(body, self._rules, now_ms)
        primary = self._rules.event_types[event.event_type].primary
        key = entity_key(event.tenant, primary, event.entities[primary])
        return event.event_time_ms, EVENT, line, key, body


def _time_of(body: bytes) -> str | None:
    try:
        found = _peek.decode(body)
    except UNREADABLE:
        return None
    return found.label_time or found.event_time

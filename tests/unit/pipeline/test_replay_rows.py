"""What is no row, or no log, is named, and the rest is sent."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from pipeline.mapping_events import EventMapping
from pipeline.replay_order import in_order, look_at
from pipeline.replay_source import LogUnreadable, open_log
from tests.replaying import (
    RULES,
    MemoryTarget,
    mapping_in,
    rows_of,
    run,
    small_chunks,
    some_rows,
    write,
)

pytestmark = pytest.mark.usefixtures("small_chunks")


__all__ = ["small_chunks"]


def test_bad_lines_of_a_csv_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(
        b"id,at,card,fraud,known\n"
        b'"p0\nsplit",1700000000000,c0,,\n'  # lines 2 and 3
        b"p1,soon,c1,,\n"
        b"p2,1700000000001,c2\n"
        b"p3,1700000000002,c\xff3,,\n"
        b"p4,1700000000003,c4,,,,\n"
        b"\n"
        b"p5,1700000000004,c5,1,\n"
        b"p6,1700000000005,c6,,\n"
    )
    report = tmp_path / "bad.jsonl"
    mapping = mapping_in(tmp_path)
    target = MemoryTarget({p: [] for p in range(6)})
    told = asyncio.run(run(path, mapping, target, report=report))
    assert told.events == 2  # p5, without its label, and p6
    bad = [json.loads(line) for line in report.read_bytes().splitlines()]
    assert all(row["file"] == str(path) for row in bad)
    found = {row["line"]: (row["field"], row["reason"]) for row in bad}
    assert told.bad_rows == len(bad) == 6
    assert found[2][0] == "id"  # a line break is no part of an identifier
    assert found[4] == ("at", "'soon' is no time (epoch_ms)")
    assert found[5] == ("", "has 3 values; the header has 5")
    assert found[6] == ("card", "is no UTF-8")
    assert found[7] == ("", "has 7 values; the header has 5")
    assert found[9] == ("known", "is no time at which the label was known")


def test_bad_lines_of_json_and_rows_of_parquet_are_named(tmp_path: Path) -> None:
    lines = tmp_path / "log.jsonl"
    lines.write_bytes(
        b'{"id":"p0","at":1700000000000,"card":"c"}\n'
        b"{broken\n"
        b"[1]\n"
        b'{"id":"p1","at":1700000000000}\n'
        b"\xff\n"
        b'{"id":"p2","at":1700000000009.0,"card":"c","more":{"deep":1}}'
    )
    mapping = mapping_in(tmp_path)
    (chunk,) = open_log(lines).chunks()
    mapped = mapping.items_of(chunk)
    assert [(bad.line, bad.field) for bad in mapped.bad] == [(2, ""), (3, ""), (4, "card"), (5, "")]
    assert mapped.items["line"].to_list() == [1, 6]
    rows = rows_of([0, 1, 2], [None] * 3)
    rows[1]["card"] = None
    (chunk,) = open_log(write(tmp_path / "log.parquet", rows)).chunks()
    assert [(bad.line, bad.field) for bad in mapping.items_of(chunk).bad] == [(2, "card")]


def test_a_cut_off_archive_is_reported_and_what_was_there_is_read(tmp_path: Path) -> None:
    whole = write(tmp_path / "log.csv.gz", some_rows(3000)).read_bytes()
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    chunks = list(open_log(path).chunks())
    assert sum(len(chunk.frame) for chunk in chunks) > 100
    assert "cannot be read on" in chunks[-1].bad[-1].reason


@pytest.mark.parametrize("name", ["none.csv", "log.xml", "broken.parquet", "empty.csv"])
def test_what_is_no_log_is_refused_by_name(tmp_path: Path, name: str) -> None:
    if name != "none.csv":
        (tmp_path / name).write_bytes(b"" if name == "empty.csv" else b"PAR?")
    with pytest.raises(LogUnreadable, match=name):
        open_log(tmp_path / name).columns()


def test_events_as_they_are_are_checked_and_sent_unchanged(tmp_path: Path) -> None:
    event = msgspec.json.encode(
        {
            "event_type": "card_payment",
            "event_id": "a",
            "event_time": "2026-01-01T00:00:00Z",
            "entities": {"card": "c"},
        }
    )
    label = msgspec.json.encode(
        {
            "event_type": "card_payment",
            "event_id": "a",
            "label": "fraud",
            "source": "customer",
            "label_time": "2026-01-02T00:00:00Z",
        }
    )
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        b"\n".join([label, event, b'{"event_id":1}', event.replace(b'card"', b'car"')])
    )
    mapping = EventMapping(RULES, lambda: 2**42)
    log = open_log(path, raw=True)
    facts = look_at(log, mapping)
    assert not facts.sorted
    pieces = list(in_order(log, mapping, facts))
    bodies = [body for piece in pieces for body in piece.items["body"]]
    assert bodies == [event, label]
    bad = [row for piece in pieces for row in piece.bad]
    assert [row.line for row in bad] == [3, 4]

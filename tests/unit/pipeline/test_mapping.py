"""Columns become events and labels exactly, and every fault is named with its place."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event import EventRules, EventType, parse_event, parse_label
from features.spec_yaml import SpecError
from pipeline.mapping import MAPPINGS, LogMapping, TimeTerm, find_mapping
from pipeline.mapping_columns import minor_of, time_ms_of
from pipeline.mapping_rows import ColumnMapping
from pipeline.replay_rows import EVENT, LABEL, NO_TIME, Chunk, Mapped
from pipeline.replay_source import open_log

RULES = EventRules({"card_payment": EventType("card")}, frozenset({"EUR", "JPY", "KWD"}))
LATER_MS = 2**42
SMALL = """
event_type: {value: card_payment}
event_id: {column: id}
event_time: {column: at}
entities:
  card: {column: card}
  merchant: {column: shop}
amount: {column: paid, unit: major, currency: {column: currency}}
attributes:
  floor: {column: floor, type: integer}
  rate: {column: rate, type: number}
  gift: {column: gift, type: boolean}
labels:
  - label: {column: fraud, fraud: ["1"], legit: ["0"]}
    source: {value: chargeback}
    time: {after: 7d}
"""
ROW = {
    "id": "p1",
    "at": "2026-01-02T03:04:05.678Z",
    "card": "c1",
    "shop": "m1",
    "paid": "12.50",
    "currency": "EUR",
    "floor": "3",
    "rate": "0.25",
    "gift": "true",
    "fraud": None,
}


def load(tmp_path: Path, text: str) -> LogMapping:
    path = tmp_path / "log.yaml"
    path.write_text(text)
    return LogMapping.load(path)


def apply(mapping: LogMapping, *rows: dict[str, Any], schema: Any = None) -> Mapped:
    frame = pl.DataFrame(list(rows), schema=schema or dict.fromkeys(rows[0], pl.String))
    return ColumnMapping(mapping).items_of(Chunk(frame, np.arange(2, len(rows) + 2)))


def bodies(mapped: Mapped, kind: int) -> list[bytes]:
    return mapped.items.filter(pl.col("kind") == kind)["body"].to_list()


def test_a_row_becomes_its_event(tmp_path: Path) -> None:
    mapped = apply(load(tmp_path, SMALL), ROW)
    assert mapped.bad == []
    (body,) = bodies(mapped, EVENT)
    event = parse_event(body, RULES, LATER_MS)
    assert event.event_id == "p1"
    assert event.event_time == datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert event.entities == {"card": "c1", "merchant": "m1"}
    assert event.amount is not None
    assert (event.amount.value, event.amount.currency) == (1250, "EUR")
    assert event.attributes == {"floor": 3, "rate": 0.25, "gift": True}
    assert mapped.items["key"][0] == b"default\x1fcard\x1fc1"
    assert mapped.items["due_ms"][0] == event.event_time_ms
    assert mapped.items["line"][0] == 2


def test_an_empty_entity_or_attribute_is_left_out(tmp_path: Path) -> None:
    mapped = apply(load(tmp_path, SMALL), {**ROW, "shop": "", "floor": None})
    event = parse_event(bodies(mapped, EVENT)[0], RULES, LATER_MS)
    assert event.entities == {"card": "c1"}
    assert event.attributes == {"rate": 0.25, "gift": True}


def test_labels_come_after_their_delay(tmp_path: Path) -> None:
    mapping = load(tmp_path, SMALL)
    mapped = apply(mapping, {**ROW, "fraud": "1"}, {**ROW, "id": "p2", "fraud": "0"}, ROW)
    labels = [parse_label(body, RULES, LATER_MS) for body in bodies(mapped, LABEL)]
    assert [(label.event_id, label.label) for label in labels] == [("p1", "fraud"), ("p2", "legit")]
    assert labels[0].label_time == datetime(2026, 1, 9, 3, 4, 5, 678_000, tzinfo=UTC)
    assert (
        mapped.items.filter(pl.col("kind") == LABEL)["key"][0] == b"default\x1fcard_payment\x1fp1"
    )


def test_a_lognormal_delay_is_drawn_by_identity_and_has_its_median(tmp_path: Path) -> None:
    mapping = load(tmp_path, SMALL.replace("{after: 7d}", "{after: 60h, sigma: 0.5}"))
    rows = [{**ROW, "id": f"p{n}", "fraud": "1"} for n in range(2_000)]
    first, again = apply(mapping, *rows), apply(mapping, *reversed(rows))
    due = first.items.filter(pl.col("kind") == LABEL).sort("key")["due_ms"]
    assert due.equals(again.items.filter(pl.col("kind") == LABEL).sort("key")["due_ms"])
    delays = (due - first.items["due_ms"][0]).to_numpy() / 3.6e6
    assert 55 < np.median(delays) < 65
    assert 0.45 < np.std(np.log(delays)) < 0.55


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"id": ""}, "id", "is empty"),
        ({"id": "x" * 300}, "id", "is no identifier"),
        ({"card": None}, "card", "is empty"),
        ({"card": "a\x00b"}, "card", "is no identifier"),
        ({"at": "yesterday"}, "at", "'yesterday' is no time"),
        ({"at": "1969-12-31T23:59:59Z"}, "at", "before 1970"),
        ({"paid": "NaN"}, "paid", "'NaN' is no amount"),
        ({"paid": "1e3"}, "paid", "is no amount"),
        ({"paid": ""}, "paid", "is no amount"),
        ({"paid": "0.001"}, "paid", "is no amount"),
        ({"paid": "10000000000.01"}, "paid", "is no amount"),
        ({"paid": "1.5", "currency": "JPY"}, "paid", "is no amount"),
        ({"currency": "euro"}, "currency", "ISO 4217"),
        ({"floor": "high"}, "floor", "'high' is no integer"),
        ({"rate": "inf"}, "rate", "is no number"),
        ({"gift": "perhaps"}, "gift", "is no boolean"),
    ],
)
def test_a_bad_row_is_named_with_line_field_and_reason(
    tmp_path: Path, change: dict[str, Any], field: str, reason: str
) -> None:
    mapped = apply(load(tmp_path, SMALL), ROW, {**ROW, **change}, {**ROW, "id": "p3"})
    (bad,) = mapped.bad
    assert (bad.line, bad.field) == (3, field)
    assert reason in bad.reason
    assert len(bodies(mapped, EVENT)) == 2


def test_a_bad_label_is_reported_and_its_event_is_sent(tmp_path: Path) -> None:
    mapped = apply(load(tmp_path, SMALL), {**ROW, "fraud": "maybe"})
    assert [(bad.line, bad.field) for bad in mapped.bad] == [(2, "fraud")]
    assert len(bodies(mapped, EVENT)) == 1
    assert bodies(mapped, LABEL) == []


@given(st.integers(-(10**12), 10**12), st.sampled_from([("EUR", 2), ("JPY", 0), ("KWD", 3)]))
def test_decimal_amounts_are_exact(minor: int, currency: tuple[str, int]) -> None:
    code, digits = currency
    sign, whole = "-" if minor < 0 else "", abs(minor)
    text = sign + str(whole // 10**digits)
    if digits:
        text += f".{whole % 10**digits:0{digits}d}"
    frame = pl.DataFrame({"a": [text], "c": [code]})
    found = minor_of(pl.col("a"), pl.col("c"), minor=False, tolerance=0.0)
    assert frame.select(found).item() == minor


def test_a_float_column_with_binary_noise_is_what_was_meant(tmp_path: Path) -> None:
    schema = {**dict.fromkeys(ROW, pl.String), "paid": pl.Float64}
    rows = [{**ROW, "paid": value} for value in (85.64999999999999, 83.10000000000001, 0.5)]
    mapped = apply(load(tmp_path, SMALL), *rows, schema=schema)
    events = [parse_event(body, RULES, LATER_MS) for body in bodies(mapped, EVENT)]
    assert [e.amount.value for e in events if e.amount is not None] == [8565, 8310, 50]
    odd = apply(load(tmp_path, SMALL), {**ROW, "paid": 0.125}, schema=schema)
    assert [bad.field for bad in odd.bad] == ["paid"]
    nearest = SMALL.replace("unit: major", "unit: major, rounding: nearest")
    assert apply(load(tmp_path, nearest), {**ROW, "paid": 0.128}, schema=schema).bad == []


@pytest.mark.parametrize(
    ("values", "term", "expected"),
    [
        (["2026-01-01T00:00:00+02:00"], TimeTerm("t"), "2025-12-31T22:00:00"),
        (["1767225600"], TimeTerm("t", "epoch_s"), "2026-01-01T00:00:00"),
        ([1767225600123], TimeTerm("t", "epoch_ms"), "2026-01-01T00:00:00.123"),
        (["01/02/2026 03:04"], TimeTerm("t", "%d/%m/%Y %H:%M"), "2026-02-01T03:04:00"),
        (
            ["2026-07-01 12:00:00"],
            TimeTerm("t", "%Y-%m-%d %H:%M:%S", "Europe/Paris"),
            "2026-07-01T10:00:00",
        ),
        ([datetime(2026, 1, 1, 1, 2)], TimeTerm("t"), "2026-01-01T01:02:00"),  # noqa: DTZ001
    ],
)
def test_times_are_read_in_their_format_and_zone(
    values: list[Any], term: TimeTerm, expected: str
) -> None:
    frame = pl.DataFrame({"t": values})
    found = frame.select(time_ms_of(term, frame.schema)).item()
    assert found == round(datetime.fromisoformat(expected).replace(tzinfo=UTC).timestamp() * 1000)


def test_rows_without_a_time_are_marked(tmp_path: Path) -> None:
    frame = pl.DataFrame([ROW, {**ROW, "at": "never"}], schema=dict.fromkeys(ROW, pl.String))
    times = ColumnMapping(load(tmp_path, SMALL)).times_ms(Chunk(frame, np.arange(2)))
    assert times[1] == NO_TIME
    assert times[0] > 0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("event_id: {column: id}", "event_id: {}", r"log.yaml:3: event_id: expected {column"),
        ("event_id: {column: id}\n", "", r"log.yaml:\d+: document: expected the field 'event_id'"),
        ("unit: major", "unit: cents", r"log.yaml:8: amount.unit: expected one of: major, minor"),
        ("{after: 7d}", "{after: soon}", r"log.yaml:16: labels\[0\].time.after: expected a dur"),
        ("value: chargeback", "value: gossip", r"log.yaml:15: labels\[0\].source.value: expected"),
        ("type: integer", "type: int", r"log.yaml:10: attributes.floor.type: expected one of"),
        ("{column: at}", "{column: at, format: iso}", r"log.yaml:4: event_time.format: expected"),
        ("  card:", "  Card:", r"log.yaml:6: entities.Card: expected a name"),
        ("entities:", "entitys:", r"log.yaml:\d+: (entitys: unknown|document: expected)"),
        (', fraud: ["1"], legit: ["0"]', "", r"log.yaml:14: labels\[0\].label: expected lists"),
    ],
)
def test_a_fault_in_the_mapping_names_file_line_and_field(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert old in SMALL
    with pytest.raises(SpecError, match=says):
        load(tmp_path, SMALL.replace(old, new))


def test_a_log_without_a_column_is_refused_with_the_place_that_wants_it(tmp_path: Path) -> None:
    mapping = load(tmp_path, SMALL)
    with pytest.raises(SpecError, match=r"log.yaml:7: .*'shop'; it has: id, at"):
        mapping.check_columns([name for name in ROW if name != "shop"])


def test_an_unknown_mapping_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match="generator, handbook"):
        find_mapping("nonesuch")


def test_nothing_reads_the_truth_behind_the_labels() -> None:
    hidden = {"is_fraud", "scenario", "TX_FRAUD_SCENARIO"}
    for path in MAPPINGS.glob("*.yaml"):
        assert not hidden & set(LogMapping.load(path).columns)


def test_the_handbook_is_read_whole() -> None:
    path = os.environ.get("RISKBEAT_HANDBOOK")
    if not path:
        pytest.skip("RISKBEAT_HANDBOOK names no copy of the Handbook's transactions")
    log = open_log(Path(path))
    mapping = LogMapping.load(find_mapping("handbook"))
    columns = log.columns()
    assert columns is not None
    mapping.check_columns(columns)
    events = frauds = cents = 0
    for chunk in log.chunks():
        mapped = ColumnMapping(mapping).items_of(chunk)
        assert mapped.bad == []
        labels = mapped.items.filter(pl.col("kind") == LABEL)
        assert len(labels) == len(chunk.frame)
        events += len(chunk.frame)
        told = labels["body"].bin.contains(b'"label":"fraud"')
        frauds += int(told.sum())
        told = mapped.items.filter(pl.col("kind") == EVENT)["body"].cast(pl.String)
        cents += int(told.str.extract(r'"value":(\d+)').cast(pl.Int64).sum())
    amounts = pl.read_parquet(path, columns=["TX_AMOUNT"])["TX_AMOUNT"]
    assert (events, frauds) == (1_754_155, 14_681)
    assert math.isclose(cents / 100, amounts.sum(), rel_tol=1e-12)

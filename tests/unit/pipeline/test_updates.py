"""Rows as bytes of the updates topic, and back."""

import struct
from dataclasses import fields
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features.event import Amount, Event, from_ms
from features.update import EntityUpdates, updates_of_events
from pipeline.updates import (
    FORMAT_VERSION,
    Header,
    UpdateRecord,
    UpdatesUnreadable,
    decode_record,
    encode_record,
)
from tests.unit.features.specs import spec_of
from tests.unit.features.specs_rich import RICH


def an_event(number: int) -> Event:
    return Event(
        event_type="card_payment",
        event_id=f"e{number}",
        event_time=from_ms(1_000 * number),
        entities={"card": f"c{number}", "merchant": "m"},
        amount=Amount(10_000 * number - 15_000, "EUR"),
        attributes={"channel": "ecom", "country": "DE", "lat": 1.5, "lon": -0.5},
    )


@pytest.fixture
def record(tmp_path: Path) -> UpdateRecord:
    rows = updates_of_events(spec_of(RICH, tmp_path), [an_event(n) for n in range(5)])
    n = len(rows)
    header = Header(
        version=FORMAT_VERSION,
        source="e",
        source_partition=3,
        first=10,
        end=20,
        until_ms=7,
        digest="d" * 64,
        epoch=2,
        rows=n,
        fields=rows.fields.shape[1],
    )
    offset = np.sort(10 + np.arange(n) % 10).astype(np.int64)
    return UpdateRecord(header, rows, offset, offset + 100, np.zeros(n, np.int64))


def test_every_column_comes_back_with_its_type(record: UpdateRecord) -> None:
    assert {0b001, 0b111} & set(record.rows.filters.tolist())
    back = decode_record(encode_record(record))
    assert back.header == record.header
    assert back.rows.keys == record.rows.keys
    for name in (field.name for field in fields(EntityUpdates)):
        if name in ("keys", "row_event"):  # which event a row is of is told by its offset
            continue
        sent, got = getattr(record.rows, name), getattr(back.rows, name)
        assert got.dtype == sent.dtype, name
        assert np.array_equal(got, sent), name
    for name in ("offset", "appended_ms", "seq"):
        assert np.array_equal(getattr(back, name), getattr(record, name))


def test_another_format_is_refused_by_its_version(record: UpdateRecord) -> None:
    data = encode_record(record)
    old = msgspec.msgpack.encode(msgspec.structs.replace(record.header, version=1))
    (length,) = struct.unpack_from("<I", data)
    body = data[4 + length :]
    with pytest.raises(UpdatesUnreadable, match="version 1 of source 'e'"):
        decode_record(struct.pack("<I", len(old)) + old + body)


@pytest.mark.parametrize("cut", [1, 3, 40, 200])
def test_a_record_that_is_not_whole_is_refused(record: UpdateRecord, cut: int) -> None:
    with pytest.raises(UpdatesUnreadable, match="bytes"):
        decode_record(encode_record(record)[:-cut])


def test_foreign_bytes_are_named() -> None:
    for data in (b"", b"abc", b"\xff" * 40, b"\x02\x00\x00\x00\x91\x01"):
        with pytest.raises(UpdatesUnreadable):
            decode_record(data)

"""Decisions by id: found, unknown, too early to say; and the file that they stand in."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from api.lookup import Indexed, IndexUnavailable, key_of
from api.lookup_kafka import row_of
from api.lookup_sqlite import Row, SqliteReader, SqliteWriter
from api.publish import Outgoing
from models.decision import Decision
from tests.fakes_http import BODY, Site
from tests.fakes_serving import NOW_MS

HOUR_MS = 3_600_000
MIB = 1024 * 1024


def a_row(
    number: int, *, offset: int | None = None, at_ms: int = NOW_MS, partition: int = 0
) -> Row:
    answer = msgspec.json.encode({"n": number, "pad": "x" * 700})
    return Row(
        number.to_bytes(16, "big"),
        partition,
        number if offset is None else offset,
        at_ms,
        "default",
        answer,
    )


def put(writer: SqliteWriter, *rows: Row, now_ms: int = NOW_MS) -> None:
    nexts = {row.partition: row.offset + 1 for row in rows}
    writer.commit(rows, nexts, now_ms, now_ms)


def found(path: Path, number: int) -> bool:
    return SqliteReader(path).find(number.to_bytes(16, "big")) is not None


async def test_the_answer_is_the_recorded_decision(site: Site) -> None:
    answer = await site.post("/v1/decisions", BODY)
    name = answer.json()["decision_id"]
    [record] = site.stand.log.of(site.stand.topics.decisions)
    row = indexed(record)
    assert row.answer == answer.content
    site.index.kept[row.key] = Indexed(row.tenant, row.answer)
    looked = await site.client.get(f"/v1/decisions/{name}")
    assert (looked.status_code, looked.content) == (200, answer.content)


def indexed(record: Outgoing) -> Row:
    row = row_of(record.value, 0, 0)
    assert row is not None
    assert row.tenant == "default"
    assert msgspec.json.decode(row.answer, type=Decision).status == "new"
    return row


@pytest.mark.parametrize(
    "name", ["dec_" + "0" * 32, "dec_x", "x", "", "a/b", "%00", "%FF", "..%2F"]
)
async def test_an_unknown_id_is_404(site: Site, name: str) -> None:
    response = await site.client.get(f"/v1/decisions/{name}")
    assert response.status_code == 404
    assert response.json()["type"] == "urn:riskbeat:problem:no_such_decision"


async def test_an_index_that_is_behind_does_not_say_that_there_is_none(site: Site) -> None:
    for upto_ms, said in ((0, "still being filled"), (NOW_MS - 60_000, "60 s behind")):
        site.index.upto_ms = upto_ms
        response = await site.client.get("/v1/decisions/dec_" + "0" * 32)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert said in response.json()["detail"]
    site.index.away = True
    response = await site.client.get("/v1/decisions/dec_" + "0" * 32)
    assert response.status_code == 503


async def test_only_get_is_taken(site: Site) -> None:
    response = await site.post("/v1/decisions/dec_" + "0" * 32, {})
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("value", [b"", b"{}", b"not json", b"\xff", b'{"decision_id": 3}'])
def test_what_is_no_decision_is_no_row(value: bytes) -> None:
    assert row_of(value, 0, 0) is None


def test_ids_have_one_spelling() -> None:
    assert key_of("dec_" + "ab" * 16) == b"\xab" * 16
    for bad in ("dec_" + "AB" * 16, "dec_" + "ab" * 15, "dec_" + "ab" * 17, "xab" * 16):
        assert key_of(bad) is None


def test_rows_and_positions_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "index.sqlite"
    writer = SqliteWriter(path, 3600, MIB)
    put(writer, *(a_row(i) for i in range(100)))
    writer.close()
    again = SqliteWriter(path, 3600, MIB)
    assert (again.positions(), again.count) == ({0: 100}, 100)
    assert found(path, 0) and found(path, 99) and not found(path, 100)
    assert SqliteReader(path).as_of_ms() == NOW_MS


def test_of_two_records_of_one_id_the_lower_offset_counts(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / "i.sqlite", 3600, MIB)
    late, early = a_row(1, offset=9)._replace(answer=b"late"), a_row(1, offset=3)
    for order in ([late, early], [early, late]):
        writer.begin_anew()
        put(writer, *order)
        kept = SqliteReader(tmp_path / "i.sqlite").find(late.key)
        assert kept is not None and kept.answer == early.answer


def test_the_oldest_leave_by_age(tmp_path: Path) -> None:
    path = tmp_path / "i.sqlite"
    writer = SqliteWriter(path, 3600, 64 * MIB)
    put(writer, *(a_row(i) for i in range(10)))
    put(writer, *(a_row(i, at_ms=NOW_MS + HOUR_MS) for i in range(10, 20)))
    put(writer, a_row(20, at_ms=NOW_MS + HOUR_MS + 1), now_ms=NOW_MS + HOUR_MS + 1)
    assert [found(path, i) for i in (0, 9, 10, 20)] == [False, False, True, True]


def test_the_oldest_leave_by_bytes_and_the_file_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "i.sqlite"
    writer = SqliteWriter(path, 1e9, MIB)
    for start in range(0, 30_000, 500):
        rows = [
            a_row(i)._replace(answer=i.to_bytes(4, "big") * 1 + bytes(range(256)))
            for i in range(start, start + 500)
        ]
        put(writer, *rows)
        assert writer.used_bytes < 2 * MIB
    assert path.stat().st_size < 3 * MIB
    assert found(path, 29_999) and not found(path, 0)
    assert writer.count > 500


def test_what_is_no_index_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "i.sqlite"
    path.write_bytes(b"rubbish" * 1000)
    put(SqliteWriter(path, 3600, MIB), a_row(1))
    assert found(path, 1)
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    assert SqliteWriter(path, 3600, MIB).count == 0


def test_a_reader_waits_for_no_file_and_follows_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "i.sqlite"
    reader = SqliteReader(path)
    with pytest.raises(IndexUnavailable):
        reader.find(b"x" * 16)
    put(SqliteWriter(path, 3600, MIB), a_row(1))
    assert reader.find(a_row(1).key) is not None
    for name in tmp_path.iterdir():
        name.unlink()
    put(SqliteWriter(path, 3600, MIB), a_row(2))
    assert (reader.find(a_row(1).key), reader.find(a_row(2).key) is None) == (None, False)
    reader.close()

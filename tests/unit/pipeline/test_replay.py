"""History as a stream: in order, each item when it was due, each once, whatever interrupts it."""

import asyncio
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.event import EventRules, EventType
from pipeline import replay_order, replay_source
from pipeline.mapping import LogMapping
from pipeline.mapping_events import EventMapping
from pipeline.mapping_rows import ColumnMapping
from pipeline.replay import Replay
from pipeline.replay_order import in_order, look_at
from pipeline.replay_ports import Batch, ReplayOptions, TargetFailed, Told
from pipeline.replay_progress import BadRows, ProgressFile, ReplayRefused, fingerprint
from pipeline.replay_rows import EVENT, LABEL, RowMapping
from pipeline.replay_source import LogUnreadable, open_log

MAPPING = """
event_type: {value: card_payment}
event_id: {column: id}
event_time: {column: at, format: epoch_ms}
entities: {card: {column: card}}
labels:
  - label: {column: fraud, fraud: ["1"], legit: ["0"]}
    source: {value: chargeback}
    time: {column: known, format: epoch_ms}
"""
BASE_MS = 1_700_000_000_000
RULES = EventRules({"card_payment": EventType("card", amount_required=False)}, frozenset())


class Aborted(Exception):
    """The process died here."""


class MemoryTarget:
    """A log of two topics with three partitions; dies after so many items, perhaps unacknowledged.

    What was written stays when the sender dies; a new sender finds it as the real one does.
    """

    def __init__(self, log: dict[int, list[tuple[int, bytes]]]) -> None:
        self.log = log
        self.abort_after: int | None = None
        self._sent: dict[int, int] = {}
        self._acked = 0
        self._positions: dict[str, int] = {}

    async def begin(self, run_id: str, positions: dict[str, int] | None) -> dict[str, int]:
        self._sent = {}
        if positions is not None:
            for partition, records in self.log.items():
                numbers = [number for number, _ in records[positions[str(partition)] :]]
                if numbers:
                    self._sent[partition] = max(numbers)
        self._positions = positions or {str(p): len(self.log[p]) for p in self.log}
        return dict(self._positions)

    async def send_many(self, batch: Batch) -> None:
        for row, (kind, key, body) in enumerate(
            zip(batch.kinds, batch.keys, batch.bodies, strict=True)
        ):
            partition = kind * 3 + key[-1] % 3
            number = batch.first + row
            if number <= self._sent.get(partition, -1):
                continue
            if self.abort_after is not None:
                if self.abort_after == 0:
                    raise Aborted
                self.abort_after -= 1
            self.log[partition].append((number, body))
        self._acked = batch.first + len(batch)
        self._positions = {str(p): len(self.log[p]) for p in self.log}

    async def flush(self) -> None:
        pass

    def acked(self) -> tuple[int, dict[str, int]]:
        return self._acked, dict(self._positions)


class Timed:
    """A clock that moves when somebody sleeps, and notes when items came."""

    def __init__(self) -> None:
        self.now = 1000.0

    def now_s(self) -> float:
        return self.now

    async def sleep(self, duration_s: float) -> None:
        self.now += duration_s
        await asyncio.sleep(0)


class TimedTarget(MemoryTarget):
    def __init__(self, clock: Timed) -> None:
        super().__init__({p: [] for p in range(6)})
        self.clock = clock
        self.arrivals: list[tuple[float, bytes]] = []

    async def send_many(self, batch: Batch) -> None:
        self.arrivals += [(self.clock.now - 1000.0, body) for body in batch.bodies]
        await super().send_many(batch)


def rows_of(times: list[int], known_after: list[int | None]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{n}",
            "at": BASE_MS + at,
            "card": f"c{n % 7}",
            "fraud": None if after is None else str(n % 2),
            "known": None if after is None else BASE_MS + at + after,
        }
        for n, (at, after) in enumerate(zip(times, known_after, strict=True))
    ]


def some_rows(count: int, *, shuffled: bool = False, seed: int = 1) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    times = sorted(chance.randrange(100_000) for _ in range(count))
    after = [chance.choice([None, 0, chance.randrange(50_000)]) for _ in range(count)]
    rows = rows_of(times, after)
    if shuffled:
        chance.shuffle(rows)
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if path.name.endswith(".parquet"):
        frame.write_parquet(path)
    elif path.name.endswith(".csv"):
        frame.write_csv(path)
    elif path.name.endswith(".csv.gz"):
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        frame.write_ndjson(path)
    return path


def expected(rows: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    """Say by brute force what leaves when: (due, kind, id)."""
    items = [(row["at"], EVENT, line, row["id"]) for line, row in enumerate(rows)]
    items += [
        (row["known"], LABEL, line, row["id"])
        for line, row in enumerate(rows)
        if row["fraud"] is not None
    ]
    return [(due, kind, name) for due, kind, _, name in sorted(items)]


def mapping_in(folder: Path) -> ColumnMapping:
    path = folder / "log.yaml"
    path.write_text(MAPPING)
    return ColumnMapping(LogMapping.load(path))


def items_in(path: Path, mapping: RowMapping) -> list[tuple[int, int, str]]:
    log = open_log(path, raw=mapping.wants_raw)
    pieces = in_order(log, mapping, look_at(log, mapping))
    return [
        (due, kind, json.loads(body)["event_id"])
        for piece in pieces
        for due, kind, body in piece.items.select("due_ms", "kind", "body").iter_rows()
    ]


async def run(
    path: Path,
    mapping: RowMapping,
    target: MemoryTarget,
    options: ReplayOptions | None = None,
    progress: Path | None = None,
    **more: Any,
) -> Told:
    log = open_log(path, raw=mapping.wants_raw)
    facts = look_at(log, mapping)
    with BadRows(more.pop("report", None), str(path)) as bad_rows:
        replay = Replay(
            facts,
            target,
            options or ReplayOptions(),
            bad_rows=bad_rows,
            source=fingerprint(path, "m"),
            progress=ProgressFile(progress) if progress is not None else None,
            **more,
        )
        return await replay.run(in_order(log, mapping, facts))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(replay_source, "CHUNK_ROWS", 37)
    monkeypatch.setattr(replay_order, "RUN_ITEMS", 100)
    monkeypatch.setattr(replay_order, "PIECE_ITEMS", 50)
    monkeypatch.setattr(replay_order, "SHARE_MIN_ITEMS", 7)
    yield


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".jsonl"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_items_come_in_order_of_when_they_were_known(
    tmp_path: Path, suffix: str, shuffled: bool
) -> None:
    rows = some_rows(500, shuffled=shuffled)
    path = write(tmp_path / f"log{suffix}", rows)
    assert items_in(path, mapping_in(tmp_path)) == expected(rows)


def test_a_log_knows_whether_it_is_sorted(tmp_path: Path) -> None:
    mapping = mapping_in(tmp_path)
    rows = some_rows(200)
    sorted_log = open_log(write(tmp_path / "a.csv", rows))
    facts = look_at(sorted_log, mapping)
    assert (facts.rows, facts.sorted) == (200, True)
    assert (facts.first_ms, facts.last_ms) == (rows[0]["at"], rows[-1]["at"])
    rows[100], rows[199] = rows[199], rows[100]
    assert not look_at(open_log(write(tmp_path / "b.csv", rows)), mapping).sorted


def test_equal_times_keep_events_before_labels_and_the_order_of_the_log(tmp_path: Path) -> None:
    rows = rows_of([0, 5, 5, 5, 5], [5, 0, None, None, None])
    path = write(tmp_path / "log.csv", rows)
    names = [(kind, name) for _, kind, name in items_in(path, mapping_in(tmp_path))]
    assert names == [
        (EVENT, "p0"), (EVENT, "p1"), (EVENT, "p2"), (EVENT, "p3"), (EVENT, "p4"),
        (LABEL, "p0"), (LABEL, "p1"),
    ]  # fmt: skip


async def test_items_leave_when_they_are_due(tmp_path: Path) -> None:
    rows = rows_of([0, 1_000, 1_001, 60_000], [30_000, None, None, 20_000])
    clock = Timed()
    target = TimedTarget(clock)
    path = write(tmp_path / "log.csv", rows)
    await run(path, mapping_in(tmp_path), target, ReplayOptions(speed=10.0), clock=clock)
    due_s = [0, 0.1, 0.1001, 3.0, 6.0, 8.0]
    assert len(target.arrivals) == 6
    for (came_s, _), want_s in zip(target.arrivals, due_s, strict=True):
        assert want_s <= came_s + 1e-9 <= want_s + 0.011


async def test_a_target_that_was_slow_is_caught_up_with(tmp_path: Path) -> None:
    clock = Timed()

    class Slow(TimedTarget):
        async def send_many(self, batch: Batch) -> None:
            await super().send_many(batch)
            if len(self.arrivals) == 1:
                clock.now += 5.0

    target = Slow(clock)
    path = write(tmp_path / "log.csv", rows_of([n * 1000 for n in range(10)], [None] * 10))
    await run(path, mapping_in(tmp_path), target, ReplayOptions(speed=1.0), clock=clock)
    came = [came_s for came_s, _ in target.arrivals]
    assert came[1:6] == [5.0] * 5
    assert came[9] == pytest.approx(9.0, abs=0.01)


async def test_the_barrier_is_awaited_between_slices_from_the_first_event(tmp_path: Path) -> None:
    target = MemoryTarget({p: [] for p in range(6)})
    seen: list[int] = []

    class Watcher:
        async def wait(self) -> None:
            seen.append(sum(len(records) for records in target.log.values()))

    times = [100, 150, 199, 200, 520, 530]
    path = write(tmp_path / "log.csv", rows_of(times, [None, 100, None, None, None, None]))
    told = await run(
        path,
        mapping_in(tmp_path),
        target,
        ReplayOptions(barrier_ms=100),
        barrier=Watcher(),
    )
    # slices [100, 200), [200, 300) with the label of 250, then nothing, then [500, 600)
    assert seen == [3, 5, 7]
    assert told.events == 6


@pytest.mark.parametrize(
    ("options", "events", "labels"),
    [
        (ReplayOptions(), 4, 3),
        (ReplayOptions(tail=False), 4, 1),
        (ReplayOptions(limit_events=2), 2, 0),
        (ReplayOptions(limit_events=4), 4, 1),
        (ReplayOptions(limit_events=9), 4, 3),
        (ReplayOptions(until_ms=BASE_MS + 300), 3, 1),
        (ReplayOptions(until_ms=BASE_MS + 150), 2, 0),
        (ReplayOptions(until_ms=BASE_MS), 0, 0),
    ],
)
async def test_a_cut_sends_nothing_that_was_not_known_by_then(
    tmp_path: Path, options: ReplayOptions, events: int, labels: int
) -> None:
    path = write(tmp_path / "log.csv", rows_of([0, 100, 200, 300], [150, 500, None, 1]))
    target = MemoryTarget({p: [] for p in range(6)})
    told = await run(path, mapping_in(tmp_path), target, options)
    assert (told.events, told.labels) == (events, labels)
    assert sum(len(records) for records in target.log.values()) == events + labels


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


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    aborts=st.lists(st.integers(0, 160), max_size=6),
    saves=st.booleans(),
    shuffled=st.booleans(),
    seed=st.integers(0, 5),
)
def test_whatever_interrupts_it_each_item_is_sent_once(
    tmp_path_factory: pytest.TempPathFactory,
    aborts: list[int],
    saves: bool,
    shuffled: bool,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("resume")
    rows = some_rows(150, shuffled=shuffled, seed=seed)
    path = write(folder / "log.parquet", rows)
    mapping = mapping_in(folder)
    progress = folder / "progress.json"
    log: dict[int, list[tuple[int, bytes]]] = {p: [(-1, b"of somebody else")] for p in range(6)}
    for abort in aborts:
        target = MemoryTarget(log)
        target.abort_after = abort
        before = progress.read_bytes() if progress.exists() else None
        try:
            asyncio.run(run(path, mapping, target, progress=progress))
        except Aborted:
            if not saves and before is not None:
                progress.write_bytes(before)  # killed: nothing was saved on the way out
            continue
        except ReplayRefused:
            break
    try:
        asyncio.run(run(path, mapping, MemoryTarget(log), progress=progress))
    except ReplayRefused as error:
        assert "has ended" in str(error)
    sent = sorted(
        (number, kind_of, json.loads(body)["event_id"])
        for partition, records in log.items()
        for number, body in records[1:]
        for kind_of in [partition // 3]
    )
    assert [number for number, *_ in sent] == list(range(len(sent)))
    assert [(kind, name) for _, kind, name in sent] == [
        (kind, name) for _, kind, name in expected(rows)
    ]
    for records in log.values():
        assert [number for number, _ in records] == sorted(number for number, _ in records)


async def test_progress_of_another_log_or_of_an_ended_replay_is_refused(tmp_path: Path) -> None:
    mapping = mapping_in(tmp_path)
    path = write(tmp_path / "log.csv", some_rows(20))
    progress = tmp_path / "progress.json"
    target = MemoryTarget({p: [] for p in range(6)})
    await run(path, mapping, target, progress=progress)
    with pytest.raises(ReplayRefused, match="has ended"):
        await run(path, mapping, target, progress=progress)
    other = write(tmp_path / "other.csv", some_rows(20, seed=2))
    with pytest.raises(ReplayRefused, match="another log"):
        await run(other, mapping, target, progress=progress)
    progress.write_bytes(b"{")
    with pytest.raises(ReplayRefused, match="no progress file"):
        await run(path, mapping, target, progress=progress)


async def test_a_failing_target_ends_the_replay_with_its_progress_saved(tmp_path: Path) -> None:
    class Failing(MemoryTarget):
        async def send_many(self, batch: Batch) -> None:
            if batch.first >= 60:
                raise TargetFailed("no broker")
            await super().send_many(batch)

    progress = tmp_path / "progress.json"
    path = write(tmp_path / "log.csv", some_rows(100))
    target = Failing({p: [] for p in range(6)})
    with pytest.raises(TargetFailed):
        await run(path, mapping_in(tmp_path), target, progress=progress)
    saved = msgspec.json.decode(progress.read_bytes())
    target_items = len(expected(some_rows(100)))
    assert 60 <= saved["acked"] < target_items
    assert not saved["finished"]


async def test_progress_is_told(tmp_path: Path) -> None:
    heard: list[tuple[int, float]] = []
    path = write(tmp_path / "log.csv", some_rows(300))
    target = MemoryTarget({p: [] for p in range(6)})
    told = await run(
        path,
        mapping_in(tmp_path),
        target,
        on_told=lambda told: heard.append((told.events, told.fraction)),
    )
    assert heard[-1] == (300, 1.0)
    assert heard == sorted(heard)
    assert told.finished

"""Small logs, a target that remembers, and a replay over them."""

import asyncio
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.event import EventRules, EventType
from pipeline import replay_order, replay_source
from pipeline.mapping import LogMapping
from pipeline.mapping_rows import ColumnMapping
from pipeline.replay import Replay
from pipeline.replay_order import in_order, look_at
from pipeline.replay_ports import Batch, ReplayOptions, Told
from pipeline.replay_progress import BadRows, ProgressFile, fingerprint
from pipeline.replay_rows import EVENT, LABEL, RowMapping
from pipeline.replay_source import open_log

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


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(replay_source, "CHUNK_ROWS", 37)
    monkeypatch.setattr(replay_order, "RUN_ITEMS", 100)
    monkeypatch.setattr(replay_order, "PIECE_ITEMS", 50)
    monkeypatch.setattr(replay_order, "SHARE_MIN_ITEMS", 7)
    yield

"""What riskbeat does by itself is written down in order, once, whenever the log takes it."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from models import audit_trail
from models.audit import Act
from models.audit_trail import WAITING_MAX, Trail, writing
from tests.fakes_audit import MemoryAuditLog

ACT = Act(
    subject="rollout", verb="advance", target="rollout 1 of 7", by="riskbeat", why="baked", at_ms=1
)
DEADLINE_S = 10.0


class Ears:
    def __init__(self) -> None:
        self.waits: list[str] = []
        self.lost: list[Act] = []

    def audit_waits(self, detail: str) -> None:
        self.waits.append(detail)

    def audit_lost(self, act: Act) -> None:
        self.lost.append(act)


def numbered(number: int) -> Act:
    return msgspec.structs.replace(ACT, at_ms=number)


async def kept(log: MemoryAuditLog) -> list[int]:
    rows = await log.read()
    assert all(row.entry.state == "done" for row in rows)
    return [row.entry.act.at_ms for row in rows]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if true():
                return
            await asyncio.sleep(0)


async def test_what_is_noted_is_appended_as_done_in_order() -> None:
    log = MemoryAuditLog()
    trail = Trail(log, Ears())
    trail.note(numbered(1))
    async with writing(trail):
        trail.note(numbered(2))
        await until(lambda: len(log.records) == 2)
        trail.note(numbered(3))
        await until(lambda: len(log.records) == 3)
    assert await kept(log) == [1, 2, 3]


async def test_it_waits_while_the_log_is_away_and_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit_trail, "AGAIN_S", 0.001)
    log = MemoryAuditLog()
    log.away_after = 1
    trail = Trail(log, Ears())
    async with writing(trail):
        for number in range(1, 4):
            trail.note(numbered(number))
        await until(lambda: log.away_after == 0)
        assert await kept(log) == [1]
        log.away_after = None
        await until(lambda: len(log.records) == 3)
    assert await kept(log) == [1, 2, 3]


async def test_what_is_left_at_the_end_is_written_then() -> None:
    log = MemoryAuditLog()
    trail = Trail(log, Ears())
    stopping = asyncio.Event()
    stopping.set()
    trail.note(numbered(1))
    await trail.run(stopping)
    assert await kept(log) == [1]


async def test_an_end_does_not_wait_for_a_log_that_is_away() -> None:
    log = MemoryAuditLog()
    log.away_after = 0
    trail = Trail(log, Ears())
    async with writing(trail):
        trail.note(numbered(1))
    assert await kept(log) == []


async def test_a_record_that_is_no_entry_ends_nobody() -> None:
    log, ears = MemoryAuditLog(), Ears()
    log.records.append(b"not ours")
    trail = Trail(log, ears)
    async with writing(trail):
        trail.note(numbered(1))
        await until(lambda: bool(ears.waits))
    assert len(log.records) == 1


def test_what_finds_no_room_is_told() -> None:
    ears = Ears()
    trail = Trail(MemoryAuditLog(), ears)
    for number in range(WAITING_MAX + 3):
        trail.note(numbered(number))
    assert [act.at_ms for act in ears.lost] == [WAITING_MAX, WAITING_MAX + 1, WAITING_MAX + 2]

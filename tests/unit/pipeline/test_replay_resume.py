"""Whatever interrupts a replay, each item is sent once."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.replay_ports import Batch, TargetFailed
from pipeline.replay_progress import ReplayRefused
from tests.replaying import (
    Aborted,
    MemoryTarget,
    expected,
    mapping_in,
    run,
    small_chunks,
    some_rows,
    write,
)

pytestmark = pytest.mark.usefixtures("small_chunks")


__all__ = ["small_chunks"]


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

"""Decisions held against a log: what was made as it says, what was not, and what was stale."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from api.overlay_place import Place as Stands
from features.event import identity_of, parse_event
from features.spec import Spec
from features.update import LabelTransition
from models.decision import DecisionRecord
from models.decision_codec import decode_vector, encode_record, encode_vector
from pipeline.featurize import Place
from pipeline.replay_source import LogUnreadable
from pipeline.skew import LOG_BEGINS_LATER, LOG_ENDS_BEFORE, OTHER_SPEC, SkewReport, compare
from pipeline.skew_index import index_log
from pipeline.skew_log import (
    Placed,
    read_decisions,
    read_log,
    write_decisions,
    write_log,
)
from tests.backfilling import SPEC_TEXT, OnlinePath, a_log
from tests.fakes_featurize import EVENTS, LABELS, NOW_MS, UPDATES_PARTITIONS
from tests.recompute import LogIndex

DELAYED = 7  # items that the worker lies behind


class LaggingPath(OnlinePath):
    """The worker counts an item only when some more have been decided."""

    def __init__(self, spec: Spec, folder: Path, items_behind: int, overlay_s: float = 0.0) -> None:
        super().__init__(spec, folder, 0, overlay_s)
        self.items_behind = items_behind
        self.waiting: list[Place] = []

    async def _count(self, topic: str, body: bytes) -> None:
        place = Place(topic, 0)
        self.log.append(place, body, self.clock_ms)
        self.waiting.append(place)
        while len(self.waiting) > self.items_behind:
            await self._count_next(self.waiting.pop(0))


class RepeatedPath(LaggingPath):
    """Some events come again; the scorer hears where the log put each, or only each that is new."""

    def __init__(self, spec: Spec, folder: Path, *, places_repeats: bool) -> None:
        super().__init__(spec, folder, 3, overlay_s=3_600.0)
        self.places_repeats = places_repeats
        self.heard: set[str] = set()

    async def _count(self, topic: str, body: bytes) -> None:
        await super()._count(topic, body)
        if topic != EVENTS:
            return
        name = identity_of(parse_event(body, self.spec.event_rules, NOW_MS))
        if self.places_repeats or name not in self.heard:
            offset = self.log.records[Place(topic, 0)][-1].offset
            self.decider.overlay.place(name, Stands(0, offset))
        self.heard.add(name)


class Past:
    """A log and the decisions that were made on it."""

    def __init__(self, spec: Spec, path: LaggingPath, decisions: list[DecisionRecord]) -> None:
        self.spec = spec
        self.decisions = decisions
        self.log = [
            Placed("events" if topic == EVENTS else "label_updates", 0, r.offset, r.timestamp, body)
            for topic in (EVENTS, LABELS)
            for r in path.log.records[Place(topic, 0)]
            if (body := r.value) is not None
        ]

    def compare(
        self, decisions: Sequence[DecisionRecord] | None = None, log: list[Placed] | None = None
    ) -> SkewReport:
        index = index_log(self.spec, UPDATES_PARTITIONS, self.log if log is None else log)
        chosen = self.decisions if decisions is None else decisions
        return compare(self.spec, index, UPDATES_PARTITIONS, chosen)


async def a_past(folder: Path, seed: int, items_behind: int, overlay_s: float = 0.0) -> Past:
    path = folder / "features.yaml"
    path.write_text(SPEC_TEXT)
    spec = Spec.load(path)
    online = LaggingPath(spec, folder, items_behind, overlay_s)
    await online.start()
    taken = [await online.take(body) for body in a_log(seed)]
    return Past(spec, online, [record for record in taken if record is not None])


@pytest.fixture
async def past(tmp_path: Path) -> Past:
    return await a_past(tmp_path, 1, DELAYED)


@pytest.mark.parametrize("seed", range(3))
async def test_vectors_are_made_again_bit_for_bit_at_the_watermarks_that_they_name(
    tmp_path: Path, seed: int
) -> None:
    past = await a_past(tmp_path, seed, DELAYED)
    report = past.compare()
    assert report.compared == len(past.decisions) > 50
    assert report.defective == 0
    assert not any(skew.unequal for skew in report.remade)
    oracle = LogIndex(past.spec, UPDATES_PARTITIONS)  # another reading of the same log
    rules = past.spec.event_rules
    oracle.add_events(
        0, [(p.offset, parse_event(p.value, rules, NOW_MS)) for p in past.log if p[0] == "events"]
    )
    turns = msgspec.json.Decoder(LabelTransition)
    oracle.add_transitions(
        0, [(p.offset, turns.decode(p.value)) for p in past.log if p[0] == "label_updates"]
    )
    for record in past.decisions:
        assert oracle.vector(record).tobytes() == decode_vector(record.vector).tobytes()


@pytest.mark.parametrize("seed", range(6))
async def test_what_was_applied_while_nobody_knew_where_it_stood_is_applied_again(
    tmp_path: Path, seed: int
) -> None:
    """The scorer never hears where its events went, so it adds those that states have already."""
    past = await a_past(tmp_path, seed, items_behind=2, overlay_s=3_600.0)
    report = past.compare()
    assert report.compared == len(past.decisions) > 50
    assert sum(len(record.overlay) for record in past.decisions) > 50
    assert report.defects == []


@pytest.mark.parametrize("places_repeats", [False, True])
async def test_a_repeat_must_not_be_said_to_stand_where_its_second_copy_does(
    tmp_path: Path, places_repeats: bool
) -> None:
    """The decision says what it added; where the second copy stands would say that wrongly."""
    defective = 0
    for seed in range(6):
        folder, rng, items = tmp_path / f"{seed}", random.Random(seed), list[bytes]()
        folder.mkdir()
        (folder / "features.yaml").write_text(SPEC_TEXT)
        spec = Spec.load(folder / "features.yaml")
        for item in a_log(seed):
            items.append(item)
            events = [item for item in items if b"label_time" not in item]
            if rng.random() < 0.3 and len(events) > 8:
                items.append(events[-rng.randrange(5, 9)])
        path = RepeatedPath(spec, folder, places_repeats=places_repeats)
        await path.start()
        taken = [await path.take(item) for item in items]
        report = Past(spec, path, [record for record in taken if record is not None]).compare()
        assert report.compared > 50
        defective += report.defective
    assert (defective > 0) == places_repeats


async def test_a_worker_that_lies_behind_shows_as_staleness_and_not_as_a_defect(
    past: Past, tmp_path: Path
) -> None:
    report = past.compare()
    stale = {skew.name for skew in report.fresh if skew.unequal}
    assert report.stale > 10
    assert report.defective == 0
    assert "merchant.count_over_1h" in stale
    assert "event.amount" not in stale
    (tmp_path / "prompt").mkdir()
    prompt = await a_past(tmp_path / "prompt", 1, 0)
    assert prompt.compare().stale == 0


async def test_a_planted_difference_is_found_and_measured(past: Past) -> None:
    column = past.spec.feature_names.index("merchant.mean_of_amount_over_1h")
    with_value = [
        n
        for n, record in enumerate(past.decisions)
        if not math.isnan(decode_vector(record.vector)[column])
    ]
    rng = random.Random(1)
    chosen = rng.sample(with_value, 4)
    decisions = list(past.decisions)
    for n, by in zip(chosen, (1.0, 2.0, 3.0, math.nan), strict=True):
        x = decode_vector(decisions[n].vector)
        x[column] += np.float32(by)
        decisions[n] = msgspec.structs.replace(decisions[n], vector=encode_vector(x))
    report = past.compare(decisions)
    assert report.defective == 4
    assert set(report.defects) <= {decisions[n].decision_id for n in chosen}
    unlike = {skew.name: skew for skew in report.remade if skew.unequal}
    assert list(unlike) == ["merchant.mean_of_amount_over_1h"]
    found = unlike["merchant.mean_of_amount_over_1h"]
    assert (found.unequal, found.missing) == (4, 1)
    assert found.share == pytest.approx(4 / len(decisions))
    assert found.largest == pytest.approx(3.0, abs=1e-2)
    assert found.mean == pytest.approx(6.0 / (len(with_value) - 1), rel=1e-2)


async def test_a_lost_event_is_a_defect(past: Past) -> None:
    event = past.decisions[-6].event  # one that is on time, and that a later one looks back at
    lost = [p for p in past.log if event.event_id.encode() not in p.value]
    assert past.compare(log=lost).defective > 0


async def test_what_cannot_be_compared_is_left_out_by_name(past: Past) -> None:
    other = msgspec.structs.replace(past.decisions[0], spec_digest="0" * 64)
    assert past.compare([other]).left_out == {OTHER_SPEC: 1}
    early = [p for p in past.log if p.topic == "label_updates" or p.offset < 20]
    report = past.compare(log=early)
    assert report.left_out[LOG_ENDS_BEFORE] > 0
    assert report.defective == 0
    late = [p for p in past.log if p.topic == "label_updates" or p.offset >= 20]
    report = past.compare(log=late)
    assert list(report.left_out) == [LOG_BEGINS_LATER]
    assert report.compared > 0  # those later than anything that the cut can have held
    assert report.defective == 0


async def test_staleness_is_told_as_the_answers_told_it(past: Past) -> None:
    known = [r.features.staleness_ms for r in past.decisions if r.features.staleness_ms is not None]
    assert past.compare().staleness_ms.tolist() == sorted(known)


async def test_files_give_back_what_was_written(past: Past, tmp_path: Path) -> None:
    write_log(tmp_path / "log.parquet", past.log)
    assert read_log(tmp_path / "log.parquet") == past.log
    write_decisions(tmp_path / "d.parquet", map(encode_record, past.decisions))
    assert read_decisions(tmp_path / "d.parquet") == past.decisions
    lines = b"\n".join(map(encode_record, past.decisions))
    (tmp_path / "d.jsonl").write_bytes(lines)
    assert read_decisions(tmp_path / "d.jsonl") == past.decisions
    as_json = [
        b'{"topic":"%s","partition":%d,"offset":%d,"timestamp_ms":%d,"value":%s}'
        % (p.topic.encode(), p.partition, p.offset, p.timestamp_ms, p.value)
        for p in past.log
    ]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(as_json))
    assert read_log(tmp_path / "log.jsonl") == past.log


@pytest.mark.parametrize("name", ["none.jsonl", "none.parquet", "bad.jsonl", "bad.parquet"])
def test_a_file_that_is_no_log_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b'\n{"topic": "events"}\n')
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    for read in (read_log, read_decisions):
        with pytest.raises(LogUnreadable, match=name) as refused:
            read(tmp_path / name)
        if name == "bad.jsonl":
            assert f"{name}:2" in str(refused.value)

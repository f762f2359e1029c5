"""The vectors of a backfill are those of the online path, byte for byte, however it is cut."""

import math
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.event import from_ms, identity_of, parse_event
from features.spec import Spec
from features.update import updates_of_events
from features.vector import derive_many
from features.window import apply_many
from models.decision_codec import decode_vector
from pipeline.backfill_write import LATE_QUESTION
from tests.backfilling import (
    MINUTE_MS,
    NOW_MS,
    SPEC_TEXT,
    START_MS,
    OnlinePath,
    a_label,
    a_log,
    an_event,
    backfilled,
    vectors_of,
)

HOUR_MS = 60 * MINUTE_MS


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "features.yaml"
    path.write_text(SPEC_TEXT)
    return path


@pytest.fixture(scope="module")
def spec(spec_path: Path) -> Spec:
    return Spec.load(spec_path)


def is_event(body: bytes) -> bool:
    return b'"label_time"' not in body


@pytest.mark.parametrize("legit_after_ms", [0, HOUR_MS])
@pytest.mark.parametrize("seed", range(4))
async def test_a_backfill_is_the_online_path_byte_for_byte(
    spec: Spec, spec_path: Path, tmp_path: Path, seed: int, legit_after_ms: int
) -> None:
    items = a_log(seed)
    online = OnlinePath(spec, tmp_path, legit_after_ms)
    await online.start()
    vectors, late, names = [], [], []
    for body in items:
        record = await online.take(body)
        if record is not None and record.event_id not in names:  # of several the first counts
            names.append(record.event_id)
            vectors.append(decode_vector(record.vector))
            late.append(record.late_question)
    frame, judged = backfilled(
        spec_path, items, tmp_path / "b", legit_after_ms=legit_after_ms, batch_items=13
    )
    assert judged.late > 0
    assert judged.repeats > 0
    assert online.transitions
    assert frame["event_id"].to_list() == names
    assert vectors_of(spec, frame).tobytes() == np.array(vectors).tobytes()
    assert frame[LATE_QUESTION].to_list() == late


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), events=st.integers(1, 40))
def test_a_backfill_is_one_event_after_the_other_through_the_kernel(
    spec: Spec, spec_path: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, events: int
) -> None:
    items = [body for body in a_log(seed, events, late=False) if is_event(body)]
    expected, states, seen = [], dict[bytes, bytes](), set[str]()
    for body in items:
        event = parse_event(body, spec.event_rules, NOW_MS)
        if identity_of(event) in seen:
            continue
        seen.add(identity_of(event))
        own = updates_of_events(spec, [event])
        names = [spec.entities[e].name for e in own.entity.tolist()]
        known = {n: states.get(k, b"") for n, k in zip(names, own.keys, strict=True)}
        expected.append(derive_many(spec, [event], [known]).X[0])
        blobs = [states.get(key, b"") for key in own.keys]
        states |= zip(own.keys, apply_many(spec, blobs, np.arange(len(own)), own), strict=True)
    folder = tmp_path_factory.mktemp("one")
    frame, judged = backfilled(spec_path, items, folder / "b", by_arrival=False)
    assert judged.written == len(expected)
    assert vectors_of(spec, frame).tobytes() == np.array(expected, np.float32).tobytes()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    batch_items=st.integers(1, 40),
    epoch_batches=st.integers(1, 4),
    buckets=st.integers(1, 5),
    by_arrival=st.booleans(),
)
def test_how_the_log_is_cut_changes_nothing(
    spec_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    batch_items: int,
    epoch_batches: int,
    buckets: int,
    by_arrival: bool,
) -> None:
    folder, items = tmp_path_factory.mktemp("cut"), a_log(seed, 40)
    asked = {"by_arrival": by_arrival, "legit_after_ms": HOUR_MS}
    whole, judged = backfilled(spec_path, items, folder / "whole", **asked)
    parts, same = backfilled(
        spec_path,
        items,
        folder / "parts",
        batch_items=batch_items,
        epoch_batches=epoch_batches,
        entity_buckets=buckets,
        join_buckets=buckets,
        **asked,
    )
    assert parts.equals(whole)
    assert same == judged


def test_a_label_counts_from_the_time_at_which_it_was_known(
    spec_path: Path, tmp_path: Path
) -> None:
    rng = random.Random(1)

    def at(minute: int, name: str) -> bytes:
        body = an_event(name, START_MS + minute * MINUTE_MS, rng)
        return body.replace(b'"m0"', b'"m1"').replace(b'"m2"', b'"m1"')

    told = a_label("first", START_MS + 20 * MINUTE_MS, rng)
    told = told.replace(b'"legit"', b'"fraud"')
    for state in (b"suspected", b"reversed"):
        told = told.replace(state, b"confirmed")
    items = [at(0, "first"), told, at(20, "same time"), at(21, "after"), at(81, "an hour on")]
    frame, _ = backfilled(spec_path, items, tmp_path / "b", by_arrival=False)
    rates = dict(zip(frame["event_id"], frame["merchant.fraud_rate_over_1h"], strict=True))
    assert math.isnan(rates["first"])
    assert math.isnan(rates["same time"])  # events come before labels of the same time
    assert rates["after"] == 1.0
    assert math.isnan(rates["an hour on"])
    assert frame["label"].to_list() == ["fraud", None, None, None]
    assert frame["label_time"][0] == from_ms(START_MS + 20 * MINUTE_MS)


def test_rows_outside_the_span_count_and_are_not_written(spec_path: Path, tmp_path: Path) -> None:
    items = a_log(3, late=False)
    whole, _ = backfilled(spec_path, items, tmp_path / "whole")
    since, until = whole["event_time"][20], whole["event_time"][40]
    some, judged = backfilled(
        spec_path,
        items,
        tmp_path / "some",
        since_ms=int(since.timestamp() * 1000),
        until_ms=int(until.timestamp() * 1000),
    )
    time = pl.col("event_time")
    assert some.equals(whole.filter((time >= since) & (time < until)))
    assert judged.outside == len(whole) - len(some) > 0


def test_a_limit_ends_the_log_there(spec_path: Path, tmp_path: Path) -> None:
    items = a_log(3)
    nth = [n for n, body in enumerate(items) if is_event(body)][14]
    cut, judged = backfilled(spec_path, items, tmp_path / "cut", limit_events=15)
    assert judged.events == 15
    short, _ = backfilled(spec_path, items[: nth + 1], tmp_path / "short")
    assert cut.equals(short)


def test_the_file_says_what_it_was_made_from(spec: Spec, spec_path: Path, tmp_path: Path) -> None:
    items = [*a_log(5, 30), b'{"event_id": 3}', b"no json"]
    frame, judged = backfilled(spec_path, items, tmp_path / "b")
    told = pl.read_parquet_metadata(tmp_path / "b" / "out.parquet")
    assert told["riskbeat.source"] == "log"
    assert told["riskbeat.rows"] == str(len(frame)) == str(judged.written)
    assert told["riskbeat.events"] == str(judged.events)
    assert told["riskbeat.bad_rows"] == "2"
    assert frame.columns[6:-1] == list(spec.feature_names)


def test_an_empty_log_gives_an_empty_file(spec: Spec, spec_path: Path, tmp_path: Path) -> None:
    frame, judged = backfilled(spec_path, [b""], tmp_path / "b")
    assert len(frame) == judged.events == 0
    assert frame.columns[6:-1] == list(spec.feature_names)

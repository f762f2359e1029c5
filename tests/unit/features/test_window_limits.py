"""What a state can take, what it refuses, and where its code is kept."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.spec import Spec
from features.window import (
    SchemaMismatch,
    StateCorrupt,
    apply_many,
    warm_up,
)
from features.window_jit import cache_folder
from features.window_kernel import apply_rows
from features.window_plan import Rows, plan_of, scratch_of, state_bytes_max
from features.window_state import CORRUPT
from tests.oracle import EVENT, LABEL, Oracle, Row, updates_of
from tests.oracle_answer import difference
from tests.unit.features.specs import AMOUNT_MAX, ROOT, SMALL, ask, fold, row_sets, spec_of


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    spec = spec_of(SMALL, tmp_path_factory.mktemp("small"))
    warm_up(spec)
    return spec


def test_many_states_at_once_are_each_applied_their_own_rows(spec: Spec) -> None:
    """More slots than one call of the kernel takes; some untouched, some new."""
    old = fold(spec, 0, [Row(EVENT, 9_000, 1, 1, 5, (1, 1))])
    blobs = [old if n % 2 else b"" for n in range(2_500)]
    rows = [Row(EVENT, 9_500 + n, n + 10, 1, n, (1, 1)) for n in range(2_000)]
    slot = np.array([(n * 7) % 2_500 for n in range(2_000)], dtype=np.int32)
    result = apply_many(spec, blobs, slot, updates_of(spec, spec.entities[0], rows))
    for n, blob in enumerate(blobs):
        mine = [row for row, s in zip(rows, slot.tolist(), strict=True) if s == n]
        assert result[n] == (fold(spec, 0, mine, blob) if mine else blob)


def test_no_state_is_larger_than_promised(tmp_path: Path) -> None:
    """Heads and tiles as full as they can be, with the widest values."""
    text = SMALL.replace("head_events: 4", "head_events: 64").replace("65536", "9000")
    small = spec_of(text, tmp_path)
    generator = np.random.default_rng(3)
    rows = []
    for n in range(4_000):
        distinct = (int(generator.integers(1, 2**32)), int(generator.integers(1, 2**32)))
        value = AMOUNT_MAX if n % 2 else -AMOUNT_MAX
        rows.append(Row(EVENT, 100_000 + 6 * n, 2**63 + n, 1, value, distinct))
        rows.append(Row(LABEL, 100_000 + 6 * n, 2**62 + n, 1, n % 2))
    entity = small.entities[0]
    blob = fold(small, 0, rows)
    assert len(blob) <= state_bytes_max(small, entity) <= 9000
    got, _ = ask(small, 0, blob, rows[-1].time_ms)
    expected = Oracle(small, entity, rows).answers(rows[-1].time_ms, 0)
    assert not difference(entity.feature_names, got, expected)


def test_an_ordinary_card_fits_1300_bytes() -> None:
    """60 payments in 30 days, by the shipped spec: 15 merchants, 2 devices, 20 addresses."""
    shipped = Spec.load(ROOT / "features.yaml")
    rows = [
        Row(
            EVENT,
            1_772_323_200_000 + 43_200_000 * n,
            2**63 + n,
            1,
            900 * n,
            (n % 15, n % 2, n % 20),
        )
        for n in range(60)
    ]
    rows = [replace(row, fields=tuple(f + 2**31 for f in row.fields)) for row in rows]
    assert len(fold(shipped, 0, rows)) <= 1300


def test_a_state_of_another_spec_format_or_entity_is_refused(spec: Spec, tmp_path: Path) -> None:
    blob = fold(spec, 0, [Row(EVENT, 9_000, 1, 1, 5, (1, 1))])
    other = spec_of(SMALL.replace("10s", "11s"), tmp_path)
    with pytest.raises(SchemaMismatch, match="another feature spec"):
        ask(other, 0, blob, 9_000)
    with pytest.raises(SchemaMismatch, match="another kind of entity"):
        ask(spec, 1, blob, 9_000)
    with pytest.raises(SchemaMismatch, match="another state format"):
        ask(spec, 0, b"\x00" + blob[1:], 9_000)
    with pytest.raises(SchemaMismatch, match="another kind of entity"):
        fold(spec, 1, [Row(EVENT, 9_000, 1)], blob)


@settings(max_examples=300, deadline=None)
@given(rows=row_sets(), data=st.data())
def test_damaged_bytes_are_refused_or_read_but_never_crash(
    spec: Spec, rows: list[Row], data: st.DataObject
) -> None:
    blob = bytearray(fold(spec, 0, [*rows, Row(EVENT, 9_000, 1, 1, 5, (1, 1))]))
    cut = data.draw(st.integers(10, len(blob) - 1))
    with pytest.raises(StateCorrupt):
        ask(spec, 0, bytes(blob[:cut]), 10_000)
    for _ in range(3):
        blob[data.draw(st.integers(10, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with suppress(StateCorrupt):
        ask(spec, 0, bytes(blob), 10_000)


def test_damaged_states_are_refused_by_both_kernels(spec: Spec) -> None:
    blob = fold(spec, 0, [Row(EVENT, 9_000, 1, 1, 5, (1, 1))])
    for bad in (blob[:-1], blob + b"x", blob[:10] + b"\xff" + blob[11:]):
        with pytest.raises(StateCorrupt, match="state 0"):
            ask(spec, 0, bad, 9_000)
        with pytest.raises(StateCorrupt, match="state 0"):
            fold(spec, 0, [Row(EVENT, 9_001, 2)], bad)


def test_registers_cut_short_are_refused(spec: Spec) -> None:
    """Both codings of a tile's registers, dense and sparse, at every length."""
    many = [Row(EVENT, 10_000 + n // 64, n, 1, 1, (2**26 + n, 2**26)) for n in range(400)]
    blob = fold(spec, 0, many)
    for length in range(10, len(blob)):
        with pytest.raises(StateCorrupt):
            ask(spec, 0, blob[:length], 10_000)


def test_machine_code_is_kept_apart_for_each_state_of_the_sources(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "window_a.py").write_text("1")
    first = cache_folder("", here, True, tmp_path)
    assert first.parent == here / "__pycache__"
    assert cache_folder("", here, False, tmp_path).parent == tmp_path / ".cache" / "riskbeat"
    assert cache_folder("/elsewhere", here, False, tmp_path) == Path("/elsewhere") / first.name
    (here / "window_a.py").write_text("2")
    assert cache_folder("", here, True, tmp_path).name != first.name


def test_a_state_that_outgrows_its_room_is_refused(spec: Spec) -> None:
    """Only damaged bytes can do so; the kernel must stop before it writes outside."""
    one = updates_of(spec, spec.entities[0], [Row(EVENT, 9_000, 1, 1, 1)])
    rows = Rows(
        order=np.zeros(1, dtype=np.int64),
        first=np.array([0, 1], dtype=np.int64),
        entity=one.entity,
        event=one.row_event,
        series=one.series,
        time_ms=one.time_ms,
        ids=one.id,
        weight=one.count,
        value=one.value,
        fields=one.fields,
        filters=one.filters,
    )
    none = np.zeros(1, dtype=np.int64)
    status, slot = apply_rows(
        plan_of(spec), scratch_of(spec), np.zeros(8, dtype=np.uint8), np.zeros(2, dtype=np.int64),
        none, none, rows, np.zeros(4_096, dtype=np.uint8), np.zeros(2, dtype=np.int64), 16,
    )  # fmt: skip
    assert (status, slot) == (CORRUPT, 0)

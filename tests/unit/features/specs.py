"""A small spec, and rows for it: a few already reach every branch of the kernel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from features.spec import Spec
from features.spec_levels import ID_MASK
from features.window import apply_many, evaluate_many
from tests.oracle import EVENT, LABEL, Row, updates_of

ROOT = Path(__file__).parents[3]

AMOUNT_MAX = 10**12

SMALL = """
money:
  base: EUR
  rates_version: "1"
  rates:
    EUR: "1"
    USD: "0.9215"
    JPY: {rate: "0.0061", minor_digits: 0}
event_types:
  card_payment: {primary: card}
  login: {primary: card, amount_required: false}
limits: {head_events: 4, label_head_events: 3, reorder: 40ms, blob_max_bytes: 65536}
entities:
  card:
    count: [30ms, 200ms, 1s, 10s]
    sum: [200ms, 1s]
    mean: [1s]
    std: [200ms, 1s, 10s]
    min: [200ms, 10s]
    max: [1s, 10s]
    distinct:
      merchant: [200ms, 10s]
      country: [1s]
    since_last: true
    fraud_count: [200ms, 1s]
    label_count: [1s, 20s]
    fraud_rate: [1s, 10s]
  merchant:
    count: [1s]
    fraud_rate: [1010ms]
calendar: [hour, weekday, night, weekend]
ratios:
  - event.amount / card.mean_of_amount_over_1s
deviations:
  card: [1s]
"""


def spec_of(text: str, folder: Path) -> Spec:
    path = folder / "features.yaml"
    path.write_text(text, encoding="utf-8")
    return Spec.load(path)


def fold(spec: Spec, entity: int, rows: Sequence[Row], blob: bytes = b"") -> bytes:
    updates = updates_of(spec, spec.entities[entity], rows)
    return apply_many(spec, [blob], np.zeros(len(rows), dtype=np.int32), updates)[0]


def ask(spec: Spec, entity: int, blob: bytes, at_ms: int, own: int = 0) -> tuple[list[float], bool]:
    X, late = evaluate_many(
        spec, entity, [blob], np.array([at_ms]), np.array([own], dtype=np.uint64)
    )
    return X[0].tolist(), bool(late[0])


times = st.one_of(st.integers(10_000, 10_060), st.integers(9_000, 12_000), st.integers(0, 40_000))
amounts = st.one_of(
    st.integers(-AMOUNT_MAX, AMOUNT_MAX),
    st.integers(100, 105),
    st.sampled_from([0, AMOUNT_MAX, -AMOUNT_MAX, AMOUNT_MAX - 1]),
)
hashes = st.one_of(
    st.integers(0, 5), st.integers(0, 2**32 - 1), st.sampled_from([0, 63, 64, 2**31])
)


def kept(number: int) -> int:
    """Return as much of an id as a state keeps."""
    return number & ID_MASK


@st.composite
def row_sets(draw: st.DrawFn, most: int = 40) -> list[Row]:
    """Rows of both series with different ids, in any order of time."""
    at = draw(st.lists(times, max_size=most))
    size = len(at)
    ids = draw(st.lists(st.integers(0, 2**64 - 1), min_size=size, max_size=size, unique_by=kept))
    rows = []
    for time_ms, number in zip(at, ids, strict=True):
        if draw(st.integers(0, 2)):
            fields = (draw(hashes), draw(hashes))
            rows.append(Row(EVENT, time_ms, number, 1, draw(amounts), fields))
        else:
            sign = draw(st.sampled_from([1, 1, -1]))
            fraud = sign * draw(st.integers(0, 1))
            rows.append(Row(LABEL, time_ms, number, sign, fraud, (0, 0)))
    return rows

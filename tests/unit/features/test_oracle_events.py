"""From events as producers send them: SQL over their plain table equals the vectors scored.

The other tests hand rows to the kernel. Here keys (of one part and of two), fields, filters,
places, amounts of two currencies, labels, categories, ratios and deviations are SQL's own reading.
"""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import duckdb
import numpy as np
import pytest
import xxhash
from numpy.typing import NDArray

from features.event import Amount, Event, identity_hash, identity_of
from features.spec import Spec
from features.spec_levels import ID_MASK
from features.update import LabelTransition, updates_of_events, updates_of_transitions
from features.vector import derive_many
from features.window import apply_many
from tests.oracle_answer import Answer, Question
from tests.oracle_sql import FIELDS, SqlOracle
from tests.oracle_streams import spec_in
from tests.oracle_trial import sql_connection

AT: Final = datetime(2026, 3, 1, tzinfo=UTC)
EVENTS: Final = 220
TEXT = """
money:
  base: EUR
  rates_version: "1"
  rates: {EUR: "1", GBP: "1.16"}
event_types:
  card_payment: {primary: card}
  login: {primary: card, amount_required: false}
place: {latitude: lat, longitude: lon}
categories: {mcc: 16, merchant: 1024}
filters:
  ecom: {channel: [ecom, moto]}
  abroad: {country: {not: [FR, DE]}}
  large: {amount: {at_least: 100.00}}
  small_shop: {amount: {above: 10, below: 100.50}, channel: pos}
  logins: {event_type: login}
  known_mcc: {mcc: {present: true}}
  no_country: {country: {present: false}}
  risky: {risk: {above: 0.5, at_most: 0.9}}
entities:
  card:
    count: [1h, 24h, 30d]
    sum: [24h]
    mean: [24h, 30d]
    std: [30d]
    first: [24h]
    last: [24h]
    ewma: [24h]
    distinct: {merchant: [24h, 30d], country: [30d]}
    where:
      ecom: {count: [24h], sum: [30d], distinct: {merchant: [30d]}}
      abroad: {count: [30d], max: [30d]}
      large: {count: [24h], first: [30d], last: [30d]}
      logins: {count: [30d]}
      no_country: {count: [30d]}
    since_last: true
    is_new: true
    changed: [country, mcc]
    distance: true
    fraud_count: [30d]
    label_count: [30d]
    fraud_rate: [30d]
  merchant:
    mean: [24h]
    where:
      small_shop: {count: [24h], mean: [30d], std: [30d]}
      known_mcc: {count: [30d]}
      risky: {count: [30d], min: [30d], ewma: [30d]}
    fraud_rate: [30d]
  card_merchant:
    key: [card, merchant]
    count: [30d]
    sum: [30d]
    is_new: true
    label_count: [30d]
ratios:
  - card_merchant.sum_of_amount_over_30d / card.sum_of_amount_over_24h
  - event.amount / card.mean_of_amount_over_30d
deviations: {card: [30d]}
"""
FILTERS = (  # in the file's order, as SQL would say it
    "channel in ('ecom', 'moto')",
    "country not in ('FR', 'DE')",
    "v >= 10000",
    "v > 1000 and v < 10050 and channel = 'pos'",
    "type = 'login'",
    "mcc is not null",
    "country is null",
    "risk > 0.5 and risk <= 0.9",
)
KEYS = {"card": "card", "merchant": "merchant", "card_merchant": "card || '/' || merchant"}
ATTRIBUTES = ("channel", "country", "mcc", "risk", "lat", "lon")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return spec_in(TEXT, tmp_path_factory.mktemp("events"))


def some_events(seed: int) -> list[Event]:
    """Payments and logins of few entities over some 40 days, no two at the same millisecond."""
    draw = random.Random(seed)
    at, events = AT, []
    for number in range(EVENTS):
        seconds = draw.choice((0.001, 1, 60, 3600, 3600, 86_400)) * draw.uniform(1, 2)
        at += timedelta(milliseconds=max(1, round(1000 * seconds)))
        attributes = {
            "channel": draw.choice(("ecom", "moto", "pos", "ECOM")),
            "country": draw.choice(("FR", "DE", "GB", "US")),
            "mcc": draw.choice(("5411", "7995", "6011")),
            "risk": draw.choice((0.5, 0.25, 0.75, 0.9, 0.95)),
            "lat": draw.choice((90.0, -90.0, 0.0, 48.8566)),
            "lon": draw.choice((180.0, -180.0, 2.3522, 179.999999)),
        }
        entities = {"card": f"c{draw.randint(0, 2)}", "merchant": f"m{draw.randint(0, 3)}"}
        login = draw.random() < 0.15
        if login or draw.random() < 0.1:
            del entities["merchant"]
        value = draw.choice((1, 1000, 1001, 9999, 10_000, 10_049, 10_050, 123_456))
        times, currency = (25, "GBP") if draw.random() < 0.3 else (1, "EUR")
        events.append(
            Event(
                event_type="login" if login else "card_payment",
                event_id=f"e{number}",
                event_time=at,
                entities=entities,
                amount=None if login else Amount(value * times, currency),
                attributes={k: v for k, v in attributes.items() if draw.random() < 0.85},
            )
        )
    return events


def some_labels(events: Sequence[Event], seed: int) -> list[LabelTransition]:
    """Labels of a third of the events, days later, and the removal of some at their own time."""
    draw = random.Random(seed)
    labels: list[LabelTransition] = []
    for event in draw.sample(list(events), len(events) // 3):
        label = LabelTransition(
            event_type=event.event_type,
            event_id=event.event_id,
            entities=event.entities,
            label_time=event.event_time + timedelta(milliseconds=draw.randint(1, 9 * 86_400_000)),
            label="fraud" if draw.random() < 0.5 else "legit",
            sign=1,
            seq=len(labels) + 1,
            transition_id=f"t{len(labels)}",
        )
        labels.append(label)
        if draw.random() < 0.3:
            fields = {name: getattr(label, name) for name in label.__struct_fields__}
            fields |= {"sign": -1, "seq": len(labels) + 1, "transition_id": f"t{len(labels)}"}
            labels.append(LabelTransition(**fields))
    return labels


def vectors_of(
    spec: Spec, events: Sequence[Event], labels: Sequence[LabelTransition]
) -> NDArray[np.float32]:
    """Return what is scored: ask and apply event by event, each label before what follows it."""
    states: dict[bytes, bytes] = defaultdict(bytes)
    waiting = sorted(labels, key=lambda label: label.label_time)
    vectors = []
    for event in events:
        while waiting and waiting[0].label_time <= event.event_time:
            rows = updates_of_transitions(spec, [waiting.pop(0)])
            new = apply_many(spec, [states[key] for key in rows.keys], np.arange(len(rows)), rows)
            states.update(zip(rows.keys, new, strict=True))
        rows = updates_of_events(spec, [event])
        held = {
            spec.entities[entity].name: states[key]
            for entity, key in zip(rows.entity.tolist(), rows.keys, strict=True)
        }
        derived = derive_many(spec, [event], [held])
        assert not derived.late_question.any()
        vectors.append(derived.X[0])
        new = apply_many(spec, [states[key] for key in rows.keys], np.arange(len(rows)), rows)
        states.update(zip(rows.keys, new, strict=True))
    return np.array(vectors)


def fill_plain_tables(
    sql: duckdb.DuckDBPyConnection, events: Sequence[Event], labels: Sequence[LabelTransition]
) -> None:
    """Write the log into two tables, one column for each thing that a producer says."""
    sql.execute(
        "create table raw_event (n integer, t bigint, id bigint, type varchar, card varchar,"
        " merchant varchar, cents bigint, currency varchar, channel varchar, country varchar,"
        " mcc varchar, risk double, lat double, lon double)"
    )
    for n, e in enumerate(events):
        paid = (None, None) if e.amount is None else (e.amount.value, e.amount.currency)
        who = (e.entities.get("card"), e.entities.get("merchant"))
        sql.execute(
            f"insert into raw_event values ({', '.join('?' * 14)})",
            [n, e.event_time_ms, identity_hash(identity_of(e)) & ID_MASK, e.event_type, *who,
             *paid, *(e.attributes.get(name) for name in ATTRIBUTES)],
        )  # fmt: skip
    sql.execute("create table raw_label (n integer, t bigint, card varchar, merchant varchar,"
                " sign integer, fraud boolean)")  # fmt: skip
    for n, one in enumerate(labels):
        who = (one.entities.get("card"), one.entities.get("merchant"))
        sql.execute("insert into raw_label values (?, ?, ?, ?, ?, ?)",
                    [n, one.label_time_ms, *who, one.sign, one.label == "fraud"])  # fmt: skip
    sql.execute("create view paid as select *, case currency when 'EUR' then cents"
                " when 'GBP' then cents * 116 // 100 end as v from raw_event")  # fmt: skip


def answers_of(
    spec: Spec, index: int, events: Sequence[Event], sql: duckdb.DuckDBPyConnection
) -> list[list[Answer] | None]:
    """Return what SQL says of one kind of entity at each event; none where it names none."""
    entity = spec.entities[index]
    oracle = SqlOracle(spec, entity, sql)
    bits = " + ".join(
        f"(coalesce({text}, false)::integer << {f})" for f, text in enumerate(FILTERS)
    )
    named = [f"{field.name}::varchar" for field in entity.fields]
    named += ["null"] * (FIELDS - len(named))
    place = "lat, lon" if any(field.kind != "hash" for field in entity.fields) else "null, null"
    key = KEYS[entity.name]
    sql.execute(f"insert into event select {key}, t, id, coalesce(v, 0), {bits},"
                f" {', '.join(named)}, {place} from paid where {key} is not null")  # fmt: skip
    sql.execute(f"insert into label select {key}, t, n, sign, if(fraud, sign, 0)"
                f" from raw_label where {key} is not null")  # fmt: skip
    asked = sql.execute(f"select n, {key}, t, id from paid where {key} is not null order by n")
    questions = asked.fetchall()
    found = oracle.answers([(key, Question(t, own)) for _, key, t, own in questions])
    by_event: list[list[Answer] | None] = [None] * len(events)
    for number, (n, *_) in enumerate(questions):
        assert not found.tiled(number)
        by_event[n] = found.of(number)
    return by_event


def hash_index(value: Any, size: int) -> int:
    """Return a category's index, read from the contract."""
    return 0 if value is None else 1 + xxhash.xxh32_intdigest(str(value).encode()) % (size - 1)


@pytest.mark.parametrize("seed", [1, 2])
def test_vectors_made_online_equal_sql_over_the_log(spec: Spec, seed: int) -> None:
    events = some_events(seed)
    labels = some_labels(events, seed)
    X = vectors_of(spec, events, labels)
    known = np.zeros(spec.n_features, dtype=int)
    right: list[dict[str, float]] = [{} for _ in events]
    with sql_connection() as sql:
        fill_plain_tables(sql, events, labels)
        found = [answers_of(spec, entity.index, events, sql) for entity in spec.entities]
    for entity, by_event in zip(spec.entities, found, strict=True):
        for n, answers in enumerate(by_event):
            for place, name in enumerate(entity.feature_names):
                column = spec.feature_names.index(name)
                answer = Answer(math.nan) if answers is None else answers[place]
                right[n][name] = answer.value
                known[column] += not math.isnan(answer.value)
                near = np.float32(answer.value)
                slack = 0 if answer.within == 0 else answer.within + float(np.spacing(abs(near)))
                allowed = Answer(float(near), slack, answer.also)
                assert allowed.admits(float(X[n, column])), (n, name, X[n, column], answer)
    assert (known[: spec.feature_names.index("event.amount")] > 20).all()
    assert_terms(spec, events, X, right)


def assert_terms(
    spec: Spec, events: Sequence[Event], X: NDArray[np.float32], right: list[dict[str, float]]
) -> None:
    """Check what is made from the event and its features."""
    column = {name: X[:, place] for place, name in enumerate(spec.feature_names)}
    for n, event in enumerate(events):
        mcc = column["event.index_of_mcc_in_16"][n]
        assert mcc == hash_index(event.attributes.get("mcc"), 16)
        merchant = column["event.index_of_merchant_in_1024"][n]
        assert merchant == hash_index(event.entities.get("merchant"), 1024)
        paid = math.nan
        if event.amount is not None:
            pounds = event.amount.currency == "GBP"
            paid = event.amount.value * 116 // 100 if pounds else event.amount.value
        values = right[n] | {"event.amount": float(paid)}
        for term in spec.event_terms:
            if term.kind not in ("ratio", "deviation"):
                continue
            above, below = values[term.inputs[0]], values[term.inputs[-1]]
            if term.kind == "deviation":
                above -= values[term.inputs[1]]
            expected = above / below if below != 0 else math.nan
            np.testing.assert_allclose(column[term.name][n], expected, rtol=2**-23)

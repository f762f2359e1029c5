"""bytes of a decision or a label → JoinRow, Statement, or EventRejected: what the learner reads.

Of a decision only the event's name, time, entities and amount, the vector and the score are
decoded: the record holds far more (`models.decision.DecisionRecord`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from features.event import (
    SEPARATOR,
    EventRejected,
    EventRules,
    Instant,
    identity,
    identity_hash,
    identity_of,
    parse_label,
    to_ms,
)
from features.event_wire import UNREADABLE
from features.spec_values import Currency
from features.update import base_value
from pipeline.join import JoinRow, Statement, Subject, TracedSubject, signed, statement_of


class _Amount(msgspec.Struct, gc=False):
    value: int = 0
    currency: str = ""


class _Event(msgspec.Struct, gc=False):
    event_type: str
    event_id: str
    event_time: Instant
    entities: dict[str, str]
    amount: _Amount | None = None


class _Score(msgspec.Struct, gc=False):
    value: float | None = None


class _Weights(msgspec.Struct, gc=False):
    version: int


class _Rollout(msgspec.Struct, gc=False):
    number: int
    arm: str


class _Record(msgspec.Struct, gc=False):
    tenant: str
    event: _Event
    vector: bytes
    spec_digest: str
    score: _Score
    outcome: str
    propensity: float = 1.0
    weights: _Weights | None = None
    rollout: _Rollout | None = None


class PlacedLabel(NamedTuple):
    """A label, and the key of the row that it speaks about."""

    key: int
    statement: Statement


_records = msgspec.json.Decoder(_Record)
_subjects = msgspec.msgpack.Encoder()


def key_of(name: str) -> int:
    """Return the join key of an identity: its hash as a signed 64-bit integer."""
    return signed(identity_hash(name))


def parse_decided(
    body: bytes,
    place: int,
    spec_digest: str,
    n_features: int,
    rules: EventRules | None = None,
    currencies: Mapping[str, Currency] | None = None,
    trace: str = "",
) -> JoinRow:
    """Read a record of `decisions.v1` as a row of the join store.

    Vector and prediction are None when they were made by another spec, or it is no vector at all:
    such an event is joined, for its label's sake, but neither learned nor judged by. By the rules
    the card is known: the hash of the event type's primary entity. By the currencies the amount is
    in minor units of the base currency: amounts of several are never summed. A traced decision's
    context is kept, so that the span of learning from it can name it.

    Raises:
        EventRejected: The bytes are no decision.
    """
    try:
        record = _records.decode(body)
    except UNREADABLE as error:
        raise EventRejected("malformed_decision", "", str(error)) from error
    if not 0.0 < record.propensity <= 1.0:
        raise EventRejected(
            "malformed_decision", "/propensity", f"{record.propensity} lies outside (0, 1]"
        )
    event = record.event
    name = identity(record.tenant, event.event_type, event.event_id)
    ours = record.spec_digest == spec_digest and len(record.vector) == 4 * n_features
    names = record.tenant, event.event_type, event.event_id, event.entities
    subject = TracedSubject(*names, trace) if trace else Subject(*names)
    return JoinRow(
        key=key_of(name),
        name=name,
        event_ms=to_ms(event.event_time),
        place=place,
        x=record.vector if ours else None,
        subject=_subjects.encode(subject),
        p=record.score.value if ours else None,
        amount=_amount_of(event.amount, currencies or {}),
        outcome=record.outcome,
        propensity=record.propensity,
        weights_version=record.weights.version if record.weights is not None else 0,
        card=_card_of(event, record.tenant, rules),
        arm=f"{record.rollout.number}/{record.rollout.arm}" if record.rollout is not None else "",
    )


def parse_placed_label(body: bytes, place: int, rules: EventRules, appended_ms: int) -> PlacedLabel:
    """Read a record of `labels.v1`.

    Raises:
        EventRejected: The bytes break the schema or the rules; names the field.
    """
    label = parse_label(body, rules, appended_ms)
    return PlacedLabel(key_of(identity_of(label)), statement_of(label, place))


def _card_of(event: _Event, tenant: str, rules: EventRules | None) -> int:
    kind = rules.event_types.get(event.event_type) if rules is not None else None
    entity = event.entities.get(kind.primary) if kind is not None else None
    return key_of(f"{tenant}{SEPARATOR}{entity}") if entity is not None else 0


def _amount_of(amount: _Amount | None, currencies: Mapping[str, Currency]) -> int:
    if amount is None:
        return 0
    rate = currencies.get(amount.currency)
    return amount.value if rate is None else base_value(amount.value, rate)

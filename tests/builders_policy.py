"""Policies, rulers and events for tests of station 7, without a model."""

from pathlib import Path
from typing import Any

import msgspec

from features.event import Amount, Event, from_ms
from features.spec import Spec
from models.policy_cel import CelCompiler
from models.policy_ruling import Rulebook, Ruler, compile_policy

NOW_MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z
SPEC_TEXT = """
money: {base: EUR, rates_version: "1", rates: {EUR: "1", USD: "0.5"}}
event_types:
  card_payment: {primary: card}
filters:
  abroad: {country: {not: FR}}
  fast: {velocity: {above: 3}}
entities:
  card:
    count: [10m, 1h]
    sum: [1h]
    since_last: true
    distinct: {merchant: [1h]}
    changed: [city]
    where:
      abroad: {count: [1h]}
      fast: {count: [1h]}
  merchant:
    count: [10m]
    mean: [1h]
categories: {mcc: 16}
calendar: [hour]
"""
POLICY_TEXT = """
version: 3
risk_levels: {elevated: 0.9, highest: 0.99}
default:
  bands:
    - {outcome: decline, probability: 0.8}
    - {outcome: review, probability: 0.5}
  fallback:
    - {outcome: review, amount_at_least: 10000}
"""
RULES_AT = POLICY_TEXT.count("\n") + 2
"""Line of the first rule, one line each, of a text from `rules_text` without `more`."""


def a_payment(**changes: Any) -> Event:
    event = Event(
        event_type="card_payment",
        event_id="pay_1",
        event_time=from_ms(NOW_MS),
        entities={"card": "c1", "merchant": "m1"},
        amount=Amount(1000, "EUR"),
    )
    return msgspec.structs.replace(event, **changes)


def small_spec(folder: Path) -> Spec:
    path = folder / "features.yaml"
    path.write_text(SPEC_TEXT)
    return Spec.load(path)


def rules_text(*rules: str, more: str = "") -> str:
    listed = "".join(f"  - {{{rule}}}\n" for rule in rules)
    return f"{POLICY_TEXT}{more}" + (f"rules:\n{listed}" if rules else "")


def a_book(spec: Spec, *rules: str, more: str = "") -> Rulebook:
    return compile_policy(rules_text(*rules, more=more), "p.yaml", spec, CelCompiler)


def a_ruler(spec: Spec, *rules: str, more: str = "") -> Ruler:
    return Ruler(spec, a_book(spec, *rules, more=more))


def demand(name: str, outcome: str, more: str = "") -> str:
    """A rule that every `a_payment` meets."""
    return f'id: {name}, when: "amount.value == 1000", outcome: {outcome}{more}'

"""Filters: which events they let through, and what an error in one says."""

from pathlib import Path
from typing import Any

import pytest

from features.event import Amount, Event, from_ms
from features.spec import SpecError
from features.update import updates_of_events
from tests.unit.features.specs import spec_of
from tests.unit.features.specs_rich import RICH

BEGIN, END = RICH.index("filters:"), RICH.index("place:")


def with_filter(condition: str) -> str:
    filters = f"filters:\n  large: {{amount: {{present: true}}}}\n  ecom: {condition}\n"
    return RICH[:BEGIN] + filters + RICH[END:]


def an_event(**attributes: Any) -> Event:
    amount = attributes.pop("amount", 10_000)
    return Event(
        event_type=attributes.pop("event_type", "card_payment"),
        event_id="e",
        event_time=from_ms(0),
        entities={"card": "c", "merchant": "m"} | attributes.pop("entities", {}),
        amount=None if amount is None else Amount(amount, attributes.pop("currency", "EUR")),
        attributes=attributes,
    )


HOLDS: list[tuple[str, dict[str, Any], bool]] = [
    ("{channel: ecom}", {"channel": "ecom"}, True),
    ("{channel: ecom}", {"channel": "pos"}, False),
    ("{channel: ecom}", {"channel": "Ecom"}, False),
    ("{channel: ecom}", {}, False),
    ("{channel: ecom}", {"channel": None}, False),
    ("{channel: [ecom, moto]}", {"channel": "moto"}, True),
    ("{mcc: 5732}", {"mcc": 5732}, True),
    ("{mcc: 5732}", {"mcc": "5732"}, True),
    ("{country: NO}", {"country": "NO"}, True),
    ("{recurring: true}", {"recurring": True}, True),
    ("{recurring: true}", {"recurring": False}, False),
    ("{recurring: false}", {"recurring": False}, True),
    ("{recurring: true}", {"recurring": "true"}, True),
    ("{country: {not: FR}}", {"country": "DE"}, True),
    ("{country: {not: [FR, DE]}}", {"country": "DE"}, False),
    ("{country: {not: FR}}", {}, False),
    ("{country: {present: true}}", {"country": ""}, True),
    ("{country: {present: true}}", {}, False),
    ("{country: {present: false}}", {}, True),
    ("{country: {present: false}}", {"country": "FR"}, False),
    ("{device: {present: true}}", {"entities": {"device": "d"}}, True),
    ("{device: {present: true}}", {}, False),
    ("{amount: {at_least: 100}}", {"amount": 10_000}, True),
    ("{amount: {at_least: 100}}", {"amount": 9_999}, False),
    ("{amount: {above: 100.00}}", {"amount": 10_000}, False),
    ("{amount: {at_most: 100}}", {"amount": 10_000}, True),
    ("{amount: {below: 100}}", {"amount": 10_000}, False),
    ("{amount: {below: 0}}", {"amount": -1}, True),
    ("{amount: {below: 0}}", {"amount": 0}, False),
    ("{amount: {at_least: 5, below: 10}}", {"amount": 500}, True),
    ("{amount: {at_least: 5, below: 10}}", {"amount": 1_000}, False),
    ("{amount: {at_least: 100}}", {"amount": 20_000, "currency": "USD"}, True),
    ("{amount: {at_least: 100}}", {"amount": 19_998, "currency": "USD"}, False),
    ("{amount: {below: 100}}", {"amount": None}, False),
    ("{amount: {present: true}}", {"amount": 0}, True),
    ("{amount: {present: false}}", {"amount": None}, True),
    ("{age_days: {below: 30}}", {"age_days": 29.5}, True),
    ("{age_days: {below: 30}}", {"age_days": 30}, False),
    ("{age_days: {below: 30}}", {"age_days": "29"}, False),
    ("{age_days: {below: 30}}", {"age_days": True}, False),
    ("{age_days: {below: 30}}", {}, False),
    ("{risk: {at_most: 0.1}}", {"risk": 0.1}, True),
    ("{event_type: refund}", {"event_type": "refund"}, True),
    ("{event_type: [refund, login]}", {}, False),
    ("{event_type: {not: refund}}", {}, True),
    ("{channel: ecom, amount: {above: 50}}", {"channel": "ecom"}, True),
    ("{channel: ecom, amount: {above: 50}}", {"channel": "ecom", "amount": 1}, False),
    ("{channel: ecom, amount: {above: 50}}", {"channel": "pos"}, False),
]


@pytest.mark.parametrize(("condition", "event", "expected"), HOLDS)
def test_a_filter_holds(
    condition: str, event: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    spec = spec_of(with_filter(condition), tmp_path)
    one = an_event(**event)
    updates = updates_of_events(spec, [one])
    bits = (one.amount is not None) | expected << 1
    assert updates.filters.tolist() == [bits] * 3


BAD: list[tuple[str, str]] = [
    ("{}", "filters.ecom: expected at least one condition"),
    ("[channel]", "filters.ecom: expected a mapping"),
    ("{channel: []}", "filters.ecom.channel: expected 1 to 256 values"),
    ("{channel: {}}", "filters.ecom.channel: expected one of: above, at_least, at_most, below, no"),
    ("{channel: }", "features.yaml:13: filters.ecom.channel: expected a single value"),
    ("{channel: null}", "filters.ecom.channel: expected a value; to mean the word itself, write"),
    ("{channel: [ecom, ecom]}", "filters.ecom.channel[1]: this value stands here twice"),
    ("{channel: [[ecom]]}", "filters.ecom.channel[0]: expected a single value"),
    ("{channel: {in: [ecom]}}", "filters.ecom.channel.in: unknown name; expected one of: above"),
    ("{Channel: ecom}", "filters.ecom.Channel: expected amount, event_type, or the name of an ent"),
    ("{amount: 100}", "filters.ecom.amount: expected a comparison, as in {at_least: 100}: at_leas"),
    ("{amount: {over: 100}}", "filters.ecom.amount.over: unknown name; expected one of: above, at"),
    ("{amount: {at_least: 100.005}}", "amount.at_least: expected at most 2 decimals, those of EUR"),
    ("{amount: {at_least: 1e3}}", "amount.at_least: expected a number such as 100 or 0.5; got '1e"),
    ("{amount: {at_least: nan}}", "amount.at_least: expected a number such as 100 or 0.5; got 'na"),
    ("{amount: {at_least: 1, above: 1}}", "filters.ecom.amount: expected at_least or above, not b"),
    ("{amount: {at_most: 1, below: 1}}", "filters.ecom.amount: expected at_most or below, not bot"),
    ("{amount: {at_least: 9, below: 9}}", "expected a range; no number is at_least 9 and below 9"),
    ("{amount: {above: 9, at_most: 5}}", "expected a range; no number is above 9 and at_most 5"),
    ("{mcc: {present: maybe}}", "filters.ecom.mcc.present: expected one of: false, true"),
    ("{mcc: {present: false, not: x}}", "mcc: expected nothing beside 'present: false'"),
    ("{event_type: refnd}", "event_type: expected event types of this file: card_payment, login, "),
    ("{event_type: {present: true}}", "event_type.present: unknown name; expected one of: not"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "expected"), BAD, ids=[row[0] for row in BAD])
def test_an_error_in_a_filter_names_its_place(
    condition: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        spec_of(with_filter(condition), tmp_path)
    assert str(caught.value).startswith("features.yaml:1")
    assert expected in str(caught.value)


def test_there_are_at_most_eight_filters_with_names(tmp_path: Path) -> None:
    nine = "".join(f"  f{n}: {{a: b}}\n" for n in range(9))
    with pytest.raises(SpecError, match="filters: expected 1 to 8 filters"):
        spec_of(RICH[:BEGIN] + "filters:\n" + nine + RICH[END:], tmp_path)
    with pytest.raises(SpecError, match="filters: expected 1 to 8 filters"):
        spec_of(RICH[:BEGIN] + "filters: {}\n" + RICH[END:], tmp_path)
    with pytest.raises(SpecError, match=r"filters.E-com: expected a name of small letters"):
        spec_of(RICH.replace("  ecom: {channel", "  E-com: {channel"), tmp_path)
    same = with_filter("{a: {at_least: 9, at_most: 9}}")
    assert len(spec_of(same, tmp_path).filters[1].conditions) == 2

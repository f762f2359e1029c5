"""Spec → words for every feature: what its value says of a payment, as analysts would say it.

No text holds an identifier: it says "this card", never which one. Amounts are in the base currency.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from features.event import Event
from features.spec_explain import filter_text
from features.spec_values import (
    NO_FILTER,
    EntitySpec,
    EventTerm,
    FeatureSpec,
    SpecValues,
    text_of,
)
from features.words import Says, Usual, Words, few, lasting, plain, span

COUNTED: Final = ("count", "label_count", "fraud_count")
CATEGORY_MAX_CHARACTERS = 64


def words_of(spec: SpecValues) -> list[Words]:
    """Return how to speak of every feature, in vector order."""
    names = [feature.name for entity in spec.entities for feature in entity.features]
    names += [term.name for term in spec.event_terms]
    column = {name: number for number, name in enumerate(names)}
    speaker = _Speaker(spec, column)
    found = [
        speaker.of_entity(entity, feature)
        for entity in spec.entities
        for feature in entity.features
    ]
    phrases = {name: words.phrase for name, words in zip(names, found, strict=False)}
    phrases["event.amount"] = "amount"
    return found + [speaker.of_term(term, phrases) for term in spec.event_terms]


class _Speaker:
    def __init__(self, spec: SpecValues, column: dict[str, int]) -> None:
        self._spec = spec
        self._column = column
        kinds = spec.event_rules.event_types
        self._noun = "payment" if all("payment" in kind for kind in kinds) else "event"

    def money(self, value: float) -> str:
        digits = self._spec.base_digits
        return f"{value / 10**digits:,.{digits}f} {self._spec.base_currency}"

    def of_entity(self, entity: EntitySpec, feature: FeatureSpec) -> Words:
        whose = "this " + " with this ".join(entity.key)
        aggregate, noun = feature.aggregate, self._noun
        if feature.level is None:
            return self._timeless(entity, feature, whose)
        level = entity.levels[feature.level]
        where = ""
        if level.filter != NO_FILTER:
            where = f" where {filter_text(self._spec.filters[level.filter], self._spec)}"
        within = "in" if aggregate in COUNTED or aggregate == "distinct" else "over"
        over = f" of {whose}{where} {within} {span(level.window_ms)}"
        usual = self._usual(entity, feature)
        if aggregate in COUNTED or aggregate == "distinct":
            field = "" if feature.field is None else entity.fields[feature.field].name
            what = {
                "count": noun,
                "label_count": f"{noun} with a known outcome",
                "fraud_count": "fraud",
                "distinct": f"different {field}",
            }[aggregate]
            many = what.replace(noun, f"{noun}s") if aggregate == "label_count" else f"{what}s"

            def say(value: float, _: Event) -> str:
                return f"{value:,.0f} {what if value == 1 else many}{over}"

            return Words(f"number of {many}{over}", say, few, whose, usual)
        if aggregate == "fraud_rate":
            phrase = f"share of fraud among the known outcomes{over}"
            return Words(
                phrase, lambda v, _: f"{phrase}: {v:.1%}", lambda v: f"{v:.1%}", whose, usual
            )
        phrase = {
            "sum": f"total of {noun}s",
            "mean": f"mean {noun}",
            "std": f"spread of {noun}s",
            "min": f"smallest {noun}",
            "max": f"largest {noun}",
            "first": f"oldest {noun}",
            "last": f"previous {noun}",
            "ewma": f"recent mean {noun}",
        }[aggregate] + over
        return Words(phrase, lambda v, _: f"{phrase}: {self.money(v)}", self.money, whose, usual)

    def _timeless(self, entity: EntitySpec, feature: FeatureSpec, whose: str) -> Words:
        noun, aggregate = self._noun, feature.aggregate
        if aggregate == "is_new":
            new, old = f"first {noun} seen of {whose}", f"{whose} was seen before"
            return Words(
                f"whether {whose} is new", lambda v, _: new if v else old, None, whose, None
            )
        if aggregate == "changed":
            assert feature.field is not None
            field = entity.fields[feature.field].name
            other = f"{field} differs from that of the previous {noun} of {whose}"
            same = f"{field} is that of the previous {noun} of {whose}"
            phrase = f"whether {field} changed since the previous {noun} of {whose}"
            return Words(phrase, lambda v, _: other if v else same, None, whose, None)
        if aggregate == "since_last":
            after = f"since the previous {noun} of {whose}"
            return Words(
                f"time {after}",
                lambda v, _: f"{lasting(v)} {after}",
                lasting,
                whose,
                self._usual_gap(entity),
            )
        unit = "km" if aggregate == "distance" else "km/h"
        phrase = f"{aggregate} from the previous {noun} of {whose}"
        return Words(
            phrase,
            lambda v, _: f"{phrase}: {plain(v)} {unit}",
            lambda v: f"{plain(v)} {unit}",
            whose,
            None,
        )

    def _usual(self, entity: EntitySpec, feature: FeatureSpec) -> Usual | None:
        """Return the same aggregate over the entity's longest such window."""
        assert feature.level is not None
        level = entity.levels[feature.level]
        longest, window_ms = feature, level.window_ms
        for other in entity.features:
            if (other.aggregate, other.field) == (feature.aggregate, feature.field):
                assert other.level is not None
                found = entity.levels[other.level]
                if found.filter == level.filter and found.window_ms > window_ms:
                    longest, window_ms = other, found.window_ms
        if feature.aggregate in ("ewma", "last", "first"):
            return self._usual_amount(entity)
        if longest is feature or feature.aggregate == "distinct":
            return None  # different values do not add up over time
        grows = feature.aggregate in COUNTED or feature.aggregate == "sum"
        times = level.window_ms / window_ms if grows else 1.0
        return self._read(entity, longest, times)

    def _usual_amount(self, entity: EntitySpec) -> Usual | None:
        found = self._longest(entity, "mean")
        return None if found is None else self._read(entity, found[0], 1.0)

    def _usual_gap(self, entity: EntitySpec) -> Usual | None:
        found = self._longest(entity, "count")
        if found is None:
            return None
        return self._read(entity, found[0], found[1] / 1_000, over=True)

    def _read(
        self, entity: EntitySpec, feature: FeatureSpec, times: float, over: bool = False
    ) -> Usual:
        count = self._longest(entity, "count")
        seen = None if count is None else self._column[count[0].name]
        return Usual(self._column[feature.name], times, over, seen)

    def _longest(self, entity: EntitySpec, aggregate: str) -> tuple[FeatureSpec, int] | None:
        """Return the unfiltered feature of this kind with the longest window, and that."""
        found = [
            (feature, entity.levels[feature.level].window_ms)
            for feature in entity.features
            if feature.aggregate == aggregate
            and feature.level is not None
            and entity.levels[feature.level].filter == NO_FILTER
        ]
        return max(found, key=lambda one: one[1], default=None)

    def of_term(self, term: EventTerm, phrases: dict[str, str]) -> Words:
        if term.kind == "amount":
            primaries = {kind.primary for kind in self._spec.event_rules.event_types.values()}
            entity = next((e for e in self._spec.entities if {*e.key} == primaries), None)
            usual = None if entity is None else self._usual_amount(entity)
            whose = "" if entity is None else f"this {entity.key[0]}"
            return Words(
                "amount", lambda v, _: f"amount of {self.money(v)}", self.money, whose, usual
            )
        if term.kind == "calendar":
            return Words("time of the event", _CALENDAR[term.name], None, "", None)
        if term.kind == "category":
            return self._category(term.inputs[0])
        if term.kind == "ratio":
            of, to = (phrases.get(name, name) for name in term.inputs)
            return Words(
                f"{of} against {to}", lambda v, _: f"{of} is {plain(v)} times the {to}",
                lambda v: f"{plain(v)} times", "", None,
            )  # fmt: skip
        of, to = (phrases.get(name, name) for name in term.inputs[:2])

        def say(value: float, _: Event) -> str:
            side = "above" if value >= 0 else "below"
            return f"{of} lies {plain(abs(value))} standard deviations {side} the {to}"

        return Words(f"{of} against {to}", say, None, "", None)

    def _category(self, field: str) -> Words:
        identifies = {part for entity in self._spec.entities for part in entity.key}

        def say(_: float, event: Event) -> str:
            if field in identifies or field in event.entities:
                return f"which {field} it is"
            value = event.attributes.get(field)
            return (
                f"no {field} is given"
                if value is None
                else f"{field} is {text_of(value)[:CATEGORY_MAX_CHARACTERS]}"
            )

        return Words(field, say, None, "", None)


_DAYS: Final[Sequence[str]] = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip


def _clock(_: float, event: Event) -> str:
    return f"at {_utc(event):%H:%M} UTC"


def _day(_: float, event: Event) -> str:
    return f"on a {_DAYS[_utc(event).weekday()]} (UTC)"


def _utc(event: Event) -> datetime:
    return event.event_time.astimezone(UTC)


_CALENDAR: Final[dict[str, Says]] = {
    "event.hour_sin": _clock,
    "event.hour_cos": _clock,
    "event.weekday_sin": _day,
    "event.weekday_cos": _day,
    "event.is_night": _clock,
    "event.is_weekend": _day,
}

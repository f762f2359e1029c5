"""mapping YAML → LogMapping: which column of a log is which field of an event, or of its labels.

`docs/replay.md` shows the grammar; `mappings/` holds those for our own log and for the Handbook's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from features.event import ATTRIBUTES_MAX, ENTITIES_MAX
from features.spec_yaml import Place, SpecError, read_place

MAPPINGS: Final = Path(__file__).parent / "mappings"
SOURCES: Final = ("chargeback", "manual_review", "customer", "issuer", "rule")
STATES: Final = ("confirmed", "suspected", "reversed")
LABELS: Final = ("fraud", "legit")
ATTRIBUTE_TYPES: Final = frozenset({"text", "integer", "number", "boolean"})
NAMED_FORMATS: Final = frozenset({"rfc3339", "epoch_s", "epoch_ms"})
LABEL_RULES_MAX: Final = 8
SIGMA_MAX: Final = 4.0
_NAME: Final = re.compile("[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Term:
    """Where a value comes from: a column, or the mapping itself. Exactly one is given."""

    column: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class TimeTerm:
    """A column that holds an instant.

    Attributes:
        format: One of `NAMED_FORMATS`, or a pattern such as `%Y-%m-%d %H:%M:%S`. Columns that are
            typed as instants need none.
        zone: Where a time without an offset was noted, as in `Europe/Paris`.
    """

    column: str
    format: str = "rfc3339"
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Delay:
    """How long after the event a label becomes known.

    Attributes:
        median_ms: The delay itself when `sigma` is 0; else the median of a lognormal one, drawn
            by the event's identity and so the same in every replay.
    """

    median_ms: int
    sigma: float = 0.0


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute and the JSON type that it gets."""

    term: Term
    type: str = "text"


@dataclass(frozen=True, slots=True)
class LabelRule:
    """One label that a row may carry.

    Attributes:
        values: Column value → `fraud` or `legit`; used with a column.
        time: A column, or a delay after the event.
    """

    label: Term
    values: Mapping[str, str]
    source: Term
    state: Term
    time: TimeTerm | Delay


@dataclass(frozen=True, slots=True)
class LogMapping:
    """How rows of one kind of log become events and labels.

    Attributes:
        primary: The entity that keys the event.
        entities: Entity name → where its id stands; empty ids leave the entity out.
        amount: None for logs without money.
        amount_minor: Amounts are minor units already; else decimal major units.
        amount_nearest: Finer amounts are rounded; else they are bad rows.
        columns: Every column that is used → the place in the file that wants it.
    """

    name: str
    event_type: Term
    event_id: Term
    event_time: TimeTerm
    tenant: Term
    primary: str
    entities: Mapping[str, Term]
    amount: Term | None
    amount_minor: bool
    amount_nearest: bool
    currency: Term
    attributes: Mapping[str, Attribute]
    labels: tuple[LabelRule, ...]
    columns: Mapping[str, Place]

    @classmethod
    def load(cls, path: Path) -> "LogMapping":
        """Read and check a mapping file.

        Raises:
            SpecError: Names file, line and field, and what was expected there.
        """
        return _Reader().read(path)

    def check_columns(self, present: list[str]) -> None:
        """Refuse a log that lacks a column which the mapping uses.

        Raises:
            SpecError: Names the place in the mapping and the columns that there are.
        """
        for column, place in self.columns.items():
            if column not in present:
                raise place.error(f"the log has no column {column!r}; it has: {', '.join(present)}")


def find_mapping(name: str) -> Path:
    """Return the path of a mapping that comes with riskbeat, or of a file.

    Raises:
        SpecError: There is neither.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    known = sorted(found.stem for found in MAPPINGS.glob("*.yaml"))
    if name not in known:
        raise SpecError(f"no mapping {name!r}: give a .yaml file or one of: {', '.join(known)}")
    return MAPPINGS / f"{name}.yaml"


class _Reader:
    """The grammar of a mapping file; remembers which place uses which column."""

    def __init__(self) -> None:
        self._columns: dict[str, Place] = {}

    def read(self, path: Path) -> LogMapping:
        root = read_place(path)
        fields = root.mapping(
            required=frozenset({"event_type", "event_id", "event_time", "entities"}),
            allowed=frozenset(
                {"event_type", "event_id", "event_time", "tenant", "primary", "entities"}
                | {"amount", "attributes", "labels"}
            ),
        )
        entities = {name: self._term(place) for name, place in fields["entities"].mapping().items()}
        if not 1 <= len(entities) <= ENTITIES_MAX:
            raise fields["entities"].error(f"expected one to {ENTITIES_MAX} entities")
        for name, place in fields["entities"].mapping().items():
            if not _NAME.fullmatch(name):
                raise place.error("expected a name of small letters, digits and _")
        primary = next(iter(entities))
        if "primary" in fields:
            primary = fields["primary"].choice(frozenset(entities))
        amount, minor, nearest, currency = None, True, False, Term(value="EUR")
        if "amount" in fields:
            amount, minor, nearest, currency = self._amount(fields["amount"])
        attributes = fields["attributes"].mapping() if "attributes" in fields else {}
        if len(attributes) > ATTRIBUTES_MAX:
            raise fields["attributes"].error(f"expected at most {ATTRIBUTES_MAX} attributes")
        rules = list(fields["labels"].items()) if "labels" in fields else []
        if len(rules) > LABEL_RULES_MAX:
            raise fields["labels"].error(f"expected at most {LABEL_RULES_MAX} rules")
        return LogMapping(
            name=path.stem,
            event_type=self._term(fields["event_type"]),
            event_id=self._term(fields["event_id"]),
            event_time=self._time(fields["event_time"]),
            tenant=self._term(fields["tenant"]) if "tenant" in fields else Term(value="default"),
            primary=primary,
            entities=entities,
            amount=amount,
            amount_minor=minor,
            amount_nearest=nearest,
            currency=currency,
            attributes={name: self._attribute(place) for name, place in attributes.items()},
            labels=tuple(self._label(place) for place in rules),
            columns=self._columns,
        )

    def _column(self, place: Place) -> str:
        column = place.text()
        self._columns.setdefault(column, place)
        return column

    def _term(self, place: Place, allowed: tuple[str, ...] | None = None) -> Term:
        """Read `{column: NAME}` or `{value: TEXT}`."""
        return self._term_of(place, place.mapping(allowed=frozenset({"column", "value"})), allowed)

    def _term_of(
        self, place: Place, fields: Mapping[str, Place], allowed: tuple[str, ...] | None = None
    ) -> Term:
        if ("column" in fields) == ("value" in fields):
            raise place.error("expected {column: NAME} or {value: TEXT}")
        if "column" in fields:
            return Term(column=self._column(fields["column"]))
        if allowed is not None:
            return Term(value=fields["value"].choice(frozenset(allowed)))
        return Term(value=fields["value"].text())

    def _time(self, place: Place) -> TimeTerm:
        fields = place.mapping(
            required=frozenset({"column"}), allowed=frozenset({"column", "format", "zone"})
        )
        time_format = fields["format"].text() if "format" in fields else "rfc3339"
        if time_format not in NAMED_FORMATS and "%" not in time_format:
            known = ", ".join(sorted(NAMED_FORMATS))
            raise fields["format"].error(f"expected {known}, or a pattern with %")
        zone = fields["zone"].text() if "zone" in fields else "UTC"
        return TimeTerm(self._column(fields["column"]), time_format, zone)

    def _amount(self, place: Place) -> tuple[Term, bool, bool, Term]:
        fields = place.mapping(
            required=frozenset({"unit", "currency"}),
            allowed=frozenset({"column", "value", "unit", "currency", "rounding"}),
        )
        minor = fields["unit"].choice(frozenset({"minor", "major"})) == "minor"
        nearest = "rounding" in fields and (
            fields["rounding"].choice(frozenset({"exact", "nearest"})) == "nearest"
        )
        return self._term_of(place, fields), minor, nearest, self._term(fields["currency"])

    def _attribute(self, place: Place) -> Attribute:
        fields = place.mapping(allowed=frozenset({"column", "value", "type"}))
        kind = fields["type"].choice(ATTRIBUTE_TYPES) if "type" in fields else "text"
        return Attribute(self._term_of(place, fields), kind)

    def _label(self, place: Place) -> LabelRule:
        fields = place.mapping(
            required=frozenset({"label", "source", "time"}),
            allowed=frozenset({"label", "source", "state", "time"}),
        )
        label = fields["label"].mapping(allowed=frozenset({"column", "value", "fraud", "legit"}))
        values = {
            value.text(): name for name in LABELS if name in label for value in label[name].items()
        }
        term = self._term_of(fields["label"], label, LABELS)
        if (term.column is None) == bool(values):
            raise fields["label"].error("expected lists fraud and legit with a column, only there")
        state = Term(value="confirmed")
        if "state" in fields:
            state = self._term(fields["state"], STATES)
        source = self._term(fields["source"], SOURCES)
        return LabelRule(term, values, source, state, self._known(fields["time"]))

    def _known(self, place: Place) -> TimeTerm | Delay:
        """Read when a label becomes known: `{column: …}`, `{after: 7d}` or a lognormal delay."""
        fields = place.mapping()
        if "after" not in fields:
            return self._time(place)
        place.mapping(allowed=frozenset({"after", "sigma"}))
        sigma = 0.0
        if "sigma" in fields:
            sigma = float(fields["sigma"].positive())
            if sigma > SIGMA_MAX:
                raise fields["sigma"].error(f"expected at most {SIGMA_MAX:g}")
        return Delay(fields["after"].duration_ms(), sigma)

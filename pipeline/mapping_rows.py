"""chunks of columns → events and labels as bytes, by a mapping; every fault with line and field."""

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from features.event import entity_key, identity
from pipeline.mapping import SOURCES, STATES, Delay, LabelRule, LogMapping, Term
from pipeline.mapping_columns import (
    attribute_of,
    is_bad_amount,
    is_bad_id,
    minor_of,
    text_of,
    time_ms_of,
    tolerance_of,
)
from pipeline.replay_rows import EVENT, ITEMS, LABEL, NO_TIME, BadRow, Chunk, Mapped

VALUE_SHOWN_CHARS: Final = 60
_RFC3339: Final = "%Y-%m-%dT%H:%M:%S%.3fZ"
_encode = msgspec.json.Encoder().encode
_Columns = dict[str, list[Any]]


class ColumnMapping:
    """Rows of named columns, by a `LogMapping`."""

    wants_raw = False

    def __init__(self, mapping: LogMapping) -> None:
        """Hold the mapping."""
        self._mapping = mapping

    def check_columns(self, present: list[str]) -> None:
        """Refuse a log without the columns that are needed (SpecError)."""
        self._mapping.check_columns(present)

    def times_ms(self, chunk: Chunk) -> NDArray[np.int64]:
        """Return each row's event time, `NO_TIME` where it has none."""
        time_ms = time_ms_of(self._mapping.event_time, chunk.frame.schema)
        found: NDArray[np.int64] = (
            chunk.frame.select(t=time_ms.fill_null(NO_TIME)).to_series().to_numpy()
        )
        return found

    def items_of(self, chunk: Chunk) -> Mapped:
        """Return the events and labels of the rows."""
        rows, bad = self._events(chunk)
        event_items = self._encode_events(rows)
        label_items, bad_labels = self._labels(rows)
        bad = sorted([*chunk.bad, *bad, *bad_labels], key=lambda row: row.line)
        return Mapped(pl.concat([event_items, label_items]), bad)

    def _events(self, chunk: Chunk) -> tuple[pl.DataFrame, list[BadRow]]:
        """Compute the fields; return the good rows (with the raw ones beside) and the bad."""
        mapping, schema = self._mapping, chunk.frame.schema
        fields = {
            "event_type": text_of(mapping.event_type, schema),
            "event_id": text_of(mapping.event_id, schema),
            "tenant": text_of(mapping.tenant, schema),
            "time_ms": time_ms_of(mapping.event_time, schema),
            "currency": text_of(mapping.currency, schema),
        }
        for name, term in mapping.entities.items():
            fields[f"entity.{name}"] = text_of(term, schema)
        for name, attribute in mapping.attributes.items():
            fields[f"attribute.{name}"] = attribute_of(attribute, schema)
        if mapping.amount is not None:
            fields["minor"] = minor_of(
                text_of(mapping.amount, schema),
                fields["currency"],
                minor=mapping.amount_minor,
                tolerance=tolerance_of(mapping.amount, schema, nearest=mapping.amount_nearest),
            )
        rows = chunk.frame.with_columns(
            pl.Series("line", chunk.lines).alias("\0line")
        ).with_columns(**{f"\0{name}": field for name, field in fields.items()})
        checks = self._checks(schema)
        first = pl.coalesce(
            [pl.when(fault).then(pl.lit(n)) for n, (_, fault, _) in enumerate(checks)]
        )
        rows = rows.with_columns(first.alias("\0fault"))
        faulty = rows.filter(pl.col("\0fault").is_not_null())
        bad = [
            _bad_row(line, checks[fault][0], checks[fault][2], row)
            for line, fault, row in zip(
                faulty["\0line"], faulty["\0fault"], faulty.iter_rows(named=True), strict=True
            )
        ]
        return rows.filter(pl.col("\0fault").is_null()), bad

    def _checks(self, schema: pl.Schema) -> list[tuple[str, pl.Expr, str]]:
        """List (column, what is wrong, the reason) in the order in which they are reported."""
        mapping = self._mapping
        checks: list[tuple[str, pl.Expr, str]] = []

        def name_of(term: Term, field: str) -> str:
            return term.column or field

        for field, term in (
            ("event_id", mapping.event_id),
            ("event_type", mapping.event_type),
            ("tenant", mapping.tenant),
        ):
            column = pl.col(f"\0{field}")
            checks.append((name_of(term, field), column.is_null(), "is empty"))
            checks.append((name_of(term, field), is_bad_id(column), "is no identifier"))
        word = ~pl.col("\0event_type").str.contains("^[a-z][a-z0-9_]{0,63}$")
        checks.append((name_of(mapping.event_type, "event_type"), word, "is no event type"))
        time = pl.col("\0time_ms")
        told = mapping.event_time.format
        checks.append((mapping.event_time.column, time.is_null(), f"is no time ({told})"))
        checks.append((mapping.event_time.column, time < 0, "lies before 1970"))
        for name, term in mapping.entities.items():
            column = pl.col(f"\0entity.{name}")
            if name == mapping.primary:
                checks.append((name_of(term, name), column.is_null(), "is empty"))
            checks.append((name_of(term, name), is_bad_id(column), "is no identifier"))
        if mapping.amount is not None:
            place = name_of(mapping.currency, "currency")
            code = ~pl.col("\0currency").str.contains("^[A-Z]{3}$").fill_null(False)
            checks.append((place, code, "is no currency code (ISO 4217)"))
            place = name_of(mapping.amount, "amount")
            unit = "minor units" if mapping.amount_minor else "major units of that currency"
            checks.append((place, is_bad_amount(pl.col("\0minor")), f"is no amount in {unit}"))
        for name, attribute in mapping.attributes.items():
            lost = text_of(attribute.term, schema).is_not_null()
            lost &= pl.col(f"\0attribute.{name}").is_null()
            checks.append((name_of(attribute.term, name), lost, f"is no {attribute.type}"))
        return checks

    def _encode_events(self, rows: pl.DataFrame) -> pl.DataFrame:
        mapping = self._mapping
        known = _columns(rows)
        entities = [(name, known[f"entity.{name}"]) for name in mapping.entities]
        attributes = [(name, known[f"attribute.{name}"]) for name in mapping.attributes]
        minor = known.get("minor")
        bodies, keys = [], []
        primary = known[f"entity.{mapping.primary}"]
        for row, (event_type, event_id, tenant, time) in enumerate(
            zip(known["event_type"], known["event_id"], known["tenant"], known["time"], strict=True)
        ):
            event: dict[str, Any] = {
                "event_type": event_type,
                "event_id": event_id,
                "event_time": time,
                "entities": {n: ids[row] for n, ids in entities if ids[row] is not None},
            }
            if minor is not None:
                event["amount"] = {"value": minor[row], "currency": known["currency"][row]}
            if attributes:
                event["attributes"] = {n: vs[row] for n, vs in attributes if vs[row] is not None}
            if tenant != "default":
                event["tenant"] = tenant
            bodies.append(_encode(event))
            keys.append(entity_key(tenant, mapping.primary, primary[row]))
        return _items(rows["\0time_ms"], EVENT, rows["\0line"], keys, bodies)

    def _labels(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[BadRow]]:
        parts: list[pl.DataFrame] = [pl.DataFrame(schema=ITEMS)]
        bad: list[BadRow] = []
        for number, rule in enumerate(self._mapping.labels):
            labelled, faulty = _apply_rule(rule, number, rows)
            bad += faulty
            parts.append(_encode_labels(labelled))
        return pl.concat(parts), bad


def _apply_rule(
    rule: LabelRule, number: int, rows: pl.DataFrame
) -> tuple[pl.DataFrame, list[BadRow]]:
    """Return the rows that the rule labels, with `label.*` columns, and those that it cannot."""
    schema = rows.schema
    told = text_of(rule.label, schema)
    label = told
    if rule.label.column is not None:
        label = told.str.replace(r"\.0+$", "").replace_strict(
            dict(rule.values), default=None, return_dtype=pl.String
        )
    rows = rows.with_columns(
        told.alias("\0told"),
        label.alias("\0label"),
        text_of(rule.source, schema).alias("\0source"),
        text_of(rule.state, schema).fill_null("confirmed").alias("\0state"),
    ).filter(pl.col("\0told").is_not_null())
    rows = rows.with_columns(_known_ms(rule.time, number, rows).alias("\0known_ms"))
    time_field = rule.time.column if not isinstance(rule.time, Delay) else ""
    checks = (
        (rule.label.column or "label", pl.col("\0label").is_null(), "is neither fraud nor legit"),
        (
            rule.source.column or "source",
            ~pl.col("\0source").is_in(SOURCES).fill_null(False),
            f"is no label source ({', '.join(SOURCES)})",
        ),
        (
            rule.state.column or "state",
            ~pl.col("\0state").is_in(STATES),
            f"is no label state ({', '.join(STATES)})",
        ),
        (time_field, pl.col("\0known_ms").is_null(), "is no time at which the label was known"),
        (time_field, pl.col("\0known_ms") < 0, "lies before 1970"),
    )
    first = pl.coalesce([pl.when(fault).then(pl.lit(n)) for n, (_, fault, _) in enumerate(checks)])
    rows = rows.with_columns(first.alias("\0fault"))
    faulty = rows.filter(pl.col("\0fault").is_not_null())
    bad = [
        _bad_row(row["\0line"], checks[row["\0fault"]][0], checks[row["\0fault"]][2], row)
        for row in faulty.iter_rows(named=True)
    ]
    return rows.filter(pl.col("\0fault").is_null()), bad


def _known_ms(time: Any, number: int, rows: pl.DataFrame) -> pl.Expr | pl.Series:
    """Say when each row's label becomes known."""
    if not isinstance(time, Delay):
        return time_ms_of(time, rows.schema)
    if time.sigma == 0.0:
        return pl.col("\0time_ms") + time.median_ms
    names = zip(rows["\0tenant"], rows["\0event_type"], rows["\0event_id"], strict=True)
    delays = [_drawn_ms(time, number, identity(*name)) for name in names]
    return rows["\0time_ms"] + pl.Series(delays, dtype=pl.Int64)


def _drawn_ms(delay: Delay, seed: int, name: str) -> int:
    """Draw a lognormal delay from an identity (Box and Muller on 64 bits of hash)."""
    bits = xxhash.xxh3_64_intdigest(name.encode(), seed=seed)
    radius = ((bits >> 32) + 1) * 2.0**-32
    angle = (bits & 0xFFFFFFFF) * (2.0 * math.pi * 2.0**-32)
    normal = math.sqrt(-2.0 * math.log(radius)) * math.cos(angle)
    return max(round(delay.median_ms * math.exp(delay.sigma * normal)), 1)


def _encode_labels(rows: pl.DataFrame) -> pl.DataFrame:
    known = _columns(rows)
    when = rows["\0known_ms"].cast(pl.Datetime("ms")).dt.strftime(_RFC3339).to_list()
    bodies, keys = [], []
    for event_type, event_id, tenant, label, source, state, time in zip(
        known["event_type"], known["event_id"], known["tenant"],
        known["label"], known["source"], known["state"], when, strict=True,
    ):  # fmt: skip
        told = {
            "event_type": event_type,
            "event_id": event_id,
            "label": label,
            "source": source,
            "label_time": time,
        }
        if state != "confirmed":
            told["state"] = state
        if tenant != "default":
            told["tenant"] = tenant
        bodies.append(_encode(told))
        keys.append(identity(tenant, event_type, event_id).encode())
    return _items(rows["\0known_ms"], LABEL, rows["\0line"], keys, bodies)


def _columns(rows: pl.DataFrame) -> _Columns:
    """Return the computed columns as lists, by field, and `time` as RFC 3339."""
    known = {name[1:]: rows[name].to_list() for name in rows.columns if name.startswith("\0")}
    known["time"] = rows["\0time_ms"].cast(pl.Datetime("ms")).dt.strftime(_RFC3339).to_list()
    return known


def _items(
    due_ms: pl.Series, kind: int, lines: pl.Series, keys: Sequence[bytes], bodies: Sequence[bytes]
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "due_ms": due_ms,
            "kind": pl.repeat(kind, len(bodies), dtype=pl.Int8, eager=True),
            "line": lines,
            "key": pl.Series(keys, dtype=pl.Binary),
            "body": pl.Series(bodies, dtype=pl.Binary),
        },
        schema=ITEMS,
    )


def _bad_row(line: int, field: str, reason: str, row: dict[str, Any]) -> BadRow:
    value = row.get(field)
    if value is None or value == "":
        return BadRow(line, field, reason)
    return BadRow(line, field, f"{str(value)[:VALUE_SHOWN_CHARS]!r} {reason}")

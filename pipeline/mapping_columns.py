"""column terms → polars expressions: text, instants and money, exactly; null where none is."""

from typing import Final

import polars as pl

from features.event_wire import AMOUNT_MAX_MINOR, ID_MAX_CHARS
from pipeline.mapping import Attribute, Term, TimeTerm

CONTROL: Final = r"[\x00-\x1f\x7f]"
DEFAULT_MINOR_DIGITS: Final = 2
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"
MINOR_DIGITS: Final = {  # ISO 4217, where it is not two
    **dict.fromkeys(_NO_DIGITS.split(), 0),
    **dict.fromkeys(_THREE_DIGITS.split(), 3),
}
BINARY_NOISE: Final = 1e-3  # a float column holds 85.65 as 85.64999999999999
_MAJOR: Final = r"^([+-]?)(\d{1,13})(?:\.(\d{1,18}))?$"
_MINOR: Final = r"^[+-]?\d{1,15}(?:\.0+)?$"


def text_of(term: Term, schema: pl.Schema) -> pl.Expr:
    """Return a term as text; empty text and absent columns are null."""
    if term.column is None:
        return pl.lit(term.value, dtype=pl.String)
    if term.column not in schema:
        return pl.lit(None, dtype=pl.String)
    column = pl.col(term.column)
    if schema[term.column] == pl.String:
        return pl.when(column != "").then(column)
    if schema[term.column] == pl.Boolean:
        return pl.when(column).then(pl.lit("true")).when(~column).then(pl.lit("false"))
    return column.cast(pl.String)


def time_ms_of(term: TimeTerm, schema: pl.Schema) -> pl.Expr:
    """Return an instant in milliseconds since 1970 (floor), null where there is none."""
    dtype = schema.get(term.column, pl.Null())
    column = pl.col(term.column) if term.column in schema else pl.lit(None, dtype=pl.String)
    if isinstance(dtype, pl.Datetime | pl.Date):
        instant = column.cast(pl.Datetime("us", getattr(dtype, "time_zone", None)))
        if getattr(dtype, "time_zone", None) is None:
            instant = _placed(instant, term.zone)
        return instant.dt.epoch("us") // 1000
    if term.format in ("epoch_s", "epoch_ms"):
        scale = 1000 if term.format == "epoch_s" else 1
        if dtype.is_integer():
            return column.cast(pl.Int64) * scale
        number = column.cast(pl.Float64, strict=False) * scale
        return pl.when(number.is_finite()).then(number).round().cast(pl.Int64, strict=False)
    text = column.cast(pl.String)
    if term.format == "rfc3339":
        instant = text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
        return instant.dt.epoch("us") // 1000
    instant = text.str.to_datetime(term.format, time_unit="us", strict=False)
    return _placed(instant, term.zone).dt.epoch("us") // 1000


def _placed(instant: pl.Expr, zone: str) -> pl.Expr:
    """Read a wall clock: the earlier of two equal times, null for one that was skipped."""
    placed = instant.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return placed.dt.convert_time_zone("UTC")


def tolerance_of(term: Term, schema: pl.Schema, *, nearest: bool) -> float:
    """Return by how much of a minor unit an amount may miss a whole number of them."""
    if nearest:
        return 0.5
    typed = schema.get(term.column, pl.Null()) if term.column is not None else pl.Null()
    return BINARY_NOISE if typed.is_float() else 0.0


def minor_of(text: pl.Expr, currency: pl.Expr, *, minor: bool, tolerance: float) -> pl.Expr:
    """Return an amount in minor units, null where it is no number or finer than the currency.

    Args:
        text: The amount as written; decimal digits are converted exactly, without a float.
        currency: Says how many digits a major unit has.
        minor: Whether the text counts minor units already.
        tolerance: From `tolerance_of`.
    """
    if minor:
        counted = pl.when(text.str.contains(_MINOR)).then(text.str.replace(r"\.0+$", ""))
        return counted.str.strip_prefix("+").cast(pl.Int64, strict=False)
    digits = currency.replace_strict(
        MINOR_DIGITS, default=DEFAULT_MINOR_DIGITS, return_dtype=pl.Int64
    )
    sign = text.str.extract(_MAJOR, 1)
    whole = text.str.extract(_MAJOR, 2).cast(pl.Int64)
    decimals = text.str.extract(_MAJOR, 3).fill_null("").str.strip_chars_end("0")
    scale = pl.lit(10, dtype=pl.Int64).pow(digits)
    fraction = decimals.str.pad_end(3, "0").cast(pl.Int64, strict=False)
    value = whole * scale + fraction // pl.lit(10, dtype=pl.Int64).pow(3 - digits)
    exact = pl.when(sign == "-").then(-value).otherwise(value)
    number = text.cast(pl.Float64, strict=False) * scale
    near = whole.is_not_null() & ((number - number.round()).abs() <= tolerance)
    return (
        pl.when(decimals.str.len_chars() <= digits)
        .then(exact)
        .when(near & (tolerance > 0))
        .then(number.round().cast(pl.Int64, strict=False))
    )


def is_bad_id(text: pl.Expr) -> pl.Expr:
    """Say which texts are no identifier: too long, or with control characters."""
    return (text.str.len_chars() > ID_MAX_CHARS) | text.str.contains(CONTROL)


def is_bad_amount(minor: pl.Expr) -> pl.Expr:
    """Say which amounts are out of range, or none."""
    return minor.is_null() | (minor.abs() > AMOUNT_MAX_MINOR)


def attribute_of(attribute: Attribute, schema: pl.Schema) -> pl.Expr:
    """Return an attribute in its JSON type; null where the text is not of that type."""
    text = text_of(attribute.term, schema)
    if attribute.type == "integer":
        return text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    if attribute.type == "number":
        number = text.cast(pl.Float64, strict=False)
        return pl.when(number.is_finite()).then(number)
    if attribute.type == "boolean":
        truth = {"true": True, "1": True, "false": False, "0": False}
        return text.str.to_lowercase().replace_strict(truth, default=None, return_dtype=pl.Boolean)
    return text

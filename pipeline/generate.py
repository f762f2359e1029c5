"""a seed and a size → a log of payments with its frauds and labels: what riskbeat is shown on.

The same configuration always gives the same rows, however they are chunked. `docs/generator.md`
describes the model.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
import xxhash

from features.event import to_ms
from pipeline.generate_attacks import attack
from pipeline.generate_draws import Draws, Ints
from pipeline.generate_labels import LABELS, SOURCES, STATES, judge
from pipeline.generate_payments import (
    DAY_MS,
    HOUR_MS,
    NONE,
    Payments,
    Span,
    concat,
    intensity_of,
    pay_honestly,
)
from pipeline.generate_population import (
    CATEGORIES,
    COUNTRIES,
    CURRENCIES,
    CURRENCY_OF_COUNTRY,
    MINOR_PER_EURO_CENT,
    Population,
)
from pipeline.generate_schedule import SCENARIOS, Wave, plan_waves

CHUNK_EVENTS = 65_536
PAYMENTS_PER_CUSTOMER_DAY = 0.9
MERCHANTS_PER_CUSTOMER = 0.2
CUSTOMERS_MIN = 60
MERCHANTS_MIN = 40
FRAUD_RATE_MAX = 0.2
SPAN_DAYS_MAX = 3660.0
CHANNELS = ("ecom", "pos")
START = datetime(2025, 3, 3, tzinfo=UTC)  # a Monday
COLUMNS = pl.Schema(
    {
        "event_id": pl.String,
        "event_time": pl.String,
        "event_type": pl.String,
        "card": pl.String,
        "merchant": pl.String,
        "device": pl.String,
        "ip": pl.String,
        "amount_minor": pl.Int64,
        "currency": pl.String,
        "mcc": pl.String,
        "country": pl.String,
        "channel": pl.String,
        "is_fraud": pl.Int8,
        "scenario": pl.String,
        "label": pl.String,
        "label_source": pl.String,
        "label_time": pl.String,
        "label2": pl.String,
        "label2_source": pl.String,
        "label2_state": pl.String,
        "label2_time": pl.String,
    }
)


class BadGenerateConfig(ValueError):
    """The log that was asked for cannot be made; names the option."""


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """What log to make. Equal configurations make equal logs.

    Attributes:
        events: How many rows, exactly.
        start: First instant (aware).
        days: Length of the span; attacks and drift are placed in fractions of it.
        customers: 0 chooses so that each makes 0.9 payments a day.
        merchants: 0 chooses one for five customers.
        fraud_rate: Share of rows that are fraud (to a row); 0 for none.
        label_delay_scale: Multiplies label delays; at 1 chargebacks have a median of 2.5 days.
        drift: Whether honest behaviour drifts in the second half.
    """

    seed: int = 1
    events: int = 200_000
    start: datetime = START
    days: float = 30.0
    customers: int = 0
    merchants: int = 0
    fraud_rate: float = 0.011
    label_delay_scale: float = 1.0
    drift: bool = True

    def __post_init__(self) -> None:
        """Refuse what is out of range, by name."""
        if self.events < 1:
            raise BadGenerateConfig("events: must be at least 1")
        if not 0 < self.days <= SPAN_DAYS_MAX:
            raise BadGenerateConfig(f"days: must lie in (0, {SPAN_DAYS_MAX:g}]")
        if not 0 <= self.fraud_rate <= FRAUD_RATE_MAX:
            raise BadGenerateConfig(f"fraud_rate: must lie in [0, {FRAUD_RATE_MAX:g}]")
        if self.label_delay_scale <= 0:
            raise BadGenerateConfig("label_delay_scale: must be positive")
        if self.customers < 0 or self.merchants < 0:
            raise BadGenerateConfig("customers, merchants: must not be negative")
        if self.start.tzinfo is None or to_ms(self.start) < 0:
            raise BadGenerateConfig("start: must have a time zone and lie after 1970")

    @property
    def span(self) -> Span:
        """The time that the log covers."""
        return Span(to_ms(self.start), max(int(self.days * DAY_MS), 1), self.drift)

    @property
    def population(self) -> Population:
        """Everybody in the log."""
        usual = round(self.events / self.days / PAYMENTS_PER_CUSTOMER_DAY)
        customers = max(self.customers or usual, CUSTOMERS_MIN)
        merchants = self.merchants or round(customers * MERCHANTS_PER_CUSTOMER)
        return Population(Draws(self.seed), customers, max(merchants, MERCHANTS_MIN))

    @property
    def tag(self) -> str:
        """Part of every event id, so that two different logs never share an identity."""
        return xxhash.xxh3_64_hexdigest(repr(sorted(asdict(self).items())).encode())[:8]


def generate(config: GenerateConfig) -> Iterator[pl.DataFrame]:
    """Make the log, in order of event time, in frames of about `CHUNK_EVENTS` rows.

    Memory is bounded by a frame and the fraud of the waves that are under way (80 bytes each).
    """
    span, population = config.span, config.population
    waves = _Waves(population, plan_waves(span, round(config.events * config.fraud_rate)))
    edges_ms, counts = _slots(span, config.events - waves.rows)
    written = honest = 0
    for first, last in _chunks(counts):
        own = pay_honestly(
            population, span, honest, edges_ms[first:last], edges_ms[first + 1 : last + 1],
            counts[first:last],
        )  # fmt: skip
        honest += len(own)
        payments = concat([own, *waves.take_until(int(edges_ms[last]))])
        payments = payments.take(np.lexsort((payments.index, payments.time_ms)))
        if len(payments):
            yield _frame(config, population, payments, written)
            written += len(payments)
    assert written == config.events


class _Waves:
    """The attacks of a log, each made when its time comes and dropped when it is over."""

    def __init__(self, population: Population, waves: list[Wave]) -> None:
        self._population = population
        self._ahead = sorted(waves, key=lambda wave: (wave.start_ms, wave.number))
        self._under_way: list[Payments] = []
        self.rows = sum(wave.rows for wave in waves)

    def take_until(self, end_ms: int) -> list[Payments]:
        """Hand out the attacks' payments before `end_ms` that were not handed out yet."""
        while self._ahead and self._ahead[0].start_ms < end_ms:
            self._under_way.append(attack(self._population, self._ahead.pop(0)))
        taken, left = [], []
        for payments in self._under_way:
            cut = int(np.searchsorted(payments.time_ms, end_ms))
            taken.append(payments.take(slice(0, cut)))
            left.append(payments.take(slice(cut, None)))
        self._under_way = [payments for payments in left if len(payments)]
        return taken


def _slots(span: Span, payments: int) -> tuple[Ints, Ints]:
    """Cut the span into slots of at most an hour; return their edges and counts."""
    if payments < 0:
        raise BadGenerateConfig("fraud_rate: leaves no room for honest payments")
    busiest = payments / max(span.length_ms / HOUR_MS, 1.0) * 4
    slots = max(-(-span.length_ms // HOUR_MS), 1) * max(round(busiest / CHUNK_EVENTS), 1)
    edges_ms = span.start_ms + np.rint(np.linspace(0, span.length_ms, slots + 1)).astype(np.int64)
    work = intensity_of(span, edges_ms[:-1]).sum(axis=1) * np.diff(edges_ms)
    done = np.rint(np.concatenate([[0.0], np.cumsum(work) / work.sum()]) * payments)
    return edges_ms, np.diff(done).astype(np.int64)


def _chunks(counts: Ints) -> Iterator[tuple[int, int]]:
    """Group slots so that each group has about `CHUNK_EVENTS` payments."""
    first = payments = 0
    for slot, count in enumerate(counts):
        payments += int(count)
        if payments >= CHUNK_EVENTS or slot == len(counts) - 1:
            yield first, slot + 1
            first, payments = slot + 1, 0


def _frame(
    config: GenerateConfig, population: Population, payments: Payments, written: int
) -> pl.DataFrame:
    verdicts = judge(population.draws, payments, config.label_delay_scale)
    country = population.country_of(payments.merchant)
    currency = CURRENCY_OF_COUNTRY[country]
    minor = np.rint(payments.cents * MINOR_PER_EURO_CENT[currency]).astype(np.int64)
    number = np.arange(written, written + len(payments))
    columns = {
        "event_id": _named(f"pay_{config.tag}_", number),
        "event_time": _instant(payments.time_ms),
        "event_type": pl.repeat("card_payment", len(number), eager=True),
        "card": _named("card_", payments.card),
        "merchant": _named("m_", payments.merchant),
        "device": _named("dev_", _disguised(population.draws, payments.device)),
        "ip": _address(payments.ip),
        "amount_minor": pl.Series(np.maximum(minor, 1)),
        "currency": _chosen(CURRENCIES, currency),
        "mcc": _chosen([mcc for mcc, *_ in CATEGORIES], population.category_of(payments.merchant)),
        "country": _chosen([code for code, *_ in COUNTRIES], country),
        "channel": _chosen(CHANNELS, payments.channel),
        "is_fraud": pl.Series((payments.scenario > 0).astype(np.int8)),
        "scenario": _chosen(SCENARIOS, payments.scenario),
        "label": _chosen(LABELS, verdicts.label),
        "label_source": _chosen(SOURCES, verdicts.source),
        "label_time": _instant(verdicts.time_ms),
        "label2": _chosen(LABELS, verdicts.label2),
        "label2_source": _chosen(SOURCES, verdicts.source2),
        "label2_state": _chosen(STATES, verdicts.state2),
        "label2_time": _instant(verdicts.time2_ms),
    }
    return pl.DataFrame(columns, schema=COLUMNS)


def _known(values: Ints) -> pl.Series:
    """Return the values with null for -1."""
    series = pl.Series(values)
    return series.set(series == NONE, None)


def _named(prefix: str, numbers: Ints) -> pl.Series:
    return pl.select(pl.concat_str(pl.lit(prefix), _known(numbers).cast(pl.String))).to_series()


def _disguised(draws: Draws, device: Ints) -> Ints:
    """Hash device numbers to 53 bits: a number must not tell a thief's device from another."""
    hashed = (draws.bits("device.name", device) >> np.uint64(11)).astype(np.int64)
    return np.where(device == NONE, NONE, hashed)


def _chosen(names: tuple[str, ...] | list[str], which: Ints) -> pl.Series:
    return pl.Series(names).gather(_known(which))


def _instant(time_ms: Ints) -> pl.Series:
    """Return RFC 3339 in UTC to the millisecond, null for -1."""
    return _known(time_ms).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def _address(ip: Ints) -> pl.Series:
    parts = [_known(np.where(ip == NONE, NONE, (ip >> shift) & 255)) for shift in (24, 16, 8, 0)]
    return pl.select(pl.concat_str(parts, separator=".")).to_series()

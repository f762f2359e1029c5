"""slots of time → honest payments: the everyday from which fraud has to be told.

Rhythm comes from where and when customers live; amounts from customer and merchant category. In the
second half of the log honest behaviour drifts, so that what was learned before fits less and less.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipeline.generate_draws import Draws, Floats, Ints, pair
from pipeline.generate_population import (
    CATEGORIES,
    COUNTRIES,
    FAVOURITES,
    GROUP_CHRONOTYPE,
    GROUP_COUNTRY,
    GROUP_SHARE,
    HOME_OFFSET_H,
    HOURLY,
    ONLINE_SHARE,
    SIGMA,
    WEEKLY,
    Population,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NONE = -1  # no device, no address: the card was present
ONLINE, PRESENT = 0, 1
DRIFT_FROM, DRIFT_TO = 0.40, 0.62  # fractions of the span
DRIFT_AMOUNT = 0.35  # by how much log amounts grow
DRIFT_ONLINE = 0.22  # share of payments that move online
DRIFT_EVENING_H = 2.5  # hours by which habits move later
NEW_DEVICE_SHARE = 0.40  # customers who change their device during the drift
FLASH_FROM = 0.45
FLASH_SLOTS = 0.10  # share of hours with a flash sale
FLASH_SHARE = 0.10  # share of such an hour's payments that go to it
DIGITAL_GOODS = [mcc for mcc, *_ in CATEGORIES].index("5816")


@dataclass(frozen=True, slots=True)
class Payments:
    """Columns of payments, one row each.

    Attributes:
        index: Names the row in every later draw; unique in the log.
        device: Device number, or `NONE`.
        ip: IPv4 address as a number, or `NONE`.
        cents: Amount in euro cents, at least 1.
        scenario: 0 for an honest payment, else index into `SCENARIOS` of the attacks.
        oddity: 0..1, how odd it looks to an analyst.
    """

    index: Ints
    time_ms: Ints
    card: Ints
    merchant: Ints
    device: Ints
    ip: Ints
    cents: Floats
    channel: Ints
    scenario: Ints
    oddity: Floats

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.index)

    def take(self, rows: Ints | slice) -> "Payments":
        """Return some rows, in the given order."""
        return Payments(*(getattr(self, field.name)[rows] for field in fields(self)))


def concat(parts: Sequence[Payments]) -> Payments:
    """Return the rows of all parts."""
    names = [field.name for field in fields(Payments)]
    return Payments(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a log covers: `[start_ms, start_ms + length_ms)`."""

    start_ms: int
    length_ms: int
    drift: bool = True

    def fraction(self, time_ms: Ints) -> Floats:
        """Return how much of the span lies before each time, 0..1."""
        return (time_ms - self.start_ms) / self.length_ms

    def drift_at(self, time_ms: Ints) -> Floats:
        """Return how far honest behaviour has drifted, 0..1."""
        if not self.drift:
            return np.zeros(len(time_ms))
        done = (self.fraction(time_ms) - DRIFT_FROM) / (DRIFT_TO - DRIFT_FROM)
        return np.clip(done, 0.0, 1.0)


def intensity_of(span: Span, slot_start_ms: Ints) -> Floats:
    """Return how many payments each group makes in each slot, relative; shape (slots, groups)."""
    later_h = span.drift_at(slot_start_ms)[:, None] * DRIFT_EVENING_H
    local_h = slot_start_ms[:, None] / HOUR_MS + HOME_OFFSET_H[GROUP_COUNTRY] - later_h
    hour = local_h.astype(np.int64)
    weekday = (hour // 24 + 3) % 7  # 1970-01-01 was a Thursday
    chronotype = np.broadcast_to(GROUP_CHRONOTYPE, hour.shape)
    rhythm = HOURLY[chronotype, hour % 24] * WEEKLY[chronotype, weekday]
    intensity: Floats = rhythm * GROUP_SHARE
    return intensity


def pay_honestly(
    population: Population, span: Span, first: int, slot_ms: Ints, slot_end_ms: Ints, counts: Ints
) -> Payments:
    """Make the honest payments of some slots; unordered within a slot.

    Args:
        population: Who pays whom.
        span: The whole log's time.
        first: Number of honest payments before these.
        slot_ms: Start of each slot.
        slot_end_ms: End of each slot.
        counts: How many payments to make in each slot.
    """
    draws = population.draws
    index = np.arange(first, first + int(counts.sum()), dtype=np.int64)
    slot = np.repeat(np.arange(len(counts)), counts)
    width = (slot_end_ms - slot_ms)[slot]
    time_ms = slot_ms[slot] + (width * draws.uniform("time", index)).astype(np.int64)
    group = _groups_of(intensity_of(span, slot_ms), slot, draws.uniform("group", index))
    customer = population.customers_of(group, draws.uniform("customer", index))
    home = GROUP_COUNTRY[group]
    drift = span.drift_at(time_ms)
    flash, flash_merchant = _flash_sales(population, span, index, time_ms)
    merchant = np.where(flash, flash_merchant, _merchants_of(population, customer, home, index))
    category = population.category_of(merchant)
    noise = draws.normal("amount", index)
    log_cents = population.usual_log_cents(customer, merchant, category)
    log_cents += DRIFT_AMOUNT * drift + SIGMA[category] * noise
    cents = np.exp(log_cents)
    cents = np.where(flash, 150.0 + 900.0 * draws.uniform("flash.amount", index), cents)
    online = draws.uniform("channel", index) < ONLINE_SHARE[category] + DRIFT_ONLINE * drift
    online |= flash
    device, fresh = _devices_of(draws, span, customer, index, time_ms)
    return Payments(
        index=index,
        time_ms=time_ms,
        card=population.card_of(customer, draws.uniform("card", index)),
        merchant=merchant,
        device=np.where(online, device, NONE),
        ip=np.where(online, _ips_of(draws, customer, home, index), NONE),
        cents=np.maximum(cents, 1.0),
        channel=np.where(online, ONLINE, PRESENT),
        scenario=np.zeros(len(index), dtype=np.int64),
        oddity=0.04 + 0.5 * (noise > 2.0) + 0.3 * flash + 0.2 * (fresh & online),
    )


def _groups_of(intensity: Floats, slot: Ints, u: Floats) -> Ints:
    """Choose a group for each payment of a slot, by the slot's intensities."""
    edges = np.cumsum(intensity / intensity.sum(axis=1, keepdims=True), axis=1)
    edges[:, -1] = 1.0
    flat = (edges + np.arange(len(edges))[:, None]).ravel()
    found = np.searchsorted(flat, slot + u, side="right") - slot * edges.shape[1]
    group: Ints = np.minimum(found, edges.shape[1] - 1)
    return group


def _merchants_of(population: Population, customer: Ints, home: Ints, index: Ints) -> Ints:
    draws = population.draws
    habit = draws.uniform("habit", index)
    u = draws.uniform("merchant", index)
    favourite = population.favourite_of(customer, home, (FAVOURITES * u**1.7).astype(np.int64))
    market = np.where(habit < 0.92, home, len(COUNTRIES))
    return np.where(habit < 0.72, favourite, population.merchants_of(market, u))


def _flash_sales(
    population: Population, span: Span, index: Ints, time_ms: Ints
) -> tuple[NDArray[np.bool_], Ints]:
    """Say which payments go to a sale of that hour: honest bursts that look like card testing."""
    draws = population.draws
    hour = time_ms // HOUR_MS
    on = draws.uniform("flash.on", hour) < FLASH_SLOTS
    on &= draws.uniform("flash.buyer", index) < FLASH_SHARE
    if span.drift:
        on &= span.fraction(time_ms) >= FLASH_FROM
    else:
        on[:] = False
    everywhere = np.full(len(index), len(COUNTRIES))
    return on, population.merchants_of(everywhere, draws.uniform("flash.merchant", hour))


def _devices_of(
    draws: Draws, span: Span, customer: Ints, index: Ints, time_ms: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the device in use, and whether it is one that came during the drift."""
    which = (draws.uniform("device.count", customer) < 0.45) & (
        draws.uniform("device.which", index) < 0.3
    )
    name = pair(customer, which.astype(np.int64))
    change = DRIFT_FROM + 0.5 * draws.uniform("device.change", name)
    changes = draws.uniform("device.changes", name) < NEW_DEVICE_SHARE
    fresh = changes & (span.fraction(time_ms) >= change) & span.drift
    return (customer * 2 + which) * 2 + fresh, fresh


def _ips_of(draws: Draws, customer: Ints, home: Ints, index: Ints) -> Ints:
    """Return home (70 %), a mobile carrier's shared address (25 %), or somewhere else."""
    u = draws.uniform("ip.kind", index)
    household = draws.bits("ip.home", customer // 2) >> np.uint64(32)
    carrier = draws.bits("ip.carrier", pair(home, customer % 31)) >> np.uint64(32)
    other = draws.bits("ip.other", index) >> np.uint64(32)
    address = np.where(u < 0.70, household, np.where(u < 0.95, carrier, other))
    return public_address(address)


def public_address(bits: NDArray[np.uint64]) -> Ints:
    """Turn 32 random bits into an address number whose first byte is 11..126 (never private)."""
    return ((bits & np.uint64(0xFFFFFF)).astype(np.int64)) | (
        (11 + ((bits >> np.uint64(24)) % np.uint64(116)).astype(np.int64)) << 24
    )

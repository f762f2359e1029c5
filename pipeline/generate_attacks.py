"""a wave → its payments: how each kind of fraud looks in the log."""

import numpy as np

from pipeline.generate_draws import Draws, Floats, Ints, pair
from pipeline.generate_payments import (
    DAY_MS,
    DIGITAL_GOODS,
    HOUR_MS,
    NONE,
    ONLINE,
    PRESENT,
    Payments,
    concat,
    public_address,
)
from pipeline.generate_population import (
    CARDS_MAX,
    COUNTRIES,
    HOME_OFFSET_H,
    LOG_MEDIAN_CENTS,
    Population,
)
from pipeline.generate_schedule import SCENARIOS, VICTIM_PAYMENTS, Wave

MINUTE_MS = 60_000
CREW_PAYMENTS = 120  # of one card testing burst
SLOW_CREW_PAYMENTS = 60
THIEF_PAYMENTS = 6  # with one stolen card
QUIET_THIEF_PAYMENTS = 5
RING_PAYMENTS = 90  # from one compromised merchant
THIEVES_DEVICE = np.int64(1) << 40  # device numbers from here on are the fraudsters' own
WAVE_INDEX = np.int64(1) << 44  # row numbers of wave n start at n * this


def attack(population: Population, wave: Wave) -> Payments:
    """Make all payments of one wave, in order of time."""
    make = {
        "card_testing": _test_cards,
        "slow_card_testing": _test_cards_slowly,
        "stolen_card": _spend,
        "quiet_stolen_card": _spend_quietly,
        "compromised_merchant": _skim_and_cash_out,
        "account_takeover": _take_over,
    }[SCENARIOS[wave.scenario]]
    payments = make(population, wave, WAVE_INDEX * wave.number + np.arange(wave.payments))
    return payments.take(np.lexsort((payments.index, payments.time_ms)))


def _unit_of(wave: Wave, index: Ints, size: int) -> Ints:
    """Number the crews (or thieves, or rings) of `size` payments each."""
    return WAVE_INDEX * wave.number + (index - WAVE_INDEX * wave.number) // size


def _begin(draws: Draws, wave: Wave, unit: Ints, lasts_ms: int) -> Ints:
    """Say when each unit starts, early enough to end with the wave where it can."""
    room = max(wave.end_ms - wave.start_ms - lasts_ms, 1)
    return wave.start_ms + (room * draws.uniform("attack.begin", unit)).astype(np.int64)


def _within(wave: Wave, time_ms: Ints) -> Ints:
    return np.minimum(time_ms, wave.end_ms - 1)


def _everywhere(population: Population, stream: str, name: Ints) -> Ints:
    market = np.full(len(name), len(COUNTRIES))
    return population.merchants_of(market, population.draws.uniform(stream, name))


def _addresses(draws: Draws, name: Ints) -> Ints:
    return public_address(draws.bits("attack.ip", name) >> np.uint64(32))


def _frauds(  # the columns that all scenarios share
    wave: Wave,
    index: Ints,
    *,
    time_ms: Ints,
    card: Ints,
    merchant: Ints,
    device: Ints,
    ip: Ints,
    cents: Floats,
    oddity: float,
) -> Payments:
    return Payments(
        index=index,
        time_ms=_within(wave, time_ms),
        card=card,
        merchant=merchant,
        device=device,
        ip=ip,
        cents=np.maximum(cents, 1.0),
        channel=np.where(device == NONE, PRESENT, ONLINE),
        scenario=np.full(len(index), wave.scenario),
        oddity=np.full(len(index), oddity),
    )


def _test_cards(population: Population, wave: Wave, index: Ints) -> Payments:
    """Many small payments of many cards, few devices and addresses, one merchant, 15 minutes."""
    draws = population.draws
    crew = _unit_of(wave, index, CREW_PAYMENTS)
    begin = _begin(draws, wave, crew, 15 * MINUTE_MS)
    return _frauds(
        wave,
        index,
        time_ms=begin + draws.below("attack.time", index, 15 * MINUTE_MS),
        card=population.anyone("attack.card", index) * CARDS_MAX,
        merchant=_everywhere(population, "attack.merchant", crew),
        device=THIEVES_DEVICE + pair(crew, draws.below("attack.device", index, 3)),
        ip=_addresses(draws, pair(crew, draws.below("attack.route", index, 5))),
        cents=100.0 + 400.0 * draws.uniform("attack.amount", index),
        oddity=0.9,
    )


def _test_cards_slowly(population: Population, wave: Wave, index: Ints) -> Payments:
    """The same after it was learned: half a day, six merchants, two payments to a device."""
    draws = population.draws
    crew = _unit_of(wave, index, SLOW_CREW_PAYMENTS)
    begin = _begin(draws, wave, crew, 12 * HOUR_MS)
    device = THIEVES_DEVICE + index // 2
    return _frauds(
        wave,
        index,
        time_ms=begin
        + draws.below("attack.time", index // 2, 12 * HOUR_MS)
        + draws.below("attack.pause", index, 5 * MINUTE_MS),
        card=population.anyone("attack.card", index) * CARDS_MAX,
        merchant=_everywhere(
            population, "attack.merchant", pair(crew, draws.below("attack.shop", index, 6))
        ),
        device=device,
        ip=_addresses(draws, pair(crew, draws.below("attack.route", device, 12))),
        cents=draws.lognormal("attack.amount", index, 1900.0, 0.4),
        oddity=0.45,
    )


def _spend(population: Population, wave: Wave, index: Ints) -> Payments:
    """A stolen card: amounts several times its owner's, for half a day, half of it in shops."""
    draws = population.draws
    thief = _unit_of(wave, index, THIEF_PAYMENTS)
    begin = _begin(draws, wave, thief, 10 * HOUR_MS)
    customer = population.anyone("attack.card", thief)
    abroad = draws.below("attack.abroad", thief, len(COUNTRIES))
    merchant = population.merchants_of(abroad, draws.uniform("attack.merchant", index))
    usual = population.usual_log_cents(customer, merchant, population.category_of(merchant))
    online = draws.uniform("attack.online", index) < 0.5
    return _frauds(
        wave,
        index,
        time_ms=begin + draws.below("attack.time", index, 10 * HOUR_MS),
        card=customer * CARDS_MAX,
        merchant=merchant,
        device=np.where(online, THIEVES_DEVICE + thief, NONE),
        ip=np.where(online, _addresses(draws, thief), NONE),
        cents=np.maximum(np.exp(usual), 2500.0) * draws.lognormal("attack.amount", index, 6.0, 0.4),
        oddity=0.7,
    )


def _spend_quietly(population: Population, wave: Wave, index: Ints) -> Payments:
    """The same after it was learned: at night, ordinary round sums, shops that sell vouchers."""
    draws = population.draws
    thief = _unit_of(wave, index, QUIET_THIEF_PAYMENTS)
    customer = population.anyone("attack.card", thief)
    midnight = _begin(draws, wave, thief, DAY_MS) // DAY_MS * DAY_MS
    offset = HOME_OFFSET_H[population.home_of(customer)] * HOUR_MS
    begin = midnight - offset + HOUR_MS + draws.below("attack.hour", thief, 4 * HOUR_MS)
    typical = np.exp(LOG_MEDIAN_CENTS[DIGITAL_GOODS]) * 2.2
    return _frauds(
        wave,
        index,
        time_ms=np.maximum(begin, wave.start_ms)
        + draws.below("attack.time", index, 40 * MINUTE_MS),
        card=customer * CARDS_MAX,
        merchant=_everywhere(population, "attack.merchant", index),
        device=THIEVES_DEVICE + thief // 2,
        ip=_addresses(draws, thief // 2),
        cents=np.rint(draws.lognormal("attack.amount", thief, typical / 500, 0.35)) * 500.0,
        oddity=0.35,
    )


def _skim_and_cash_out(population: Population, wave: Wave, index: Ints) -> Payments:
    """Cards that honestly paid at one merchant are used days later at the ring's own shops."""
    draws = population.draws
    ring = _unit_of(wave, index, RING_PAYMENTS)
    victim = _unit_of(wave, index, VICTIM_PAYMENTS)
    length = wave.end_ms - wave.start_ms
    visit = wave.start_ms + (0.55 * length * draws.uniform("attack.visit", victim)).astype(np.int64)
    later = 0.05 + 0.35 * draws.uniform("attack.later", victim)
    customer = population.anyone("attack.card", victim)
    mule = draws.below("attack.device", index, 4)
    frauds = _frauds(
        wave,
        index,
        time_ms=visit
        + (length * later).astype(np.int64)
        + draws.below("attack.time", index, 2 * HOUR_MS),
        card=customer * CARDS_MAX,
        merchant=_everywhere(
            population, "attack.merchant", pair(ring, draws.below("attack.shop", index, 3))
        ),
        device=THIEVES_DEVICE + pair(ring, mule),
        ip=_addresses(draws, pair(ring, mule)),
        cents=draws.lognormal("attack.amount", index, 14000.0, 0.45),
        oddity=0.3,
    )
    _, first = np.unique(victim, return_index=True)
    skimmer = _everywhere(population, "attack.skimmer", ring)
    usual = population.usual_log_cents(customer, skimmer, population.category_of(skimmer))
    visits = Payments(
        index=index[first] + WAVE_INDEX // 2,
        time_ms=visit[first],
        card=frauds.card[first],
        merchant=skimmer[first],
        device=np.full(len(first), NONE),
        ip=np.full(len(first), NONE),
        cents=np.exp(usual[first]),
        channel=np.full(len(first), PRESENT),
        scenario=np.zeros(len(first), dtype=np.int64),
        oddity=np.full(len(first), 0.04),
    )
    return concat([frauds, visits])


def _take_over(population: Population, wave: Wave, index: Ints) -> Payments:
    """A device and an address never seen before spend on an account, two or three times as much."""
    draws = population.draws
    victim = _unit_of(wave, index, VICTIM_PAYMENTS)
    begin = _begin(draws, wave, victim, 2 * HOUR_MS)
    customer = population.anyone("attack.card", victim)
    merchant = _everywhere(population, "attack.merchant", index)
    usual = population.usual_log_cents(customer, merchant, population.category_of(merchant))
    return _frauds(
        wave,
        index,
        time_ms=begin + draws.below("attack.time", index, 2 * HOUR_MS),
        card=customer * CARDS_MAX,
        merchant=merchant,
        device=THIEVES_DEVICE + victim,
        ip=_addresses(draws, victim),
        cents=np.exp(usual) * draws.lognormal("attack.amount", index, 2.4, 0.3),
        oddity=0.4,
    )

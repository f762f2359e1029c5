"""customer or merchant number → its nature: who pays whom, without a table of either.

Customers and merchants are numbers; what they are like is drawn from the number. Customers are
numbered by group (country, then chronotype) and merchants by market (country, then the shops that
sell to everybody), so membership is a comparison.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.generate_draws import Draws, Floats, Ints, pair

CARDS_MAX = 4  # card number = customer * CARDS_MAX + which
FAVOURITES = 8
CUSTOMER_SKEW = 1.6  # exponent: how unevenly customers pay
MERCHANT_SKEW = 1.9  # exponent: how unevenly merchants are visited
EVERYWHERE_SHARE = 0.15  # of all merchants sell to every country

# code, hours from UTC, share of customers, currency
COUNTRIES = (
    ("FR", 1, 0.30, "EUR"),
    ("DE", 1, 0.25, "EUR"),
    ("ES", 1, 0.14, "EUR"),
    ("NL", 1, 0.08, "EUR"),
    ("PT", 0, 0.05, "EUR"),
    ("GB", 0, 0.18, "GBP"),
)
CURRENCIES = ("EUR", "GBP")
MINOR_PER_EURO_CENT = np.array([1.0, 0.86])

# mcc, median in cents, sigma, share of payments that are online, weight
CATEGORIES = (
    ("5411", 3200, 0.55, 0.08, 0.24),  # groceries
    ("5812", 2800, 0.50, 0.10, 0.14),  # restaurants
    ("5814", 1100, 0.40, 0.15, 0.12),  # fast food
    ("5541", 5200, 0.35, 0.01, 0.09),  # fuel
    ("4111", 900, 0.55, 0.45, 0.08),  # local transport
    ("5651", 5400, 0.60, 0.50, 0.08),  # clothing
    ("5732", 16500, 0.75, 0.60, 0.05),  # electronics
    ("5912", 1900, 0.50, 0.12, 0.06),  # pharmacies
    ("5816", 1400, 0.60, 0.99, 0.06),  # digital goods
    ("4814", 2500, 0.45, 0.90, 0.03),  # telephone
    ("7011", 14500, 0.55, 0.70, 0.02),  # hotels
    ("5944", 21000, 0.80, 0.35, 0.01),  # jewellery
    ("5942", 2100, 0.45, 0.70, 0.02),  # books
)

_ACTIVE_BY_HOUR = {
    "day": "1 1 1 1 1 3 9 22 36 42 46 58 72 60 48 46 50 58 54 36 20 10 5 2",
    "evening": "6 3 2 1 1 1 4 10 18 24 30 44 54 40 34 36 46 64 76 70 52 36 22 12",
    "night": "30 22 15 9 5 3 3 5 8 12 18 28 36 32 28 28 32 40 52 60 62 58 50 40",
}
CHRONOTYPES = (("day", 0.50), ("evening", 0.36), ("night", 0.14))
_ACTIVE_BY_WEEKDAY = {  # Monday first
    "day": (1.00, 0.98, 1.00, 1.04, 1.16, 1.02, 0.66),
    "evening": (0.86, 0.88, 0.92, 1.02, 1.26, 1.32, 0.94),
    "night": (0.84, 0.84, 0.88, 0.98, 1.30, 1.40, 1.00),
}

HOME_OFFSET_H = np.array([offset for _, offset, _, _ in COUNTRIES])
CURRENCY_OF_COUNTRY = np.array([CURRENCIES.index(currency) for *_, currency in COUNTRIES])
LOG_MEDIAN_CENTS = np.log([median for _, median, *_ in CATEGORIES])
SIGMA = np.array([sigma for _, _, sigma, _, _ in CATEGORIES])
ONLINE_SHARE = np.array([online for *_, online, _ in CATEGORIES])
HOURLY = np.array([_ACTIVE_BY_HOUR[name].split() for name, _ in CHRONOTYPES], dtype=np.float64)
HOURLY /= HOURLY.sum(axis=1, keepdims=True)
WEEKLY = np.array([_ACTIVE_BY_WEEKDAY[name] for name, _ in CHRONOTYPES])
GROUP_SHARE = np.array([c[2] * share for c in COUNTRIES for _, share in CHRONOTYPES])
GROUP_COUNTRY = np.repeat(np.arange(len(COUNTRIES)), len(CHRONOTYPES))
GROUP_CHRONOTYPE = np.tile(np.arange(len(CHRONOTYPES)), len(COUNTRIES))
_CATEGORY_EDGES = np.cumsum([weight for *_, weight in CATEGORIES])
_CARD_EDGES = np.array([0.60, 0.90])  # one, two, three cards


def _edges(shares: Floats, total: int) -> Ints:
    """Cut `total` numbers into blocks by share, each of at least one."""
    blocks = len(shares)
    edges = np.rint(np.concatenate([[0.0], np.cumsum(shares / shares.sum())]) * total)
    edges = np.maximum(edges, np.arange(blocks + 1))
    cuts: Ints = np.minimum(edges, total - blocks + np.arange(blocks + 1)).astype(np.int64)
    return cuts


@dataclass(frozen=True, slots=True)
class Population:
    """Everybody of one log.

    Attributes:
        customers: How many there are; at least one for each group.
        merchants: How many there are; at least one for each market.
    """

    draws: Draws
    customers: int
    merchants: int

    @property
    def group_edges(self) -> Ints:
        """First customer of each group, and the end."""
        return _edges(GROUP_SHARE, self.customers)

    @property
    def market_edges(self) -> Ints:
        """First merchant of each country, of the shops for everybody, and the end."""
        shares = np.array([share for _, _, share, _ in COUNTRIES])
        return _edges(np.append(shares, EVERYWHERE_SHARE), self.merchants)

    def customers_of(self, group: Ints, u: Floats) -> Ints:
        """Pick a customer of each group; the first ones of a group pay most often."""
        edges = self.group_edges
        size = np.diff(edges)[group]
        return edges[group] + (size * u**CUSTOMER_SKEW).astype(np.int64)

    def anyone(self, stream: str, index: Ints) -> Ints:
        """Pick any customer, all alike."""
        return self.draws.below(stream, index, self.customers)

    def home_of(self, customer: Ints) -> Ints:
        """Return each customer's country (index into `COUNTRIES`)."""
        group = np.searchsorted(self.group_edges, customer, side="right") - 1
        return GROUP_COUNTRY[group]

    def card_of(self, customer: Ints, u: Floats) -> Ints:
        """Pick one of each customer's one to three cards; the first one mostly."""
        cards = 1 + np.searchsorted(_CARD_EDGES, self.draws.uniform("cards", customer))
        return customer * CARDS_MAX + (cards * u**2).astype(np.int64)

    def market_of(self, merchant: Ints) -> Ints:
        """Return where each merchant sells: a country's index, or `len(COUNTRIES)` for all."""
        return np.searchsorted(self.market_edges, merchant, side="right") - 1

    def country_of(self, merchant: Ints) -> Ints:
        """Return where each merchant is; those that sell everywhere are somewhere, too."""
        market = self.market_of(merchant)
        seat = self.draws.below("seat", merchant, len(COUNTRIES))
        return np.where(market == len(COUNTRIES), seat, market)

    def merchants_of(self, market: Ints, u: Floats) -> Ints:
        """Pick a merchant of each market; its first ones are visited most."""
        edges = self.market_edges
        size = np.diff(edges)[market]
        return edges[market] + (size * u**MERCHANT_SKEW).astype(np.int64)

    def favourite_of(self, customer: Ints, home: Ints, which: Ints) -> Ints:
        """Return one of each customer's favourite merchants."""
        name = pair(customer, which)
        abroad = self.draws.uniform("favourite.market", name) < EVERYWHERE_SHARE
        market = np.where(abroad, len(COUNTRIES), home)
        return self.merchants_of(market, self.draws.uniform("favourite", name))

    def category_of(self, merchant: Ints) -> Ints:
        """Return what each merchant sells (index into `CATEGORIES`)."""
        found = np.searchsorted(_CATEGORY_EDGES, self.draws.uniform("category", merchant), "right")
        return np.minimum(found, len(CATEGORIES) - 1)

    def usual_log_cents(self, customer: Ints, merchant: Ints, category: Ints) -> Floats:
        """Return the log of the median amount, in euro cents, of this customer at this merchant."""
        usual: Floats = (
            LOG_MEDIAN_CENTS[category]
            + 0.30 * self.draws.normal("price", merchant)
            + 0.30 * self.draws.normal("purse", customer)
            + 0.20 * self.draws.normal("taste", pair(customer, category))
        )
        return usual

"""a span and a number of frauds → waves: which attack starts and stops when.

The schedule is in fractions of the span, so that any log, long or short, has the same story: what
works in the first third is mostly gone in the last, and what works there was unknown in the first.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.generate_payments import Span

SCENARIOS = (
    "",
    "card_testing",
    "slow_card_testing",
    "stolen_card",
    "quiet_stolen_card",
    "compromised_merchant",
    "account_takeover",
)
# scenario, from, to (fractions of the span), share of all fraud
SCHEDULE = (
    ("card_testing", 0.02, 0.08, 0.055),
    ("card_testing", 0.13, 0.18, 0.050),
    ("card_testing", 0.25, 0.31, 0.055),
    ("card_testing", 0.43, 0.47, 0.030),
    ("stolen_card", 0.00, 0.50, 0.170),
    ("compromised_merchant", 0.06, 0.36, 0.080),
    ("account_takeover", 0.36, 0.52, 0.050),
    ("quiet_stolen_card", 0.42, 1.00, 0.200),
    ("slow_card_testing", 0.52, 0.62, 0.050),
    ("compromised_merchant", 0.56, 0.92, 0.080),
    ("account_takeover", 0.60, 1.00, 0.110),
    ("slow_card_testing", 0.70, 0.82, 0.040),
    ("slow_card_testing", 0.88, 1.00, 0.030),
)
VICTIM_PAYMENTS = 3  # with one card of a ring, or one account taken over


@dataclass(frozen=True, slots=True)
class Wave:
    """One attack: when, and how many payments.

    Attributes:
        number: From 1; names the wave's draws.
        scenario: Index into `SCENARIOS`.
        payments: How many fraudulent payments it makes.
    """

    number: int
    scenario: int
    start_ms: int
    end_ms: int
    payments: int

    @property
    def rows(self) -> int:
        """Count all payments of the wave: a compromised merchant's include the honest visits."""
        honest = SCENARIOS[self.scenario] == "compromised_merchant"
        return self.payments + (-(-self.payments // VICTIM_PAYMENTS) if honest else 0)


def plan_waves(span: Span, frauds: int) -> list[Wave]:
    """Cut `frauds` payments into the waves of the schedule; their sum is `frauds`."""
    edges = np.cumsum([0.0] + [share for *_, share in SCHEDULE])
    cuts = np.rint(edges / edges[-1] * frauds).astype(np.int64)
    return [
        Wave(
            number=number,
            scenario=SCENARIOS.index(scenario),
            start_ms=span.start_ms + int(begin * span.length_ms),
            end_ms=span.start_ms + int(end * span.length_ms),
            payments=int(cuts[number] - cuts[number - 1]),
        )
        for number, (scenario, begin, end, _) in enumerate(SCHEDULE, start=1)
    ]

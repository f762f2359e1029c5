"""payments → what somebody later said of them, and when.

Two ways to a label, as in life: an analyst who looks at an odd payment within hours, and a
chargeback (or the customer's call) after days. Some fraud is never reported; some analysts err, and
a chargeback corrects them; some customers dispute what they did buy, and withdraw it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.generate_draws import Draws, Floats, Ints
from pipeline.generate_payments import DAY_MS, HOUR_MS, Payments

LABELS = ("fraud", "legit")
SOURCES = ("manual_review", "chargeback", "customer")
STATES = ("confirmed", "reversed")
UNKNOWN = -1
REVIEW_MEDIAN_MS, REVIEW_SIGMA = 3 * HOUR_MS, 0.7
CALL_MEDIAN_MS, CALL_SIGMA = 12 * HOUR_MS, 0.8
CHARGEBACK_MEDIAN_MS, CHARGEBACK_SIGMA = int(2.5 * DAY_MS), 0.6
WITHDRAWAL_MEDIAN_MS, WITHDRAWAL_SIGMA = 2 * DAY_MS, 0.5
REVIEW_SHARE_HONEST = 0.08  # times oddity: share of honest payments that an analyst looks at
REVIEW_SHARE_FRAUD = 0.6  # times oddity
UNREPORTED_SHARE = 0.06  # of fraud that no analyst saw
CALL_SHARE = 0.15  # of fraud that is reported by the customer rather than by chargeback
ERROR_SHARE = 0.05  # of analysts' looks at fraud that call it legit
DISPUTE_SHARE = 0.0003  # of honest payments
MANUAL, CHARGEBACK, CUSTOMER = range(3)
FRAUD, LEGIT = range(2)
CONFIRMED, REVERSED = range(2)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """At most two labels per payment, as columns; `UNKNOWN` where there is none.

    Attributes:
        label: Index into `LABELS`.
        source: Index into `SOURCES`.
        time_ms: When it became known.
        label2: The second word: a correction (or a withdrawal, state `REVERSED`).
    """

    label: Ints
    source: Ints
    time_ms: Ints
    label2: Ints
    source2: Ints
    state2: Ints
    time2_ms: Ints


def judge(draws: Draws, payments: Payments, delay_scale: float) -> Verdicts:
    """Say what becomes known of each payment.

    Args:
        draws: The log's chance.
        payments: What was paid.
        delay_scale: Multiplies every delay; 1 gives chargebacks a median of 2.5 days.
    """
    index, time_ms = payments.index, payments.time_ms
    fraud = payments.scenario > 0
    share = np.where(fraud, REVIEW_SHARE_FRAUD, REVIEW_SHARE_HONEST) * payments.oddity
    reviewed = draws.uniform("label.review", index) < share
    erred = fraud & reviewed & (draws.uniform("label.error", index) < ERROR_SHARE)
    reported = fraud & ~reviewed & (draws.uniform("label.reported", index) >= UNREPORTED_SHARE)
    called = draws.uniform("label.call", index) < CALL_SHARE
    disputed = ~fraud & ~reviewed & (draws.uniform("label.dispute", index) < DISPUTE_SHARE)

    def after(stream: str, median_ms: int, sigma: float) -> Ints:
        delay: Floats = draws.lognormal(f"label.{stream}", index, median_ms * delay_scale, sigma)
        return np.maximum(delay, 1.0).astype(np.int64)

    review_ms = time_ms + after("review.delay", REVIEW_MEDIAN_MS, REVIEW_SIGMA)
    call_ms = time_ms + after("call.delay", CALL_MEDIAN_MS, CALL_SIGMA)
    chargeback_ms = time_ms + after("chargeback.delay", CHARGEBACK_MEDIAN_MS, CHARGEBACK_SIGMA)
    withdrawal_ms = call_ms + after("withdrawal.delay", WITHDRAWAL_MEDIAN_MS, WITHDRAWAL_SIGMA)
    by_call = disputed | (reported & called)
    by_chargeback = reported & ~called
    first = [reviewed, by_call, by_chargeback]
    second: list[NDArray[np.bool_]] = [erred, disputed]
    called_fraud = by_call | by_chargeback | (reviewed & fraud & ~erred)
    return Verdicts(
        label=np.where(called_fraud, FRAUD, np.where(reviewed, LEGIT, UNKNOWN)),
        source=np.select(first, [MANUAL, CUSTOMER, CHARGEBACK], UNKNOWN),
        time_ms=np.select(first, [review_ms, call_ms, chargeback_ms], UNKNOWN),
        label2=np.where(erred | disputed, FRAUD, UNKNOWN),
        source2=np.select(second, [CHARGEBACK, CUSTOMER], UNKNOWN),
        state2=np.select(second, [CONFIRMED, REVERSED], UNKNOWN),
        time2_ms=np.select(
            second, [np.maximum(chargeback_ms, review_ms + HOUR_MS), withdrawal_ms], UNKNOWN
        ),
    )

"""`X-Deadline-Ms` → the instant at which an answer is worthless, never later than configured."""

from typing import Final

from features.event import EventRejected

HEADER: Final = b"x-deadline-ms"
DEADLINE_MAX_CHARS: Final = 12


def deadline_of(headers: dict[bytes, bytes], now: float, longest_s: float) -> float:
    """Return the deadline on the clock of `now` (seconds).

    Args:
        headers: Of the request; names in lower case.
        now: When its head was complete.
        longest_s: The configured deadline, which a request may shorten.

    Raises:
        EventRejected: The header is no positive number of milliseconds.
    """
    text = headers.get(HEADER)
    if text is None:
        return now + longest_s
    digits = text.strip()
    whole = digits.replace(b".", b"", 1)
    if len(digits) > DEADLINE_MAX_CHARS or not whole.isdigit() or float(digits) <= 0:
        raise EventRejected(
            "wrong_type", "", "X-Deadline-Ms: expected a positive number of milliseconds"
        )
    return now + min(float(digits) / 1000, longest_s)

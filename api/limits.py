"""who, how much → go on, or come again in a while: token buckets, bounded in number."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

BUCKETS_MAX = 10_000


class RateLimited(RuntimeError):
    """This caller has asked more than it may.

    Attributes:
        retry_after_s: Until one more request fits, in whole seconds.
    """

    def __init__(self, whose: str, per_s: float, wait_s: float) -> None:
        """Say whose limit it is, and how long it takes until one more fits."""
        super().__init__(f"more than {per_s:g} requests a second of one {whose}")
        self.retry_after_s = max(1, math.ceil(wait_s))


class Buckets:
    """One bucket for each caller; gains `per_s` tokens a second, and holds `burst_s` of that.

    A batch is taken first and weighed afterwards (`charge`): a bucket may be in debt, by one batch
    at most for each request that was let in, and lets nobody in until that is paid. Of more than
    `buckets_max` callers the longest silent one is forgotten; what it had spent is forgiven.
    """

    def __init__(
        self,
        whose: str,
        per_s: float,
        burst_s: float,
        buckets_max: int = BUCKETS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the limit of a caller that has none of its own; 0 per second means no limit."""
        self._whose = whose
        self._per_s = per_s
        self._burst_s = burst_s
        self._buckets_max = buckets_max
        self._clock = clock
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many callers are remembered."""
        return len(self._spent)

    def take(self, who: str, per_s: float | None = None) -> None:
        """Let one request in.

        Args:
            who: The caller.
            per_s: Its own limit, instead of everybody's.

        Raises:
            RateLimited: The bucket is empty.
        """
        rate = self._per_s if per_s is None else per_s
        if rate <= 0:
            return
        burst = max(1.0, rate * self._burst_s)
        now = self._clock()
        tokens, at = self._spent.get(who, (burst, now))
        tokens = min(burst, tokens + (now - at) * rate)
        if tokens < 1.0:
            raise RateLimited(self._whose, rate, (1.0 - tokens) / rate)
        self._keep(who, tokens - 1.0, now)

    def charge(self, who: str, items: int) -> None:
        """Weigh a request that was let in: it stands for `items` more."""
        kept = self._spent.get(who)
        if kept is not None:
            self._spent[who] = (kept[0] - items, kept[1])

    def _keep(self, who: str, tokens: float, now: float) -> None:
        self._spent[who] = (tokens, now)
        self._spent.move_to_end(who)
        if len(self._spent) > self._buckets_max:
            self._spent.popitem(last=False)

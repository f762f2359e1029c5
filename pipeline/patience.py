"""A store that gives no answer: ask again, for so long and no longer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from features.store import StoreUnavailable

STORE_RETRY_S = 0.2

T = TypeVar("T")


async def patiently(
    attempt: Callable[[], Awaitable[T]],
    wait_s: float,
    now_ms: Callable[[], int],
    failed: Callable[[str], None],
) -> T:
    """Await an attempt, again and again while the store is unavailable.

    Args:
        attempt: Makes what is awaited.
        wait_s: How long to go on.
        now_ms: UTC clock.
        failed: Told the kind of each failure.

    Raises:
        StoreUnavailable: The last failure, when `wait_s` is over.
    """
    deadline_ms = now_ms() + int(wait_s * 1000)
    while True:
        try:
            return await attempt()
        except StoreUnavailable as error:
            failed(error.kind)
            if now_ms() >= deadline_ms:
                raise
            await asyncio.sleep(STORE_RETRY_S)

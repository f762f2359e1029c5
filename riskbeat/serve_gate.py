"""settings → who is let in by a serve process: keys, limits, and who hears of refusals."""

import asyncio
from collections.abc import Callable

import structlog

from api.gate import REQUEST_ID, KeyedGate
from api.keys import KeyRefused, KeysUnavailable, ScopeMissing
from api.keys_ring import KeyRing
from api.limits import Buckets, RateLimited
from api.metrics import ServeMetrics
from api.route import Head
from features.client_redis import Client
from riskbeat.keyring import NoKeys, key_ring
from riskbeat.settings import Settings

LOGGED_PER_S = 10.0
LOGGED_BURST_S = 5.0
REASONS: dict[type[Exception], str] = {
    KeyRefused: "no_key",
    ScopeMissing: "scope",
    RateLimited: "rate",
    KeysUnavailable: "keys_away",
}

log = structlog.get_logger("serve")


class Heard:
    """Counts what the gate and the keys say, and writes it down, bounded."""

    def __init__(self, metrics: ServeMetrics) -> None:
        """Take the metrics."""
        self._metrics = metrics
        self._lines = Buckets("log", LOGGED_PER_S, LOGGED_BURST_S)

    def refused(self, why: Exception, head: Head, who: str) -> None:
        """A request was not let in; see `gate.Told`."""
        reason = REASONS.get(type(why), "other")
        self._metrics.refused.labels(reason).inc()
        try:
            self._lines.take("refused")
        except RateLimited:
            return
        log.info(
            "http.refused",
            reason=reason,
            key=who,
            method=head.method,
            client=head.client,
            request_id=head.headers.get(REQUEST_ID, b"").decode("latin-1"),
        )

    def keys_read(self, keys: int) -> None:
        """The store of the keys answered; see `keys_ring.Told`."""
        self._metrics.api_keys.set(keys)

    def keys_failed(self, detail: str) -> None:
        """The store of the keys did not answer."""
        log.warning("keys.unavailable", detail=detail)


class Doorkeeper:
    """The gate of a serve process, and what keeps its keys up to date.

    Attributes:
        gate: What requests are let in by.
    """

    def __init__(self, gate: KeyedGate, ring: KeyRing | None) -> None:
        """Hold the parts; nothing is read before `start`."""
        self.gate = gate
        self._ring = ring

    @property
    def state(self) -> str:
        """How keys stand, for the health page."""
        if self._ring is None:
            return "off: anybody may call"
        return self._ring.failure or "ok"

    async def start(self) -> None:
        """Read the keys. A store that is away only delays those who call.

        Raises:
            NoKeys: Keys are asked for and there are none.
        """
        if self._ring is None:
            log.warning("auth.off", detail="anybody may call over HTTP; RISKBEAT_AUTH=on asks keys")
            return
        try:
            if not await self._ring.refresh():
                raise NoKeys
        except KeysUnavailable:
            return  # told; who calls meanwhile is asked to come again

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep the keys up to date until told to stop."""
        if self._ring is None:
            await stopping.wait()
        else:
            await self._ring.run(stopping)


def doorkeeper(
    settings: Settings, client: Client, metrics: ServeMetrics, now_ms: Callable[[], int]
) -> Doorkeeper:
    """Put the gate together; nothing connects here.

    Raises:
        SettingMissing: Keys are asked for and the key of their hashes is not set.
    """
    heard = Heard(metrics)
    ring = key_ring(settings, client, now_ms, heard)
    per_key = Buckets("key", settings.key_requests_per_s, settings.rate_burst_s)
    per_address = Buckets("address", settings.address_requests_per_s, settings.rate_burst_s)
    return Doorkeeper(KeyedGate(ring, per_key, per_address, heard), ring)

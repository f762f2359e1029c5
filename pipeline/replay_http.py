"""replay → POST /v1/decisions and /v1/labels: for those who want answers rather than a stream.

Items of one key keep their order; different keys go side by side. Both calls are idempotent by
identity, so what an interrupted run sent without hearing the answer may be sent again.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from pipeline.replay_ports import Batch, TargetFailed
from pipeline.replay_rows import EVENT

CONCURRENCY: Final = 32
ATTEMPTS_MAX: Final = 8
RETRY_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 30.0
RETRIED: Final = frozenset({429, 502, 503, 504})


class HttpTarget:
    """Posts a replay to a scorer (a `ReplayTarget`)."""

    def __init__(
        self,
        base_url: str,
        *,
        concurrency: int = CONCURRENCY,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Name the scorer; nothing is connected before `start`.

        Args:
            base_url: As in `http://127.0.0.1:8000`.
            concurrency: Requests under way at once.
            transport: In place of the network.
            sleep: For the pauses between attempts.
        """
        self._base_url = base_url.rstrip("/")
        self._concurrency = concurrency
        self._transport, self._sleep = transport, sleep
        self._client: httpx.AsyncClient | None = None
        self._acked = 0
        self.refused = 0  # answered with 4xx: the service found a fault that the mapping let pass

    async def start(self) -> None:
        """Open the connections and ask whether the scorer is there.

        Raises:
            TargetFailed: It is not.
        """
        limits = httpx.Limits(
            max_connections=self._concurrency, max_keepalive_connections=self._concurrency
        )
        self._client = httpx.AsyncClient(
            base_url=self._base_url,
            limits=limits,
            timeout=ANSWER_TIMEOUT_S,
            transport=self._transport,
        )
        try:
            answer = await self._client.get("/healthz")
        except httpx.TransportError as error:
            raise TargetFailed(f"{self._base_url}: {type(error).__name__}: {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise TargetFailed(f"{self._base_url}/healthz answered {answer.status_code}")

    async def stop(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def begin(self, run_id: str, positions: dict[str, int] | None) -> dict[str, int]:
        """Have nothing to find out."""
        return {}

    async def send_many(self, batch: Batch) -> None:
        """Post the items and wait for all answers."""
        lanes: list[list[int]] = [[] for _ in range(self._concurrency)]
        for row, key in enumerate(batch.keys):
            lanes[zlib.crc32(key) % self._concurrency].append(row)
        events = [[row for row in lane if batch.kinds[row] == EVENT] for lane in lanes]
        labels = [[row for row in lane if batch.kinds[row] != EVENT] for lane in lanes]
        try:
            async with asyncio.TaskGroup() as posts:
                for lane in events:
                    posts.create_task(self._post_lane("/v1/decisions", batch, lane))
            async with asyncio.TaskGroup() as posts:
                for lane in labels:
                    posts.create_task(self._post_lane("/v1/labels", batch, lane))
        except* TargetFailed as group:
            raise TargetFailed(str(group.exceptions[0])) from group
        self._acked = batch.first + len(batch)

    async def _post_lane(self, path: str, batch: Batch, rows: list[int]) -> None:
        for row in rows:
            await self._post(path, batch.bodies[row], batch.first + row)

    async def _post(self, path: str, body: bytes, number: int) -> None:
        assert self._client is not None
        told, pause_s = "", RETRY_S
        for _ in range(ATTEMPTS_MAX):
            try:
                answer = await self._client.post(
                    path, content=body, headers={"content-type": "application/json"}
                )
            except httpx.TransportError as error:
                told = f"{type(error).__name__}: {error}"
            else:
                if answer.is_success:
                    return
                told = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code not in RETRIED:
                    if answer.is_client_error:
                        self.refused += 1
                        return
                    break
                wanted = answer.headers.get("retry-after", "")
                pause_s = float(wanted) if wanted.isdigit() else pause_s
            await self._sleep(min(pause_s, RETRY_MAX_S))
            pause_s *= 2
        raise TargetFailed(f"item {number}: POST {path}: {told}")

    async def flush(self) -> None:
        """Have nothing in flight: `send_many` waits for the answers."""

    def acked(self) -> tuple[int, dict[str, int]]:
        """Return the number below which all items were answered."""
        return self._acked, {}

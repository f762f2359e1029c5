"""Questions at a fixed rate over HTTP, and one new version after the other beside them.

A question is due at its instant whether or not the last one was answered, and its time counts from
then. The next version is published as soon as the scorer says that it answers with the last.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import msgspec
import psutil

from load_tests.swaps_versions import Line, sign_many
from models.registry import WeightsRegistry
from models.weights import sha256_of

CHUNK = 100
"""Versions that are signed ahead, by a process of their own."""
ASK_S = 0.001
"""Pause between two looks at what the scorer answers with."""
STUCK_S = 60.0
WATCH_S = 1.0
CARDS = 500


class _Score(msgspec.Struct):
    value: float | None


class _Model(msgspec.Struct):
    version: int


class _Body(msgspec.Struct):
    decision_id: str
    score: _Score
    model: _Model | None
    degraded: list[str]


_bodies = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as the client saw it.

    Attributes:
        due_s: When it was asked for, since the start.
        took_s: From then to the last byte.
        version: That it names; 0 for none.
        p: Its score.
    """

    due_s: float
    took_s: float
    decision_id: str
    version: int
    p: float | None
    degraded: tuple[str, ...]


@dataclass
class Seen:
    """What happened while versions were swapped.

    Attributes:
        statuses: HTTP status → answers.
        sha256: Version → SHA-256 (hex) of its bytes.
        rss: Seconds since the start, versions so far, resident bytes of the scorer.
    """

    answers: list[Answer] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    sha256: dict[int, str] = field(default_factory=dict)
    rss: list[tuple[float, int, int]] = field(default_factory=list)
    swaps_s: float = 0.0


class Askers:
    """Connections that ask in turn, each question at its own instant."""

    def __init__(self, port: int, rate: float, connections: int, seen: Seen) -> None:
        """Take the door and the pace (questions a second, all connections together)."""
        self._port = port
        self._rate = rate
        self._connections = connections
        self._seen = seen
        self._run = f"{time.time_ns():x}"
        self._began = time.perf_counter()
        self.done = asyncio.Event()

    async def ask(self) -> None:
        """Ask until `done`."""
        each = (self._ask_on(index) for index in range(self._connections))
        await asyncio.gather(*each)

    async def _ask_on(self, index: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        number = index
        while not self.done.is_set():
            due = self._began + number / self._rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(_question(f"s{self._run}_{number}", number))
            status, body = await _answer(reader)
            took_s = time.perf_counter() - due
            self._seen.statuses[status] = self._seen.statuses.get(status, 0) + 1
            if status == 200:
                self._note(_bodies.decode(body), due - self._began, took_s)
            number += self._connections
        writer.close()
        await writer.wait_closed()

    def _note(self, body: _Body, due_s: float, took_s: float) -> None:
        version = 0 if body.model is None else body.model.version
        degraded = tuple(body.degraded)
        found = Answer(due_s, took_s, body.decision_id, version, body.score.value, degraded)
        self._seen.answers.append(found)


async def swap_many(
    registry: WeightsRegistry,
    line: Line,
    signing_key: str,
    first: int,
    count: int,
    seen: Seen,
    most_s: float = float("inf"),
) -> int:
    """Publish versions one by one, each when the scorers answer with the one before.

    Returns how many: fewer than `count` when `most_s` are over.

    Raises:
        TimeoutError: A scorer did not take one up.
    """
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    parent = seen.sha256.get(first - 1, "")
    with ProcessPoolExecutor(1) as pool:

        def sign(number: int, parent: str) -> asyncio.Future[list[bytes]]:
            size = min(CHUNK, first + count - number)
            return loop.run_in_executor(pool, sign_many, line, number, size, parent, signing_key)

        ahead = sign(first, parent)
        for start in range(first, first + count, CHUNK):
            chunk = await ahead
            if start + CHUNK < first + count:
                ahead = sign(start + CHUNK, sha256_of(chunk[-1]))
            for number, data in enumerate(chunk, start):
                seen.sha256[number] = sha256_of(data)
                await registry.publish(number, data)
                await _taken_up(registry, number)
                seen.swaps_s = time.perf_counter() - began
                if seen.swaps_s > most_s:
                    ahead.cancel()
                    return number - first + 1
    return count


async def _taken_up(registry: WeightsRegistry, number: int) -> None:
    async with asyncio.timeout(STUCK_S):
        while True:
            found: Sequence[int] = list((await registry.active_versions()).values())
            if found and min(found) >= number:
                return
            await asyncio.sleep(ASK_S)


async def watch_memory(pid: int, seen: Seen, done: asyncio.Event) -> None:
    """Note the scorer's resident bytes once a second."""
    process, began = psutil.Process(pid), time.perf_counter()
    while not done.is_set():
        bytes_now = process.memory_info().rss
        seen.rss.append((time.perf_counter() - began, len(seen.sha256), bytes_now))
        await asyncio.sleep(WATCH_S)


def _question(event_id: str, number: int) -> bytes:
    seconds = number // 1_000
    body = msgspec.json.encode(
        {
            "event_type": "card_payment",
            "event_id": event_id,
            "event_time": f"2026-03-01T{12 + seconds // 3600:02}:{seconds // 60 % 60:02}:"
            f"{seconds % 60:02}.{number % 1_000:03}Z",
            "entities": {
                "card": f"c{number * 7919 % CARDS}",
                "merchant": f"m{number % 53}",
                "device": f"d{number * 31 % CARDS}",
                "ip": f"203.0.113.{number % 251}",
            },
            "amount": {"value": 100 + number * 7 % 90_000, "currency": "EUR"},
        }
    )
    head = (
        "POST /v1/decisions HTTP/1.1\r\nhost: swaps\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:] if b":" in line)
    body = await reader.readexactly(int(fields[b"content-length"]))
    return int(head[9:12]), body

"""`python -m load_tests.scoring_client PLAN`: asks over HTTP, and says how long answers took.

A process of its own. In the open loop requests are due at Poisson's times whatever the server does;
an answer's time counts from when its request was due, also while it waited for a free connection,
so a server that stalls is charged with everything that it held up. In the closed loop each
connection asks again as soon as it is answered. Knows only an address; speaks HTTP/1.1 itself, to
cost little: the core is shared with the servers.
"""

import asyncio
import json
import selectors
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import numpy as np

from load_tests.features_log import POPULATION, body, zipf

TEMPLATES = 4_096
GIVE_UP_S = 3.0
RETRY_S = 0.002


@dataclass(frozen=True)
class Plan:
    """What to ask.

    Attributes:
        rate: Requests due a second; None: the closed loop.
        events: Of one request: 1, or a list of so many for the batch route; 0: the bare workload.
        warm_s: Asked before the measured seconds, with the same load.
        tag: Begins every event's id; of one run alone.
    """

    port: int
    path: str
    seconds: float
    connections: int
    rate: float | None = None
    events: int = 1
    warm_s: float = 1.0
    seed: int = 1
    tag: str = "x"


@dataclass
class Result:
    """What came of it, of the measured seconds.

    Attributes:
        sent: Requests that were due.
        statuses: Answers by status; 0: none came.
        ms: Quantile → milliseconds, of answers with status 200.
        refused_ms: The same of all others.
        late_ms: p99 of how much later than due the client itself asked, connections being free.
    """

    sent: int = 0
    seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    ms: dict[str, float] = field(default_factory=dict)
    refused_ms: dict[str, float] = field(default_factory=dict)
    late_ms: float = 0.0

    @property
    def ok(self) -> int:
        """Answers with status 200."""
        return self.statuses.get("200", 0)


class Bodies:
    """Makes bodies; ids and times are filled in as they are sent."""

    def __init__(self, plan: Plan) -> None:
        random = np.random.default_rng(plan.seed)
        ids = {name: zipf(random, size, TEMPLATES).tolist() for name, size in POPULATION.items()}
        cents = np.maximum(1, random.lognormal(np.log(3000), 0.9, TEMPLATES)).astype(int).tolist()
        self._parts = []
        for index in range(TEMPLATES):
            whole = body("@ID@", "@AT@", cents[index], *(ids[name][index] for name in POPULATION))
            before, rest = whole.split(b"@ID@")
            self._parts.append((before, *rest.split(b"@AT@")))
        self._plan = plan
        self._count = 0
        self._at = b""
        self._at_s = 0.0

    def next(self) -> bytes:
        """Return the next request's body."""
        now = time.time()
        if now - self._at_s > 0.01:
            self._at_s = now
            at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
            self._at = f"{at}Z".encode()
        if self._plan.events == 1:
            return self._one()
        if not self._plan.events:
            self._count += 1
            keys = (f'"blob:{(self._count * k) % 1000}"' for k in (1, 7, 31, 101))
            return f'{{"id":"{self._count}","keys":[{",".join(keys)}]}}'.encode()
        return b"[" + b",".join(self._one() for _ in range(self._plan.events)) + b"]"

    def _one(self) -> bytes:
        self._count += 1
        before, between, after = self._parts[self._count % TEMPLATES]
        name = f"{self._plan.tag}{self._count}".encode()
        return b"%s%s%s%s%s" % (before, name, between, self._at, after)


class Asker(asyncio.Protocol):
    """One connection, one question at a time."""

    def __init__(self, answered: Callable[["Asker", int], None]) -> None:
        self._answered = answered
        self._data = b""
        self.transport: asyncio.Transport | None = None
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            head = data[:end].lower()
            at = head.find(b"content-length: ")
            length = int(head[at + 16 :].split(b"\r", 1)[0])
            if len(data) >= end + 4 + length:
                self._data = b""
                self._answered(self, int(data[9:12]))
                return
        self._data = data

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._answered(self, 0)


class Client:
    """All connections, and what they saw."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.bodies = Bodies(plan)
        self.free: deque[Asker] = deque()
        self.waiting: deque[float] = deque()
        self.seen: list[tuple[float, float, int]] = []  # due, seconds, status
        self.late: list[float] = []
        self.open = 0
        self.closing = False
        self.head = f"POST {plan.path} HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\n"

    def answered(self, asker: Asker, status: int) -> None:
        now = time.perf_counter()
        if asker.due:
            self.open -= 1
            self.seen.append((asker.due, now - asker.due, status))
            asker.due = 0.0
        if asker.transport is None:
            return
        if self.waiting:
            self.ask(asker, self.waiting.popleft())
        elif self.plan.rate is None and not self.closing:
            self.ask(asker, now)
        else:
            self.free.append(asker)

    def ask(self, asker: Asker, due: float) -> None:
        asker.due = due
        self.open += 1
        body = self.bodies.next()
        assert asker.transport is not None
        asker.transport.write(f"{self.head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.plan.connections):
            _, asker = await loop.create_connection(
                lambda: Asker(self.answered), "127.0.0.1", self.plan.port
            )
            self.free.append(asker)

    async def run(self) -> Result:
        await self.connect()
        plan, span = self.plan, self.plan.warm_s + self.plan.seconds
        start = time.perf_counter()
        begin, end = start + plan.warm_s, start + span
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + plan.warm_s, say, "begin")
        loop.call_at(loop.time() + span, say, "end")
        if plan.rate is None:
            while self.free:
                self.ask(self.free.popleft(), time.perf_counter())
            await asyncio.sleep(span)
        else:
            await self.arrive(start, span, plan.rate)
        self.closing = True
        deadline = time.perf_counter() + GIVE_UP_S
        while (self.open or self.waiting) and time.perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(RETRY_S)
        return self.result(begin, end)

    async def arrive(self, start: float, span: float, rate: float) -> None:
        """Ask when it is due: at once, or when a connection is free."""
        random = np.random.default_rng(self.plan.seed)
        gaps = random.exponential(1 / rate, int(span * rate * 1.1) + 100)
        dues = start + np.cumsum(gaps)
        for due in dues[dues < start + span].tolist():
            while (now := time.perf_counter()) < due:  # noqa: ASYNC110
                await asyncio.sleep(due - now)
            if self.free:
                self.late.append(now - due)
                self.ask(self.free.popleft(), due)
            else:
                self.waiting.append(due)
                if len(self.waiting) % 64 == 0:
                    await asyncio.sleep(0)

    def result(self, begin: float, end: float) -> Result:
        mine = [each for each in self.seen if begin <= each[0] < end]
        lost = sum(1 for due in self.waiting if begin <= due < end)
        statuses = Counter(str(status) for _, _, status in mine)
        statuses["0"] += lost + (self.open if self.plan.rate is not None else 0)
        good = [seconds for _, seconds, status in mine if status == 200]
        other = [seconds for _, seconds, status in mine if status != 200]
        return Result(
            len(mine) + lost,
            end - begin,
            dict(+statuses),
            quantiles(good),
            quantiles(other),
            float(np.quantile(self.late, 0.99)) * 1e3 if self.late else 0.0,
        )


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Return p50 to the largest, in milliseconds."""
    if not seconds:
        return {}
    found = np.quantile(seconds, [0.5, 0.9, 0.99, 0.999, 1.0]) * 1e3
    return dict(zip(("p50", "p90", "p99", "p99.9", "max"), found.tolist(), strict=True))


def say(word: str) -> None:
    """Tell the one who measures that the window begins or ends."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run a plan, and print its result as JSON."""
    plan = Plan(**json.loads(sys.argv[1]))
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())  # waits shorter than 1 ms
    say(json.dumps(asdict(loop.run_until_complete(Client(plan).run()))))


if __name__ == "__main__":
    main()

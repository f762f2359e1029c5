"""What a hot route is, what it sees of a request, and who lets requests in; no framework here."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol

from api.errors import Answer

JSON: Final = {"content-type": "application/json"}
NO_HEADERS: Final[Mapping[str, str]] = {}


class Head(NamedTuple):
    """A request before its body is read.

    Attributes:
        path: As it was sent, percent-encoded.
        query: Likewise, without the question mark.
        headers: Names in lower case.
        client: Address of the peer; empty where it has none.
    """

    method: str
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    client: str = ""


class Principal(NamedTuple):
    """Who asks.

    Attributes:
        name: Stands for them in the audit; never a secret.
        tenant: The only tenant that they may speak for; None: any.
        scopes: What they may do.
    """

    name: str
    tenant: str | None = None
    scopes: frozenset[str] = frozenset()


ANYBODY: Final = Principal("anybody")


class Gate(Protocol):
    """Lets requests in, from their head alone; both faces of the HTTP door ask it.

    It is asked for every request, of FastAPI's routes, too, in the loop and before the body is
    read: it must not wait.
    """

    def admit(self, head: Head) -> Principal:
        """Return who asks.

        Raises:
            Exception: One of `api/errors.py`'s table; the body is not read, and this is answered.
        """

    def echo(self, head: Head) -> Mapping[str, str]:
        """Return headers for whatever the answer will be, a refusal included."""

    def weigh(self, principal: Principal, head: Head, items: int) -> None:
        """Hear that a request that was let in stands for so many."""


class OpenGate:
    """The gate of a service that anybody may ask."""

    def admit(self, head: Head) -> Principal:
        """Let everybody in."""
        return ANYBODY

    def echo(self, head: Head) -> Mapping[str, str]:
        """Add nothing."""
        return NO_HEADERS

    def weigh(self, principal: Principal, head: Head, items: int) -> None:
        """Let everybody ask for as much as they like."""


class Request(NamedTuple):
    """What a route sees of a request.

    Attributes:
        deadline_at: When its answer is worthless, on the clock of `time.perf_counter`.
    """

    head: Head
    body: bytes = b""
    principal: Principal = ANYBODY
    deadline_at: float = float("inf")


Reply = Callable[[Answer | Exception], None]
"""Takes an answer, or what stands in its way; called once, in the loop."""


class Begun(Protocol):
    """An answer that is being made."""

    def withdraw(self) -> None:
        """Want it no more: its asker hung up."""


class Route(NamedTuple):
    """A route, and the largest body that it takes.

    Attributes:
        begin: The same as `serve` without a task for each request, where a route has that: what it
            raises is answered, and `reply` hears the rest.
        check: Raises what can be refused from the head alone, given the deadline.
        patient: Its deadline is that of lists.
        name: Stands for it in metrics; of a route without variable parts, its path.
        method: The one that it takes; `HEAD` goes with `GET`.
        under: It serves every path that begins so; empty: only `name`.
    """

    name: str
    serve: Callable[[Request], Awaitable[Answer]]
    body_max_bytes: int
    method: str = "POST"
    under: bytes = b""
    begin: Callable[[Request, Reply], Begun] | None = None
    check: Callable[[float], None] | None = None
    patient: bool = False


class Admitted(NamedTuple):
    """What the head of a request comes to."""

    principal: Principal
    deadline_at: float


class Table(Protocol):
    """Routes, and the judgement of a request by its head; what a face of the door asks."""

    def find(self, path: bytes) -> Route | None:
        """Return the route of a path; FastAPI's have none."""

    def echo(self, head: Head) -> Mapping[str, str]:
        """Return headers for whatever the answer will be."""

    def admit(self, route: Route, head: Head, began: float) -> Admitted:
        """Let a request in, whose head was complete at `began`.

        Raises:
            Exception: Why not.
        """

    def observe(self, route: Route | None, answer: Answer, began: float) -> None:
        """Count an answer, and the time since its head was read; without a route, a refusal."""

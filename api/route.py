"""What a plain ASGI route is, and what it sees of a request: no framework's types."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from api.errors import Answer

JSON: Final = {"content-type": "application/json"}


class Request(NamedTuple):
    """What a route sees of a request.

    Attributes:
        headers: Names in lower case.
        path: As it was sent, percent-encoded.
        query: Likewise, without the question mark.
    """

    body: bytes
    headers: dict[bytes, bytes]
    method: str = "POST"
    path: bytes = b""
    query: bytes = b""


class Route(NamedTuple):
    """A route, and the largest body that it takes.

    Attributes:
        name: Stands for it in metrics; of a route without variable parts, its path.
    """

    name: str
    serve: Callable[[Request], Awaitable[Answer]]
    body_max_bytes: int

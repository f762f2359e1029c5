"""HTTP around the step, as an ASGI application: the hot routes, and FastAPI behind them.

The hot routes take raw bodies and know no framework (`api/routes_http.py`); everything else
(health, metrics, model, documentation) is FastAPI's (`api/admin_http.py`). In front of both stands
the gate, and in front of the hot ones the limits: a body's size is refused before it is read.
`riskbeat serve` answers the hot routes on the socket itself (`api/door_http.py`) and comes here
for the rest.
"""

import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from api.admin_http import create_admin
from api.errors import Answer, BodyTooLarge, problem_of
from api.route import Head, Request, Route
from api.routes_http import HotRoutes, HttpDeps
from features.event import EventRejected


def create_app(deps: HttpDeps) -> "HttpDoor":
    """Return the ASGI application."""
    return HttpDoor(deps, create_admin(deps.admin))


class HttpDoor:
    """The hot routes, and FastAPI behind them."""

    def __init__(self, deps: HttpDeps, admin: FastAPI) -> None:
        """Put the hot routes in front of FastAPI's."""
        self._deps = deps
        self._admin = admin
        self._routes = HotRoutes(deps)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._admin(scope, receive, send)
            return
        head = _head_of(scope)
        echo = self._routes.echo(head)
        route = self._routes.find(head.path)
        if route is None:
            await self._serve_cold(head, scope, receive, _echoing(send, echo, head))
        else:
            await self._serve_hot(route, head, receive, _echoing(send, echo, head))

    async def _serve_hot(self, route: Route, head: Head, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        fault: Exception | None = None
        try:
            answer = await self._answer(route, head, receive, began)
        except Exception as error:  # the top of the request: answer, then let ours be heard
            answer = problem_of(error)
            fault = error if answer.status == 500 else None
        await _send(send, answer)
        self._routes.observe(route, answer, began)
        if fault is not None:
            raise fault

    async def _answer(self, route: Route, head: Head, receive: Receive, began: float) -> Answer:
        principal, deadline_at = self._routes.admit(route, head, began)
        body = await _read(head.headers, receive, route.body_max_bytes)
        return await route.serve(Request(head, body, principal, deadline_at))

    async def _serve_cold(self, head: Head, scope: Scope, receive: Receive, send: Send) -> None:
        """Let FastAPI answer; a route that takes `GET` answers `HEAD` without its body."""
        try:
            principal = self._deps.gate.admit(head)
        except Exception as error:  # the top of the request, as above
            answer = problem_of(error)
            await _send(send, answer)
            if answer.status == 500:
                raise
            return
        state = {**scope.get("state", {}), "principal": principal}
        method = "GET" if head.method == "HEAD" else head.method
        await self._admin({**scope, "method": method, "state": state}, receive, send)


def _head_of(scope: Scope) -> Head:
    client = scope.get("client")
    return Head(
        scope["method"],
        scope.get("raw_path") or scope["path"].encode(),
        scope["query_string"],
        dict(scope["headers"]),
        client[0] if client else "",
    )


def _echoing(send: Send, echo: Mapping[str, str], head: Head) -> Send:
    """Add the gate's headers to an answer, and leave its body out where `HEAD` was asked."""
    more = [(name.encode(), value.encode()) for name, value in echo.items()]
    if not more and head.method != "HEAD":
        return send

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start" and more:
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        elif message["type"] == "http.response.body" and head.method == "HEAD":
            message = {**message, "body": b""}
        await send(message)

    return send_more


async def _read(headers: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """Return the body, unless it says or proves that it is larger than the limit."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > max_bytes:
        raise BodyTooLarge(f"{int(length)} bytes; at most {max_bytes} are taken")
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise EventRejected("malformed", "", "the body ended early")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise BodyTooLarge(f"more than {max_bytes} bytes")
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send(send: Send, answer: Answer) -> None:
    headers: list[tuple[bytes, bytes]] = [
        (name.encode(), value.encode()) for name, value in answer.headers.items()
    ]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    start: dict[str, Any] = {
        "type": "http.response.start",
        "status": answer.status,
        "headers": headers,
    }
    await send(start)
    await send({"type": "http.response.body", "body": answer.body})

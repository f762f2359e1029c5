"""The HTTP/1.1 door on the socket, for uvicorn's `http=`: connections, and their time limits.

A request of a hot route is answered without ASGI, task or future of its own
(`api/door_connection_http.py`); any other goes to uvicorn's protocol when its turn comes, so that
FastAPI's routes lose nothing. Why: `docs/adr/0017-the-hot-routes-on-the-socket.md`.
"""

import asyncio
import time
from typing import Any, Final

from api.door_brake import Brake
from api.door_connection_http import Connection
from api.door_exchange import DoorLimits, Encoder
from api.route import Table

LOOK_S: Final = 0.25


class Door:
    """Makes connections, and closes those that take too long."""

    def __init__(self, table: Table, limits: DoorLimits) -> None:
        """Take the hot routes, and the bounds of a connection."""
        self._table = table
        self._limits = limits
        self._encoder = Encoder()
        self._brake = Brake()
        self._looking = False

    def __call__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """Return a connection's protocol; the arguments are uvicorn's."""
        loop = _loop or asyncio.get_running_loop()
        if not self._looking:
            self._looking = True
            loop.call_later(LOOK_S, self._look, loop, server_state)
        wiring = {"config": config, "server_state": server_state, "app_state": app_state}
        return Connection(self._table, self._limits, self._encoder, self._brake, loop, wiring)

    def _look(self, loop: asyncio.AbstractEventLoop, state: Any) -> None:
        now = time.perf_counter()
        for connection in list(state.connections):
            connection.look(now)
        self._looking = bool(state.connections)
        if self._looking:
            loop.call_later(LOOK_S, self._look, loop, state)

"""parts → uvicorn around the HTTP door."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from api.admin_http import create_admin
from api.decide_http import create_app
from api.door_exchange import DoorLimits
from api.door_http import Door
from api.routes_http import HotRoutes
from riskbeat.serve_parts import Parts
from riskbeat.serve_place import BACKLOG
from riskbeat.settings import Settings


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own.

    Attributes:
        listening: Set once connections are taken.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        """Take the configuration; nothing listens yet."""
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def http_server(parts: Parts, http: bool) -> HttpServer:
    """Return the server of a process; without the HTTP door, of health and metrics alone."""
    settings = parts.settings
    door: Any = Door(
        HotRoutes(parts.http), _door_limits(settings)
    )  # uvicorn's type asks for a class
    tls = settings.http_tls if http else settings.metrics_tls
    config = uvicorn.Config(
        create_app(parts.http) if http else create_admin(parts.http.admin),
        host=settings.http_host if http else settings.metrics_host,
        port=settings.http_port if http else settings.metrics_port,
        loop="none",
        http=door if http and settings.http_face == "socket" else "httptools",
        ssl_certfile=tls.certfile if tls else None,
        ssl_keyfile=tls.keyfile if tls else None,
        timeout_keep_alive=round(settings.http_keep_alive_s),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(settings.stop_timeout_s) or 1,
    )
    config.load()
    if tls is not None and config.ssl is not None:
        tls.follow(config.ssl)
    return HttpServer(config)


def _door_limits(settings: Settings) -> DoorLimits:
    return DoorLimits(
        pipeline_max=settings.http_pipeline_max,
        head_timeout_s=settings.http_head_timeout_s,
        body_timeout_s=settings.http_body_timeout_s,
        idle_timeout_s=settings.http_keep_alive_s,
        drain_grace_s=settings.http_drain_grace_s,
        connections_max=settings.http_connections_max,
    )

"""Acts upon what scorers answer with, over HTTP: pin, unpin, roll back; and who did, and why."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import FastAPI, Query, Request

from api.errors import BodyTooLarge
from api.keys import ScopeMissing
from api.model_acts import ActAsked, Acted, PinAsked
from api.route import Principal
from features.event_wire import decode_strictly
from models.registry import HISTORY_MAX, WeightsRegistry

ACT_MAX_BYTES = 4_096
SHOWN = 50

T = TypeVar("T")


_pins = msgspec.json.Decoder(PinAsked)
_acts = msgspec.json.Decoder(ActAsked)


def add_acts(app: FastAPI, registry: WeightsRegistry, now_ms: Callable[[], int]) -> None:
    """Add the routes to an application that knows what its errors mean (`api/admin_http.py`)."""

    @app.post("/v1/model/pin")
    async def pin(request: Request) -> dict[str, Any]:
        who, asked = _who(request), await _read(request, _pins)
        at_ms = now_ms()
        await registry.pin(asked.version, who, asked.why, at_ms)
        return _acted("pin", asked.version, who, asked.why, at_ms)

    @app.post("/v1/model/unpin")
    async def unpin(request: Request) -> dict[str, Any]:
        who, asked = _who(request), await _read(request, _acts)
        at_ms = now_ms()
        await registry.unpin(who, asked.why, at_ms)
        return _acted("unpin", await registry.active_version(), who, asked.why, at_ms)

    @app.post("/v1/model/rollback")
    async def rollback(request: Request) -> dict[str, Any]:
        who, asked = _who(request), await _read(request, _acts)
        at_ms = now_ms()
        version = await registry.rollback(who, asked.why, at_ms)
        return _acted("pin", version, who, asked.why, at_ms)

    @app.get("/v1/model/acts")
    async def acts(
        limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = SHOWN,
    ) -> dict[str, Any]:
        found = await registry.history()
        return {"acts": msgspec.to_builtins(found[:limit])}


def _who(request: Request) -> str:
    """Return the name under which an act is kept; without the gate in front nobody may act."""
    principal = getattr(request.state, "principal", None)
    if not isinstance(principal, Principal):
        raise ScopeMissing("nobody", "admin")
    return principal.name


async def _read(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > ACT_MAX_BYTES:
            raise BodyTooLarge(f"more than {ACT_MAX_BYTES} bytes")
        parts.append(part)
    return decode_strictly(decoder, b"".join(parts))


def _acted(act: str, version: int, by: str, why: str, at_ms: int) -> dict[str, Any]:
    done: dict[str, Any] = msgspec.to_builtins(Acted(act, version, by, why, at_ms))
    return done

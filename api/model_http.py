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
from models import registry_acts
from models.audit import Act, AuditLog
from models.registry import HISTORY_MAX, WeightsRegistry

ACT_MAX_BYTES = 4_096
SHOWN = 50

T = TypeVar("T")


_pins = msgspec.json.Decoder(PinAsked)
_acts = msgspec.json.Decoder(ActAsked)


def add_acts(
    app: FastAPI, registry: WeightsRegistry, log: AuditLog, now_ms: Callable[[], int]
) -> None:
    """Add the routes to an application that knows what its errors mean (`api/admin_http.py`).

    Each act is written down in the audit log before it happens, as those of the command line.
    """

    @app.post("/v1/model/pin")
    async def pin(request: Request) -> dict[str, Any]:
        who, asked = _who(request), await _read(request, _pins)
        act = _act_of("pin", asked.version, who, asked.why, now_ms())
        await registry_acts.pin(registry, log, asked.version, act)
        return _acted("pin", asked.version, act)

    @app.post("/v1/model/unpin")
    async def unpin(request: Request) -> dict[str, Any]:
        who, asked = _who(request), await _read(request, _acts)
        pinned = (await registry.standing()).active
        act = _act_of("unpin", pinned, who, asked.why, now_ms())
        return _acted("unpin", await registry_acts.unpin(registry, log, act), act)

    @app.post("/v1/model/rollback")
    async def rollback(request: Request) -> dict[str, Any]:
        who, asked = _who(request), await _read(request, _acts)
        version = (await registry.standing()).active - 1
        act = _act_of("rollback", version, who, asked.why, now_ms())
        await registry_acts.pin(registry, log, version, act)
        return _acted("pin", version, act)

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


def _act_of(verb: str, version: int, by: str, why: str, at_ms: int) -> Act:
    target = f"version {version}"
    return Act(subject="weights", verb=verb, target=target, by=by, why=why, at_ms=at_ms)


def _acted(verb: str, version: int, act: Act) -> dict[str, Any]:
    done = Acted(verb, version, act.by, act.why, act.at_ms)
    wire: dict[str, Any] = msgspec.to_builtins(done)
    return wire

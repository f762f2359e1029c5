"""An HTTP door over the fakes, with a client at it."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from api.admin_http import AdminDeps
from api.coalesce import Coalescer
from api.coalesce_rate import Limits
from api.decide_http import create_app
from api.dry_run import DryRuns
from api.errors import Overloaded
from api.features import FeatureDesk
from api.intake import Intake
from api.lookup import Indexed, IndexUnavailable, LookupDesk
from api.metrics import ServeMetrics
from api.route import ANYBODY, Gate, Head, Principal
from api.routes_http import HttpDeps
from models.registry import Activation, NoWeights, RegistryUnavailable, Standing
from tests.fakes_audit import MemoryAuditLog
from tests.fakes_rollout import MemoryRolloutStore
from tests.fakes_serving import NOW_MS, Stand

BODY: dict[str, Any] = {
    "event_type": "card_payment",
    "event_id": "pay_8842",
    "event_time": "2026-03-01T12:00:00.120Z",
    "entities": {"card": "tok_9", "merchant": "m_7"},
    "amount": {"value": 12550, "currency": "EUR"},
}


class Doorman:
    """A gate that refuses whoever bears a header, and writes the path on every answer."""

    refused = ""

    def admit(self, head: Head) -> Principal:
        if self.refused and self.refused.encode() in head.headers:
            raise Overloaded("not you")
        return ANYBODY

    def echo(self, head: Head) -> Mapping[str, str]:
        return {"x-seen": head.path.decode()}

    def weigh(self, principal: Principal, head: Head, items: int) -> None:
        pass


class Shelf:
    """As much of a registry as the cold routes ask for."""

    away = False

    def __init__(self) -> None:
        self.acts: list[Activation] = []

    async def standing(self) -> Standing:
        if self.away:
            raise RegistryUnavailable("nobody listens")
        return Standing(latest=7, active=6, pinned=True)

    async def read(self, version: int) -> bytes:
        if version > 7:
            raise NoWeights(f"version {version} is not in the registry")
        return b"bytes of version %d" % version

    async def active_versions(self) -> dict[str, int]:
        return {"scorer-1": 6}

    async def active_version(self) -> int:
        return self.acts[0].version if self.acts else 6

    async def pin(self, version: int, by: str, why: str, at_ms: int) -> None:
        if version > 7:
            raise NoWeights(f"version {version} is not in the registry")
        self._act("pin", version, by, why, at_ms)

    async def unpin(self, by: str, why: str, at_ms: int) -> None:
        self._act("unpin", 7, by, why, at_ms)

    async def history(self) -> list[Activation]:
        return self.acts

    def _act(self, act: str, version: int, by: str, why: str, at_ms: int) -> None:
        self.acts.insert(0, Activation(act=act, version=version, by=by, why=why, at_ms=at_ms))


class MemoryIndex:
    """Decisions by id; a test says what there is, and up to when."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Indexed] = {}
        self.upto_ms = NOW_MS
        self.away = False

    def find(self, key: bytes) -> Indexed | None:
        if self.away:
            raise IndexUnavailable("no such file")
        return self.kept.get(key)

    def as_of_ms(self) -> int:
        return self.upto_ms


class Site:
    """A door in memory, and a client at it."""

    def __init__(self, stand: Stand, deadline_s: float, gate: Gate | None = None) -> None:
        self.stand = stand
        self.open = True
        self.index = MemoryIndex()
        self.shelf = Shelf()
        self.rollouts = MemoryRolloutStore()
        self.gate = Doorman()
        self.metrics = ServeMetrics()
        self.desk = FeatureDesk(
            stand.spec,
            stand.states,
            lambda: stand.clock_ms[0],
            self.metrics,
            timeout_s=0.05,
            stale_after_s=5.0,
        )
        self.audit = MemoryAuditLog()
        admin = AdminDeps(
            "0.1.0",
            stand.scorer,
            self.shelf,  # type: ignore[arg-type]
            self.rollouts,
            self.audit,
            self.metrics,
            lambda: {"log": "ok"},
            lambda: self.open,
        )
        self.deps = HttpDeps(
            stand.spec,
            stand.topics,
            Intake(stand.spec.event_rules, lambda: NOW_MS),
            stand.answerer,
            Coalescer(stand.answerer.answer_many, Limits()),
            stand.publisher,
            self.metrics,
            admin,
            deadline_s,
            60.0,
            lambda: self.open,
            self.desk,
            DryRuns(stand.dry_decider(), 5.0),
            LookupDesk(self.index, lambda: stand.clock_ms[0]),
            gate or self.gate,
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(self.deps)), base_url="http://test"
        )

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, content=content, headers=named)

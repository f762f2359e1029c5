"""Who is let in over HTTP: by key, scope, tenant and rate, on every route, before the body."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.gate import OPEN, KeyedGate, request_id_of, scope_of
from api.keys import KeyRecord, Scope, make_key
from api.keys_ring import KeyRing
from api.limits import Buckets
from api.lookup import Indexed
from api.route import Head
from features.event import decision_id, identity
from tests.fakes_http import BODY, Site
from tests.fakes_keys import MemoryKeyStore, Quiet
from tests.fakes_serving import NOW_MS, a_stand

SECRET = b"s" * 32
LABEL = {
    "event_type": "card_payment",
    "event_id": "pay_1",
    "label": "fraud",
    "source": "chargeback",
    "label_time": "2026-03-01T12:00:00Z",
}
ASKED = [{"entity": "card", "id": "c1"}]
ID = decision_id(identity("default", "card_payment", "pay_8842"))
ROUTES: list[tuple[str, str, Any, Scope]] = [
    ("POST", "/v1/decisions", BODY, "decide"),
    ("POST", "/v1/decisions:batch", [BODY], "decide"),
    ("POST", "/v1/decisions:dry-run", BODY, "decide"),
    ("GET", f"/v1/decisions/{ID}", None, "read"),
    ("POST", "/v1/events", BODY, "ingest"),
    ("POST", "/v1/labels", LABEL, "label"),
    ("GET", "/v1/features/card/c1", None, "read"),
    ("POST", "/v1/features:batch", ASKED, "read"),
    ("GET", "/v1/model", None, "read"),
    ("GET", "/v1/model/versions", None, "read"),
]


class Desk:
    """A site behind a gate of keys."""

    def __init__(self, folder: Path, *, key_per_s: float = 0.0, address_per_s: float = 0.0) -> None:
        self.clock = [0.0]
        self.keys = MemoryKeyStore()
        self.ring = KeyRing(
            self.keys,
            SECRET,
            lambda: NOW_MS,
            Quiet(),
            refresh_s=5,
            stale_max_s=60,
            clock=lambda: self.clock[0],
        )
        buckets = [
            Buckets(whose, per_s, 1.0, clock=lambda: self.clock[0])
            for whose, per_s in (("key", key_per_s), ("address", address_per_s))
        ]
        gate = KeyedGate(self.ring, *buckets, Quiet())
        self.stand = a_stand(folder)
        self.stand.load(1)
        self.site = Site(self.stand, 30.0, gate)
        self.site.index.kept[bytes.fromhex(ID[4:])] = Indexed("default", b'{"decision_id":"x"}')

    async def key(self, *scopes: Scope, tenant: str = "default", name: str = "shop") -> str:
        known: list[KeyRecord] = await self.keys.read_all()
        made = make_key(
            known, SECRET, name=name, tenant=tenant, scopes=scopes, made_by="", now_ms=NOW_MS
        )
        await self.keys.put_many([made.record])
        await self.ring.refresh()
        return made.token

    async def ask(
        self, method: str, path: str, body: Any = None, token: str = "", **headers: str
    ) -> httpx.Response:
        named = {"authorization": f"Bearer {token}"} if token else {}
        content = b"" if body is None else json.dumps(body).encode()
        return await self.site.client.request(
            method, path, content=content, headers=named | headers
        )


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.stand.publisher.try_log()
    await desk.ring.refresh()
    yield desk
    await desk.site.client.aclose()


@pytest.mark.parametrize(("method", "path", "body", "scope"), ROUTES)
async def test_each_route_wants_its_scope_and_no_other_will_do(
    desk: Desk, method: str, path: str, body: Any, scope: Scope
) -> None:
    others: list[Scope] = [s for s in ("decide", "ingest", "label", "read") if s != scope]
    right, wrong = await desk.key(scope), await desk.key(*others, name="other")
    refused = await desk.ask(method, path, body, wrong)
    assert refused.status_code == 403
    assert refused.headers["www-authenticate"].endswith(
        f'error="insufficient_scope", scope="{scope}"'
    )
    nobody = await desk.ask(method, path, body)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (
        401,
        'Bearer realm="riskbeat"',
    )
    for response in (refused, nobody):
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code
    assert desk.stand.log.records == []
    assert (await desk.ask(method, path, body, right)).status_code in (200, 202)


@pytest.mark.parametrize("path", sorted(OPEN - {"/asyncapi.json"}))
async def test_probes_and_documents_are_open(desk: Desk, path: str) -> None:
    assert (await desk.ask("GET", path)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/model%2Fversions", "/%76%31/model", "/v1/nothing", "/nothing", "/v1/decisionsX"]
)
async def test_what_nobody_named_needs_a_key_too(desk: Desk, path: str) -> None:
    assert (await desk.ask("GET", path)).status_code == 401
    assert (await desk.ask("DELETE", path, token=await desk.key("decide"))).status_code in (
        403,
        404,
    )


def test_a_route_that_changes_things_needs_admin_unless_it_is_named() -> None:
    assert scope_of("POST", "/v1/model/pin") == "admin"
    assert scope_of("PUT", "/v1/anything/new") == "admin"
    assert scope_of("GET", "/v1/anything/new") == "read"
    assert scope_of("POST", "/v1/decisions/x") == "decide"
    assert scope_of("GET", "/v1/decisions:batch") == "decide"
    assert scope_of("GET", "/v1/decisionsX") == "read"
    assert scope_of("GET", "/nothing") is None


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic YTpi", "rb_0123", "Bearer rb_x", "Bearer " + "A" * 5_000],
)
async def test_a_header_that_is_no_key_is_401(desk: Desk, value: str) -> None:
    response = await desk.ask("GET", "/v1/model", authorization=value)
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/decisions", BODY),
        ("/v1/decisions:dry-run", BODY),
        ("/v1/decisions:batch", [BODY]),
        ("/v1/events", BODY),
        ("/v1/events", [BODY]),
        ("/v1/labels", LABEL),
        ("/v1/features:batch", ASKED),
    ],
)
async def test_a_key_writes_and_reads_its_own_tenant_only(desk: Desk, path: str, body: Any) -> None:
    token = await desk.key("decide", "ingest", "label", "read", tenant="acme")
    response = await desk.ask("POST", path, body, token)
    assert response.status_code == 403
    pointer = "/0/tenant" if isinstance(body, list) else "/tenant"
    assert response.json()["errors"][0]["pointer"] == pointer
    assert desk.stand.log.records == []
    mine: Any = [item | {"tenant": "acme"} for item in body] if isinstance(body, list) else None
    again = await desk.ask("POST", path, mine or body | {"tenant": "acme"}, token)
    assert again.status_code in (200, 202)


async def test_a_key_reads_its_own_tenant_by_url_too(desk: Desk) -> None:
    token = await desk.key("read", tenant="acme")
    assert (await desk.ask("GET", "/v1/features/card/c1", token=token)).status_code == 403
    mine = await desk.ask("GET", "/v1/features/card/c1?tenant=acme", token=token)
    assert mine.status_code == 200
    hidden = await desk.ask("GET", f"/v1/decisions/{ID}", token=token)
    assert hidden.status_code == 404  # as if it were not


async def test_a_key_of_every_tenant_speaks_for_each(desk: Desk) -> None:
    token = await desk.key("decide", tenant="*")
    for tenant in ("default", "acme"):
        response = await desk.ask("POST", "/v1/decisions", BODY | {"tenant": tenant}, token)
        assert response.status_code == 200


async def test_cached_keys_work_while_their_store_is_away_and_then_it_is_503(desk: Desk) -> None:
    token = await desk.key("read")
    desk.keys.away = True
    assert (await desk.ask("GET", "/v1/model", token=token)).status_code == 200
    desk.clock[0] = 61
    late = await desk.ask("GET", "/v1/model", token=token)
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert (await desk.ask("GET", "/healthz")).status_code == 200


async def test_an_act_on_the_model_is_recorded_under_the_keys_name_or_does_not_happen(
    desk: Desk,
) -> None:
    token = await desk.key("admin", tenant="*", name="night.shift")
    asked = {"version": 5, "why": "it drifts"}
    assert (await desk.ask("POST", "/v1/model/pin", asked, token)).status_code == 200
    meant, done = [kept.entry for kept in await desk.site.audit.read()]
    assert (meant.state, done.state, done.act.by) == ("meant", "done", "night.shift")
    assert (done.act.verb, done.act.target, done.act.why) == ("pin", "version 5", "it drifts")
    assert (done.act.before.what, done.act.after.what) == ("version 6", "version 5")

    desk.site.audit.away_after = 0
    for path, body in (("pin", asked), ("unpin", {"why": "x"}), ("rollback", {"why": "x"})):
        refused = await desk.ask("POST", f"/v1/model/{path}", body, token)
        assert refused.json()["type"] == "urn:riskbeat:problem:audit_away"
        assert refused.status_code == 503
    assert [act.act for act in desk.site.shelf.acts] == ["pin"]


async def test_a_key_that_asks_too_much_is_told_when_to_come_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, key_per_s=2.0)
    token, other = await desk.key("read"), await desk.key("read", name="other")
    codes = [(await desk.ask("GET", "/v1/model", token=token)).status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    refused = await desk.ask("GET", "/v1/model", token=token)
    assert (refused.json()["type"], refused.headers["retry-after"]) == (
        "urn:riskbeat:problem:rate_limited",
        "1",
    )
    assert (await desk.ask("GET", "/v1/model", token=other)).status_code == 200
    assert (await desk.ask("GET", "/metrics", token=token)).status_code == 200
    desk.clock[0] = 0.5
    assert (await desk.ask("GET", "/v1/model", token=token)).status_code == 200


async def test_a_batch_counts_each_of_its_items(tmp_path: Path) -> None:
    desk = Desk(tmp_path, key_per_s=10.0)
    await desk.stand.publisher.try_log()
    token = await desk.key("decide")
    events = [BODY | {"event_id": f"e{i}"} for i in range(30)]
    assert (await desk.ask("POST", "/v1/decisions:batch", events, token)).status_code == 200
    desk.clock[0] = 1.9
    assert (await desk.ask("POST", "/v1/decisions", BODY, token)).status_code == 429
    desk.clock[0] = 2.2
    assert (await desk.ask("POST", "/v1/decisions", BODY, token)).status_code == 200


async def test_an_address_is_limited_before_its_keys_are_looked_at(tmp_path: Path) -> None:
    desk = Desk(tmp_path, address_per_s=3.0)
    await desk.ring.refresh()
    codes = [(await desk.ask("GET", "/v1/model", token="guess")).status_code for _ in range(5)]
    assert codes == [401, 401, 401, 429, 429]


def a_head(headers: Mapping[bytes, bytes]) -> Head:
    return Head("GET", b"/v1/model", b"", dict(headers), "peer")


@pytest.mark.parametrize("given", [b"abc-1:2", b"0" * 128])
def test_a_sane_request_id_is_kept(given: bytes) -> None:
    assert request_id_of(a_head({b"x-request-id": given}), lambda: "drawn") == given.decode()


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"a\r\nset-cookie: b", "ü".encode()])
def test_any_other_request_id_is_replaced_once(given: bytes) -> None:
    head, drawn = a_head({b"x-request-id": given}), iter(["first", "second"])
    assert request_id_of(head, lambda: next(drawn)) == "first"
    assert request_id_of(head, lambda: next(drawn)) == "first"


async def test_every_answer_bears_the_requests_id(desk: Desk) -> None:
    token = await desk.key("read")
    for path in ("/v1/model", "/nothing", "/v1/features/card/c1", "/v1/features/nothing/c1"):
        for sent in (token, ""):
            given = await desk.ask("GET", path, token=sent, **{"x-request-id": "mine-1"})
            assert given.headers["x-request-id"] == "mine-1"
    drawn = [(await desk.ask("GET", "/healthz")).headers["x-request-id"] for _ in range(2)]
    assert len(set(drawn)) == 2


@pytest.mark.parametrize("path", ["pin", "unpin", "rollback"])
async def test_an_act_without_a_reason_is_refused_by_the_field(desk: Desk, path: str) -> None:
    token = await desk.key("admin", tenant="*")
    asked = {"why": " \n"} | ({"version": 5} if path == "pin" else {})
    refused = await desk.ask("POST", f"/v1/model/{path}", asked, token)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/why")
    assert not await desk.site.audit.read()

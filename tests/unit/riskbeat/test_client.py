"""Both clients against the HTTP door in memory, and against answers that are none of its."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from features.event import Event, from_ms
from features.update import updates_of_events
from riskbeat.client import (
    AsyncClient,
    Client,
    FeatureQuestion,
    Label,
    RequestRefused,
    RiskbeatError,
    ServiceFailed,
    ServiceUnavailable,
)
from tests.fakes_http import BODY, Site
from tests.fakes_serving import NOW_MS, a_stand, an_event

NOW = from_ms(NOW_MS)
Ask = Callable[..., Any]


class Bridge(httpx.BaseTransport):
    """Lets a client in a thread of its own talk to an application of the test's loop."""

    def __init__(self, inner: httpx.AsyncBaseTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def handle() -> httpx.Response:
            response = await self._inner.handle_async_request(request)
            content = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=content)

        return asyncio.run_coroutine_threadsafe(handle(), self._loop).result()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    stand = a_stand(tmp_path)
    stand.load(1)
    await stand.publisher.try_log()
    site = Site(stand, deadline_s=30.0)
    yield site
    await site.client.aclose()


@pytest.fixture(params=["sync", "async"])
async def ask(site: Site, request: pytest.FixtureRequest) -> AsyncIterator[Ask]:
    """Call a method of a client by name, whichever of the two it is."""
    transport = site.client._transport
    if request.param == "async":
        async with AsyncClient("http://test", transport=transport) as patient:
            yield lambda name, *args, **more: getattr(patient, name)(*args, **more)
        return
    with Client("http://test", transport=Bridge(transport, asyncio.get_running_loop())) as client:
        yield lambda name, *args, **more: asyncio.to_thread(getattr(client, name), *args, **more)


def store(site: Site, *events: Event) -> None:
    site.stand.states.apply(updates_of_events(site.stand.spec, events), 0, len(events))


async def test_features_are_a_typed_answer(site: Site, ask: Ask) -> None:
    store(site, *(an_event(f"e{i}", at_ms=NOW_MS - i * 60_000) for i in range(30)))
    now = await ask("features", "card", "c1")
    assert (now.state, now.at, now.features["card.count_over_10m"]) == ("known", NOW, 10.0)
    assert (now.stale, now.staleness_ms) == (False, 40)
    then = await ask("features", "card", "c1", NOW - timedelta(minutes=25, seconds=30))
    assert then.features["card.count_over_10m"] == 4.0
    assert then.late_question is True
    unknown = await ask("features", "merchant", "m9", tenant="other")
    assert (unknown.state, unknown.tenant) == ("unknown", "other")
    assert unknown.features["merchant.mean_of_amount_over_1h"] is None


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a b?c=d&e", "50%", "ü+名", "%2F"])
async def test_an_id_arrives_as_it_is(site: Site, ask: Ask, name: str) -> None:
    store(site, an_event("e1", card=name, merchant="m1"))
    answer = await ask("features", "card", name)
    assert (answer.id, answer.state) == (name, "known")


async def test_many_are_asked_at_once(site: Site, ask: Ask) -> None:
    store(site, an_event("e1"))
    questions = [
        FeatureQuestion(entity="card", id="c1", at=NOW - timedelta(minutes=1)),
        FeatureQuestion(entity="merchant", id="m1"),
    ]
    answers = await ask("features_many", questions)
    assert [a.entity for a in answers] == ["card", "merchant"]
    assert [a.features[f"{a.entity}.count_over_10m"] for a in answers] == [0, 1]
    assert site.stand.states.calls == 1


async def test_a_decision_of_a_mapping_or_of_an_event(site: Site, ask: Ask) -> None:
    first = await ask("decide", BODY)
    again = await ask("decide", msgspec.convert(BODY, Event))
    assert first.status == "new"
    assert msgspec.structs.replace(again, status="new") == first
    assert first.model.version == 1
    await ask("decide", BODY | {"event_id": "b"}, idempotency_key="k")
    with pytest.raises(RequestRefused, match="came with another body"):
        await ask("decide", BODY | {"event_id": "c"}, idempotency_key="k")


async def test_labels_reach_the_log(site: Site, ask: Ask) -> None:
    labels = [
        Label(
            event_type="card_payment",
            event_id=f"p{i}",
            label="fraud",
            source="chargeback",
            label_time=NOW,
        )
        for i in range(3)
    ]
    assert await ask("labels", labels) == 3
    sent = [msgspec.json.decode(r.value, type=Label) for r in site.stand.log.of("t.labels.v1")]
    assert sent == labels


async def test_one_label_is_known_from_now_on_unless_told(site: Site) -> None:
    bridge = Bridge(site.client._transport, asyncio.get_running_loop())
    with Client("http://test", transport=bridge) as client:
        told = {"event_type": "card_payment", "source": "customer", "label_time": NOW}
        await asyncio.to_thread(client.label, "pay_1", "legit", **told)  # type: ignore[arg-type]
        before = datetime.now(UTC)
        with pytest.raises(RequestRefused, match="/0/label_time"):  # the fake door lives in March
            await asyncio.to_thread(
                client.label, "pay_1", "fraud", event_type="card_payment", source="issuer"
            )
    assert before > NOW
    [record] = site.stand.log.of("t.labels.v1")
    assert msgspec.json.decode(record.value, type=Label).label == "legit"


async def test_a_refusal_carries_its_problem(site: Site, ask: Ask) -> None:
    with pytest.raises(RequestRefused) as refused:
        await ask("features", "iban", "x")
    problem = refused.value.problem
    assert (problem.status, problem.type) == (404, "urn:riskbeat:problem:unknown_entity")
    assert [(e.pointer, e.code) for e in problem.errors] == [("/entity", "unknown_entity")]
    assert "expected one of: card, merchant" in str(refused.value)
    with pytest.raises(RequestRefused, match="/amount: an amount is required"):
        await ask("decide", {**BODY, "amount": None})
    with pytest.raises(ValueError, match="at: expected an instant with an offset"):
        await ask("features", "card", "c1", datetime(2026, 3, 1))  # noqa: DTZ001


async def test_what_may_be_asked_again_says_when(site: Site, ask: Ask) -> None:
    site.stand.states.away = True
    with pytest.raises(ServiceUnavailable) as away:
        await ask("features", "card", "c1")
    assert away.value.retry_after_s == 1
    assert away.value.problem.type == "urn:riskbeat:problem:store_away"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(502, text="<html>bad gateway</html>"), ServiceFailed),
        (httpx.Response(200, text="<html>welcome</html>"), ServiceFailed),
        (httpx.Response(200, json={"entity": "card"}), ServiceFailed),
        (httpx.Response(403, text="who are you"), RequestRefused),
        (httpx.Response(503, headers={"retry-after": "soon"}), ServiceUnavailable),
        (
            httpx.Response(500, headers={"content-type": "application/problem+json"}, text="{"),
            ServiceFailed,
        ),
    ],
)
def test_answers_that_are_none_of_ours_are_errors_of_ours(
    answer: httpx.Response, error: type[RiskbeatError]
) -> None:
    with Client("http://test", transport=httpx.MockTransport(lambda _: answer)) as client:
        with pytest.raises(error) as raised:
            client.features("card", "c1")
        assert raised.value.problem.status == answer.status_code


@pytest.mark.parametrize(
    ("fault", "title"),
    [(httpx.ReadTimeout("slow"), "No answer in time"), (httpx.ConnectError(""), "No connection")],
)
def test_no_answer_is_an_error_of_ours(fault: httpx.TransportError, title: str) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise fault

    with Client("http://test", transport=httpx.MockTransport(fail)) as client:
        with pytest.raises(ServiceUnavailable) as raised:
            client.features("card", "c1")
        assert (raised.value.problem.title, raised.value.problem.status) == (title, 0)
        assert raised.value.retry_after_s is None


def test_a_client_loads_nothing_heavy() -> None:
    heavy = "torch numba faust aiokafka redis polars river fastapi pydantic"
    code = f"import sys, riskbeat.client; print(sorted(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

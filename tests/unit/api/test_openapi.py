"""The two documents: valid, complete, and true to what is answered."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from api.errors import KNOWN
from api.gate import OPEN, scope_of
from api.openapi import openapi
from api.openapi_parts import PROBLEMS
from riskbeat.schemas import FOLDER
from tests.fakes_http import Site

PAPER: dict[str, Any] = json.loads((FOLDER / "openapi.json").read_text())
OPERATIONS = [
    (path, method, operation)
    for path, methods in PAPER["paths"].items()
    for method, operation in methods.items()
]
IDS = [f"{method} {path}" for path, method, _ in OPERATIONS]
each = pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=IDS)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    resource = Resource(document, DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    anchored = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
    return jsonschema.Draft202012Validator(anchored, registry=registry)


def media(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    for kind, shown in content.items():
        examples = shown.get("examples") or {"": {"value": shown["example"]}}
        for example in examples.values():
            name = example.get("$ref", "").rpartition("/")[2]
            value = PAPER["components"]["examples"][name]["value"] if name else example["value"]
            if kind == "application/x-ndjson":
                for line in value.splitlines():
                    yield shown["schema"]["contentSchema"], json.loads(line)
            else:
                yield shown["schema"], value


def test_the_document_is_openapi_3_1() -> None:
    errors = list(OpenAPIV31SpecValidator(PAPER).iter_errors())
    assert errors == []
    assert PAPER["openapi"].startswith("3.1")


@each
def test_every_example_is_what_its_schema_says(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    bodies = [operation["requestBody"]["content"]] if "requestBody" in operation else []
    bodies += [response["content"] for response in operation["responses"].values()]
    shown = [pair for content in bodies for pair in media(content)]
    assert len(shown) >= len(bodies)
    for schema, value in shown:
        validator(PAPER, schema).validate(value)
    for parameter in operation["parameters"]:
        if "example" in parameter:
            validator(PAPER, parameter["schema"]).validate(parameter["example"])


@each
def test_the_scope_is_the_one_that_the_gate_asks_for(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    if path in OPEN:
        assert operation["security"] == []
    else:
        assert operation["security"] == [{"key": [scope_of(method.upper(), path)]}]
        assert {"401", "403", "429", "503"} <= set(operation["responses"])


def test_every_problem_that_has_a_name_has_an_example() -> None:
    shown = {type(error) for error in PROBLEMS.values()}
    assert set(KNOWN) - shown == set()
    used = json.dumps(PAPER["paths"])
    assert [name for name in PROBLEMS if f'examples/{name}"' not in used] == []


async def test_every_route_that_is_described_is_served_and_the_other_way_round(site: Site) -> None:
    served = (await site.client.get("/openapi.json")).json()
    assert set(served["paths"]) == set(PAPER["paths"])
    for path, method, _ in OPERATIONS:
        made = path.replace("{entity}", "card").replace("{id}", "c1")
        made = made.replace("{decision_id}", "dec_" + "0" * 32)
        response = await site.client.request(method.upper(), made, content=b"{")
        assert (
            response.json()["type"] != "urn:riskbeat:problem:no_such_route"
            if (response.status_code == 404)
            else response.status_code != 405
        ), (method, path)


def test_the_served_document_speaks_of_the_specs_own_types() -> None:
    event = PAPER["components"]["schemas"]["Event"]
    assert event["properties"]["event_type"] == {"enum": ["card_payment"]}
    bare = openapi("0", None)["components"]["schemas"]["Event"]
    assert "enum" not in bare["properties"]["event_type"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/v1/nothing", 404),
        ("PUT", "/v1/model", 405),
        ("DELETE", "/v1/decisions", 405),
        ("GET", "/v1/model/acts?limit=no", 422),
        ("GET", "/v1/model/acts?limit=0", 422),
        ("POST", "/v1/model/pin", 400),
        ("GET", "/v1/features/card/c1?at=yesterday", 422),
    ],
)
async def test_whatever_is_refused_is_a_problem_document(
    site: Site, method: str, path: str, status: int
) -> None:
    response = await site.client.request(method, path)
    assert response.status_code == response.json()["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    if status == 422:
        [error] = response.json()["errors"]
        assert error["pointer"].startswith("/")
    if status == 405:
        assert response.headers["allow"]

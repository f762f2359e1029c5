"""The AsyncAPI document: its references, its examples, and the wire that it speaks of."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from features.event import Label
from features.event_wire import Event
from features.topics import Topics
from features.update import LabelTransition
from models.decision_codec import decode_record
from pipeline.dead import DeadLetter
from riskbeat.asyncapi import asyncapi
from riskbeat.schemas import FOLDER
from tests.unit.api.test_openapi import validator

PAPER: dict[str, Any] = json.loads((FOLDER / "asyncapi.json").read_text())
MESSAGES = PAPER["components"]["messages"]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, child in value.items():
            if name == "$ref":
                yield child
            else:
                yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(PAPER):
        place: Any = PAPER
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


@pytest.mark.parametrize("name", [name for name in MESSAGES if "examples" in MESSAGES[name]])
def test_every_example_is_what_its_schema_and_our_decoder_take(name: str) -> None:
    kinds = {
        "events": Event,
        "labels": Label,
        "label_updates": LabelTransition,
        "dead": DeadLetter,
    }
    for example in MESSAGES[name]["examples"]:
        validator(PAPER, MESSAGES[name]["payload"]).validate(example["payload"])
        body = json.dumps(example["payload"]).encode()
        if name == "decisions":
            assert decode_record(body).decision_id == example["payload"]["decision_id"]
        else:
            msgspec.json.decode(body, type=kinds[name])


def test_addresses_are_those_of_the_deployment() -> None:
    ours = asyncapi("0", Topics("mine."))["channels"]
    assert {one["address"].split(".")[0] for one in ours.values()} == {"mine"}
    assert ours["events"]["address"] == Topics("mine.").events


def test_the_document_passes_the_specifications_own_schema() -> None:
    """`RISKBEAT_ASYNCAPI_SCHEMA`: `schemas/3.0.0.json` of the npm package `@asyncapi/specs`."""
    path = os.environ.get("RISKBEAT_ASYNCAPI_SCHEMA")
    if not path:
        pytest.skip("no package of ours brings AsyncAPI's schema; RISKBEAT_ASYNCAPI_SCHEMA may")
    schema = json.loads(Path(path).read_text())
    jsonschema.Draft7Validator(schema).validate(PAPER)

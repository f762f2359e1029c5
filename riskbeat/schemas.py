"""wire types, grammar → `schemas/*.json`: what may be sent and configured, and the two documents.

`python -m riskbeat.schemas` writes them again; a test refuses files that fell behind.
"""

import importlib.metadata
import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from api.openapi import openapi
from features.event import Label
from features.event_wire import Event
from features.spec import Spec
from features.spec_schema import features_schema
from features.topics import Topics
from models.decision import Decision, DecisionRecord
from models.policy_values import Policy
from riskbeat.asyncapi import asyncapi

SHIPPED_SPEC = Path(__file__).parents[1] / "features.yaml"
FOLDER = Path(__file__).parents[1] / "schemas"
WIRE_TYPES: dict[str, type] = {
    "event": Event,
    "label": Label,
    "decision": Decision,
    "decision_record": DecisionRecord,
    "policy": Policy,
}


def schema_of(wire_type: type) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a wire type."""
    schema = json.loads(json.dumps(msgspec.json.schema(wire_type)))  # a tuple becomes a list
    for definition in schema["$defs"].values():
        if "description" in definition:  # Python 3.13 keeps docstrings without their indent
            definition["description"] = inspect.cleandoc(definition["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schemas() -> dict[str, dict[str, Any]]:
    """Return every schema by the name of its file."""
    wire = {name: schema_of(wire_type) for name, wire_type in WIRE_TYPES.items()}
    version = importlib.metadata.version("riskbeat")
    return wire | {
        "features": features_schema(),
        "openapi": openapi(version, Spec.load(SHIPPED_SPEC).event_rules),
        "asyncapi": asyncapi(version, Topics()),
    }


def main() -> None:
    """Write every schema file."""
    for name, schema in schemas().items():
        (FOLDER / f"{name}.json").write_text(json.dumps(schema, indent=2) + "\n")


if __name__ == "__main__":
    main()

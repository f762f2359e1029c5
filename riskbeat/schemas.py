"""wire types → `schemas/*.json`: what a producer may send, for readers of other languages.

`python -m riskbeat.schemas` writes them again; a test refuses files that fell behind.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from features.event import Label
from features.event_wire import Event
from models.decision import Decision, DecisionRecord

FOLDER = Path(__file__).parents[1] / "schemas"
WIRE_TYPES: dict[str, type] = {
    "event": Event,
    "label": Label,
    "decision": Decision,
    "decision_record": DecisionRecord,
}


def schema_of(wire_type: type) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a wire type."""
    schema = msgspec.json.schema(wire_type)
    for definition in schema["$defs"].values():
        if "description" in definition:  # Python 3.13 keeps docstrings without their indent
            definition["description"] = inspect.cleandoc(definition["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def main() -> None:
    """Write every schema file."""
    for name, wire_type in WIRE_TYPES.items():
        text = json.dumps(schema_of(wire_type), indent=2) + "\n"
        (FOLDER / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()

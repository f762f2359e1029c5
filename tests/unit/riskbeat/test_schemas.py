"""The files in schemas/: up to date, and the one of features.yaml says what the loader says."""

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from features.spec_terms import CALENDAR
from riskbeat.schemas import FOLDER, schemas
from tests.unit.features.specs import ROOT, SMALL
from tests.unit.features.specs_rich import RICH

ROOM = yaml.safe_load(SMALL)
BROKEN: list[tuple[str, str, Any]] = [
    ("entities", "card.median", ["1s"]),
    ("entities", "card.count", "1s"),
    ("entities", "card.count", []),
    ("entities", "card.count", ["1 s"]),
    ("entities", "card.count", ["1s", "1s"]),
    ("entities", "card.is_new", "maybe"),
    ("entities", "card.key", ["card"]),
    ("entities", "card.changed", ["Country"]),
    ("entities", "card.where", {"big": {"fraud_count": ["1h"]}}),
    ("entities", "Card", {"count": ["1h"]}),
    ("filters", "big", {}),
    ("filters", "big", {"amount": {"over": 5}}),
    ("filters", "big", {"amount": {"at_least": 5, "above": 5}}),
    ("filters", "big", {"amount": {"at_least": "much"}}),
    ("filters", "big", {"country": []}),
    ("place", "latitude", 5),
    ("categories", "mcc", 1),
    ("categories", "mcc", 2**20 + 1),
    ("money", "base", "euro"),
    ("limits", "head_events", 0),
    ("limits", "reorder", 5),
    ("event_types", "login", {"amount_required": False}),
]


@pytest.mark.parametrize("name", schemas())
def test_schema_files_are_those_of_the_types_and_of_the_grammar(name: str) -> None:
    assert json.loads((FOLDER / f"{name}.json").read_text()) == schemas()[name]


@pytest.mark.parametrize("name", ["features.yaml", "features_handbook.yaml"])
def test_the_shipped_specs_are_valid(name: str) -> None:
    Draft202012Validator.check_schema(schemas()["features"])
    assert not _errors(yaml.safe_load((ROOT / name).read_text()))
    assert not _errors(ROOM)
    assert not _errors(yaml.safe_load(RICH))


@pytest.mark.parametrize(("top", "path", "value"), BROKEN, ids=[f"{p} {v}" for _, p, v in BROKEN])
def test_what_the_loader_refuses_by_its_form_the_schema_refuses(
    top: str, path: str, value: Any
) -> None:
    broken = json.loads(json.dumps(ROOM))
    place = broken.setdefault(top, {})
    *parents, last = path.split(".")
    for parent in parents:
        place = place[parent]
    place[last] = value
    errors = _errors(broken)
    assert errors
    assert all(top in error for error in errors)


def test_the_schema_wants_what_the_loader_wants_and_knows_no_other_names() -> None:
    for name in ("money", "event_types", "entities"):
        assert any(name in error for error in _errors({k: ROOM[k] for k in ROOM if k != name}))
    assert any("cash" in error for error in _errors(ROOM | {"cash": {}}))
    assert not (_errors(ROOM | {"calendar": list(CALENDAR)}))


def _errors(content: Any) -> list[str]:
    found = Draft202012Validator(schemas()["features"]).iter_errors(content)
    return [f"{error.json_path}: {error.message}" for error in found]

import json

import pytest

from riskbeat.schemas import FOLDER, WIRE_TYPES, schema_of


@pytest.mark.parametrize("name", WIRE_TYPES)
def test_schema_files_are_those_of_the_wire_types(name: str) -> None:
    assert json.loads((FOLDER / f"{name}.json").read_text()) == schema_of(WIRE_TYPES[name])

"""`riskbeat openapi` and `riskbeat asyncapi` print the documents that a scorer serves."""

import json
from pathlib import Path

from typer.testing import CliRunner

from riskbeat.__main__ import app

ROOT = Path(__file__).parents[3]


def test_the_documents_are_printed() -> None:
    env = {"RISKBEAT_SPEC_PATH": str(ROOT / "features.yaml")}
    for name in ("openapi", "asyncapi"):
        told = CliRunner().invoke(app, [name], env=env)
        assert told.exit_code == 0, told.output
        assert json.loads(told.output) == json.loads((ROOT / f"schemas/{name}.json").read_text())


def test_topics_bear_the_names_of_the_deployment() -> None:
    told = CliRunner().invoke(app, ["asyncapi"], env={"RISKBEAT_TOPIC_PREFIX": "eu."})
    assert json.loads(told.output)["channels"]["events"]["address"] == "eu.events.v1"

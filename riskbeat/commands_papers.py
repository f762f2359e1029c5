"""`riskbeat openapi` and `riskbeat asyncapi`: what HTTP takes and what topics carry, described."""

import importlib
import importlib.metadata
import json
from typing import Any

import typer

from features.spec import Spec
from riskbeat.settings_load import load_settings


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(name="openapi")(print_openapi)
    app.command(name="asyncapi")(print_asyncapi)


def print_openapi() -> None:
    """Print the OpenAPI document of the HTTP door, for the spec that the settings name."""
    rules = Spec.load(load_settings(servers=False).spec_path).event_rules
    _print(importlib.import_module("api.openapi").openapi(_version(), rules))


def print_asyncapi() -> None:
    """Print the AsyncAPI document of the topics, by the names that the settings give them."""
    topics = load_settings(servers=False).topics
    _print(importlib.import_module("riskbeat.asyncapi").asyncapi(_version(), topics))


def _print(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2))


def _version() -> str:
    return importlib.metadata.version("riskbeat")

"""The `riskbeat` command: one way in to every process and tool."""

import importlib.metadata
import sys

import typer

from features.spec import SpecError
from models.policy import PolicyError
from models.scorer import NoDevice
from riskbeat import (
    commands_audit,
    commands_backup,
    commands_data,
    commands_evaluate,
    commands_features,
    commands_keys,
    commands_model,
    commands_offline,
    commands_ops,
    commands_papers,
    commands_plan,
    commands_policy,
    commands_recompute,
    commands_rollout,
    commands_run,
    commands_secure,
    commands_store,
    doctor,
)
from riskbeat.embedded import EmbeddedMissing
from riskbeat.keyring import NoKeys
from riskbeat.settings_load import SettingError

EXIT_USER_ERROR = 2
USER_ERRORS = (NoKeys, SettingError, SpecError, PolicyError, NoDevice, EmbeddedMissing)

app = typer.Typer(
    name="riskbeat",
    help="Scores payments for fraud, and learns while it answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
HOUSES = (
    commands_run,
    commands_data,
    commands_features,
    commands_keys,
    commands_model,
    commands_rollout,
    commands_offline,
    commands_evaluate,
    commands_policy,
    commands_ops,
    commands_papers,
    commands_plan,
    commands_secure,
    commands_store,
    commands_audit,
    commands_backup,
    commands_recompute,
    doctor,
)
for house in HOUSES:
    house.register(app)


@app.command()
def version() -> None:
    """Print the version of riskbeat."""
    typer.echo(importlib.metadata.version("riskbeat"))


def main() -> None:
    """Run the command; a user's error is one readable line and exit code 2."""
    try:
        app()
    except USER_ERRORS as error:
        typer.echo(f"riskbeat: {error}", err=True)
        sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()

"""The `riskbeat` command: one way in to every process and tool."""

import importlib.metadata
import sys

import typer

from riskbeat.command_houses import Houses

EXIT_USER_ERROR = 2
USER_ERRORS = (
    "features.spec_yaml.SpecError",
    "models.policy.PolicyError",
    "models.scorer.NoDevice",
    "riskbeat.embedded.EmbeddedMissing",
    "riskbeat.keyring.NoKeys",
    "riskbeat.settings_load.SettingError",
)

app = typer.Typer(
    name="riskbeat",
    cls=Houses,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def riskbeat() -> None:
    """Scores payments for fraud, and learns while it answers."""


@app.command()
def version() -> None:
    """Print the version of riskbeat."""
    typer.echo(importlib.metadata.version("riskbeat"))


def main() -> None:
    """Run the command; a user's error is one readable line and exit code 2."""
    try:
        app()
    except Exception as error:
        if not is_user_error(error):
            raise
        typer.echo(f"riskbeat: {error}", err=True)
        sys.exit(EXIT_USER_ERROR)


def is_user_error(error: Exception) -> bool:
    """Whether its words tell a user what to do. By name: few commands need these modules."""
    return any(
        f"{kind.__module__}.{kind.__qualname__}" in USER_ERRORS for kind in type(error).mro()
    )


if __name__ == "__main__":
    main()

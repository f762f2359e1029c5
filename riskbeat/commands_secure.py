"""`riskbeat secrets | access`: certificates and passwords of a deployment, and who may do what."""

import asyncio
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from features.event import from_ms
from riskbeat.access import access_page, kafka_rules
from riskbeat.access_kafka import AccessRefused, allow
from riskbeat.clock import now_ms
from riskbeat.secret_files import RENEWALS, SecretFiles
from riskbeat.settings_load import load_settings

EXIT_USER_ERROR = 2
FOLDER = Path("secrets")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(secrets)
    app.command()(access)


def secrets(
    out: Annotated[Path, typer.Option(help="The folder; made if it is not there.")] = FOLDER,
    renew: Annotated[
        list[str] | None, typer.Option(help=f"Make anew: {', '.join(RENEWALS)}. May repeat.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="One more name or address of the servers. May stand several times."),
    ] = None,
    redis_host: Annotated[
        str, typer.Option(help="host:port of the store, as the processes see it.")
    ] = "valkey:6379",
) -> None:
    """Make certificates and passwords where there are none, each process' in its own folder."""
    for what in renew or ():
        if what not in RENEWALS:
            _end(f"--renew {what}: expected one of: {', '.join(RENEWALS)}")
    files = SecretFiles(out, redis_host, load_settings(servers=False).redis_prefix, host or ())
    try:
        at = from_ms(now_ms())
        files.make(at)
        for what in renew or ():
            RENEWALS[what](files, at)
    except (OSError, ValueError) as error:
        _end(f"--out {out}: {error}")
    typer.echo(f"{out}: " + (f"made anew: {', '.join(renew)}" if renew else "complete"))


def access(
    apply: Annotated[
        bool, typer.Option("--apply", help="Tell Kafka; the broker must have an authorizer.")
    ] = False,
) -> None:
    """Show what each process may do in the store and in the log; or tell Kafka."""
    if not apply:
        typer.echo(access_page(), nl=False)
        return
    settings = load_settings()
    try:
        rules = kafka_rules(settings.topic_prefix)
        count = asyncio.run(allow(settings.kafka_options(), rules))
    except AccessRefused as error:
        _end(str(error))
    typer.echo(f"Kafka: {count} rules stand; whoever is not named in one may do nothing")


def _end(detail: str) -> NoReturn:
    typer.echo(f"riskbeat: {detail}", err=True)
    raise typer.Exit(EXIT_USER_ERROR)

"""`riskbeat backup` and `riskbeat restore`: what a rebuild cannot make again, kept and put back."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from api.keys import KeysUnavailable
from features.spec import Spec
from models.audit import AuditUnavailable, BadEntry
from models.registry import RegistryUnavailable
from pipeline.join import JoinBusy
from riskbeat.backup import CannotBackUp, back_up
from riskbeat.backup_archive import BadArchive
from riskbeat.backup_kafka import OffsetsSilent
from riskbeat.backup_redis import SectionMoves
from riskbeat.restore import CannotRestore, Plan, restore
from riskbeat.settings_load import load_settings

EXIT_USER_ERROR = 2
ENDINGS = (
    AuditUnavailable,
    BadArchive,
    BadEntry,
    CannotBackUp,
    CannotRestore,
    JoinBusy,
    KeysUnavailable,
    OffsetsSilent,
    OSError,
    RegistryUnavailable,
    SectionMoves,
)

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(name="backup")(make_backup)
    app.command(name="restore")(put_back)


def make_backup(
    out: Annotated[Path, typer.Option(help="The archive's file; or a folder, to have it named.")],
    learner: Annotated[
        bool, typer.Option("--learner/--without-learner", help="Its data; it must be stopped.")
    ] = True,
    signing_key: Annotated[
        bool,
        typer.Option("--signing-key/--without-signing-key", help="The learner's private key."),
    ] = True,
    this_spec: Annotated[
        bool, typer.Option("--this-spec", help="Only versions of the spec that the settings name.")
    ] = False,
) -> None:
    """Write versions, policy, lists, API keys, offsets and the learner's data into one archive."""
    settings = load_settings()
    lines = Spec.load(settings.spec_path).digest[:12] if this_spec else ""
    path, manifest = _run(
        back_up(settings, out, learner=learner, signing_key=signing_key, lines=lines)
    )
    for name, latest in manifest.lines.items():
        typer.echo(f"versions of {name}: up to {latest}")
    stood = manifest.learner
    typer.echo(f"learner: version {stood.version}" if stood else "learner: left out")
    size_bytes = sum(part.size_bytes for part in manifest.parts)
    typer.echo(f"{path}: {len(manifest.parts)} parts, {size_bytes:,} bytes, read back and verified")


def put_back(
    archive: Annotated[Path, typer.Argument(help="As `riskbeat backup` wrote it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what stands.")] = False,
    learner: Annotated[
        bool, typer.Option("--learner/--without-learner", help="Its data, if the archive has it.")
    ] = True,
) -> None:
    """Verify an archive and put it back, with all processes stopped; then run `riskbeat rebuild`.

    A learner whose backup is older than what was published goes on with `learn --catch-up`.
    """
    settings = load_settings()
    plan: Plan = _run(restore(settings, archive, force=force, dry_run=dry_run, learner=learner))
    for step in plan.steps:
        typer.echo(f"{'would put back' if dry_run else 'put back'} {step}")
    for name in plan.stands:
        typer.echo(f"{'would replace' if dry_run else 'replaced'} {name}")
    for act in plan.since:
        typer.echo(f"not in the backup, do it again if it should hold: {act}")
    if not dry_run:
        typer.echo("next: riskbeat rebuild, then start the processes (the learner: --catch-up)")


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except ENDINGS as error:
        _end(error)


def _end(error: Exception) -> NoReturn:
    typer.echo(f"riskbeat: {error}", err=True)
    raise typer.Exit(EXIT_USER_ERROR)

"""`riskbeat model …`: which versions there are, which one answers, and acts upon them."""

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from models import registry_acts as acts
from models.audit import Act, AuditLog, AuditUnavailable, BadAct, BadEntry
from models.registry import Freeze, NoWeights, RegistryUnavailable
from models.registry_redis import RedisWeightsRegistry
from models.signing import BadKeys, BadSignature
from models.weights import BadWeights, SchemaMismatch
from pipeline.relearn import CannotRelearn
from pipeline.versions_kafka import LogSilent
from riskbeat import model_pages as pages
from riskbeat import versions
from riskbeat.audit import open_audit
from riskbeat.clock import now_ms
from riskbeat.settings import Settings
from riskbeat.settings_load import load_settings

EXIT_DIFFERENT = 1
EXIT_USER_ERROR = 2
LISTED = 20
ENDINGS = (
    AuditUnavailable,
    BadAct,
    BadEntry,
    BadKeys,
    BadSignature,
    BadWeights,
    CannotRelearn,
    LogSilent,
    NoWeights,
    RegistryUnavailable,
    SchemaMismatch,
    versions.CannotDo,
)

model = typer.Typer(
    help="Which versions of the model there are, which one answers, and acts upon them.",
    no_args_is_help=True,
)

Version = Annotated[str, typer.Argument(help="A version's number, `latest` or `active`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
Why = Annotated[str, typer.Option("--why", help="Kept in the list of acts.")]
By = Annotated[str, typer.Option("--by", help="Who acts; this user on this machine if left out.")]

Acting = Callable[[RedisWeightsRegistry, AuditLog], Awaitable[int]]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(model, name="model")


@model.command("list")
def list_versions(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Newest versions shown.")] = LISTED,
    as_json: Json = False,
) -> None:
    """List the newest versions, and say which one answers, who learns, and what is frozen."""
    overview = _run(versions.look(load_settings(), limit))
    if as_json:
        typer.echo(json.dumps(pages.overview_row(overview)))
    else:
        pages.print_overview(overview)


@model.command()
def show(version: Version = "active", as_json: Json = False) -> None:
    """Show one version whole: verified as a scorer does it."""
    held, shelved = _run(versions.read_whole(load_settings(), version))
    if as_json:
        typer.echo(json.dumps(pages.version_row(held, shelved)))
    else:
        pages.print_version(held, shelved)


@model.command()
def diff(one: Version, other: Version, as_json: Json = False) -> None:
    """Say how two versions differ: counts, figures, shares, arrays."""
    settings = load_settings()
    first, _ = _run(versions.read_whole(settings, one))
    second, _ = _run(versions.read_whole(settings, other))
    if as_json:
        typer.echo(json.dumps(pages.difference_row(first, second)))
    else:
        pages.print_difference(first, second)


@model.command()
def pin(version: Version, why: Why, by: By = "") -> None:
    """Let scorers answer with one version, whatever is published."""

    async def act(registry: RedisWeightsRegistry, log: AuditLog) -> int:
        number = await versions.number_of(registry, version)
        await acts.pin(registry, log, number, _act_of("pin", f"version {number}", by, why))
        return number

    _act("pinned", act)


@model.command()
def unpin(why: Why, by: By = "") -> None:
    """Let scorers follow the newest version again."""

    async def act(registry: RedisWeightsRegistry, log: AuditLog) -> int:
        if not (await registry.standing()).pinned:
            raise versions.CannotDo("nothing is pinned: scorers follow the latest version")
        return await acts.unpin(registry, log, _act_of("unpin", "active version", by, why))

    _act("unpinned; following", act)


@model.command()
def rollback(
    why: Why,
    steps: Annotated[int, typer.Option(min=1, help="How many versions back.")] = 1,
    by: By = "",
) -> None:
    """Pin the version before the one that answers now."""

    async def act(registry: RedisWeightsRegistry, log: AuditLog) -> int:
        target = await registry.active_version() - steps
        number = await versions.number_of(registry, str(max(target, 0)))
        await acts.pin(registry, log, number, _act_of("rollback", f"version {number}", by, why))
        return number

    _act("rolled back: pinned", act)


@model.command()
def freeze(why: Why, by: By = "") -> None:
    """Stop versions from being made; learning goes on, and nothing of it is lost."""
    who = by or versions.actor()
    wanted = Freeze(by=who, why=why, at_ms=now_ms(), cause="operator")

    async def act(registry: RedisWeightsRegistry, log: AuditLog) -> Freeze:
        return await acts.freeze(registry, log, _act_of("freeze", "publishing", by, why), wanted)

    stands = _run(_with_registry(act))
    if stands == wanted:
        typer.echo("publishing is frozen; `riskbeat model thaw` lets versions be made again")
    else:
        typer.echo(f"publishing was frozen before, {pages.freeze_line(stands)}")


@model.command()
def thaw(why: Why, by: By = "") -> None:
    """Let versions be made again.

    Reasons for which the learner froze by itself count as seen: they freeze again only after they
    have been gone, or after the learner was started again.
    """

    async def act(registry: RedisWeightsRegistry, log: AuditLog) -> bool:
        return await acts.thaw(registry, log, _act_of("thaw", "publishing", by, why))

    if not _run(_with_registry(act)):
        _end(versions.CannotDo("publishing is not frozen"))
    typer.echo("thawed; the next version holds all that was learned meanwhile")


@model.command()
def verify(
    first: Annotated[int, typer.Option("--from", min=0, help="Begin after this version.")] = 0,
    last: Annotated[
        int | None, typer.Option("--to", min=1, help="The last to compare; else the newest.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Copy of a stopped learner's join.sqlite, of version --from."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn versions again from the log, and compare them bit for bit with what was published.

    Ends with code 1 if one differs. Needs the learner's settings, and the same build.
    """
    house = importlib.import_module("riskbeat.verify")  # torch takes seconds
    settings = load_settings()

    async def compare() -> tuple[int, int]:
        compared = different = 0
        async for one in house.verify(settings, first, last, checkpoint):
            compared += 1
            different += bool(one.differences)
            if one.differences and not as_json:
                typer.echo(f"version {one.version}: {'; '.join(one.differences)}")
        return compared, different

    compared, different = _run(compare())
    if as_json:
        typer.echo(json.dumps({"compared": compared, "different": different}))
    else:
        typer.echo(f"{compared} versions learned again; {different} differ from what was published")
    if different:
        raise typer.Exit(EXIT_DIFFERENT)


def _act_of(verb: str, target: str, by: str, why: str) -> Act:
    who = by or versions.actor()
    return Act(subject="weights", verb=verb, target=target, by=who, why=why, at_ms=now_ms())


def _act(done: str, act: Acting) -> None:
    """Do something to the active pointer, and wait a while for the scorers."""

    async def act_and_wait(registry: RedisWeightsRegistry, log: AuditLog) -> tuple[int, int, int]:
        number = await act(registry, log)
        return number, *await versions.wait_for_scorers(registry, number)

    number, reached, scorers = _run(_with_registry(act_and_wait))
    answer = f"{reached} of {scorers} scorers answer with it" if scorers else "no scorer is running"
    typer.echo(f"{done} version {number}; {answer}")


async def _with_registry(act: Callable[[RedisWeightsRegistry, AuditLog], Awaitable[Any]]) -> Any:
    settings: Settings = load_settings()
    async with versions.open_registry(settings) as registry:
        return await act(registry, open_audit(settings))


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except ENDINGS as error:
        _end(error)


def _end(error: Exception) -> NoReturn:
    typer.echo(f"riskbeat: {error}", err=True)
    raise typer.Exit(EXIT_USER_ERROR)

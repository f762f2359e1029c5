"""`riskbeat rollout …`: try a candidate beside what answers, and let it take over in steps."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from api.rollout_page import look, row_of
from features.spec import Spec
from models.audit import AuditUnavailable, BadAct, BadEntry
from models.registry import RegistryUnavailable
from models.registry_redis import RedisWeightsRegistry
from models.rollout import (
    MAIN,
    ActName,
    CannotRoll,
    Plan,
    Rollout,
    RolloutState,
    Selector,
    Step,
    parse_target,
)
from models.rollout_acts import change, release, settle, start
from models.rollout_redis import RedisRolloutStore
from models.rollout_rules import aborted, advanced, promoted
from models.rollout_signals import Signals
from models.rollout_store import RolloutConflict
from riskbeat import rollout_pages as pages
from riskbeat import versions
from riskbeat.audit import open_audit
from riskbeat.clock import now_ms
from riskbeat.recorded import RecordedRollouts
from riskbeat.settings import Settings
from riskbeat.settings_load import load_settings
from riskbeat.store import redis_client

EXIT_USER_ERROR = 2
PERCENT = 100.0
SHADOW = "shadow"
ENDINGS = (
    AuditUnavailable,
    BadAct,
    BadEntry,
    CannotRoll,
    RegistryUnavailable,
    RolloutConflict,
    versions.CannotDo,
)

rollout_app = typer.Typer(
    help="Try a candidate beside what answers, and let it take over in steps.",
    no_args_is_help=True,
)

Why = Annotated[str, typer.Option("--why", help="Kept in the list of acts.")]
By = Annotated[str, typer.Option("--by", help="Who acts; this user on this machine if left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


@dataclass(frozen=True, slots=True)
class Shelves:
    """The state of rollouts, and the lines of versions beside it."""

    store: RedisRolloutStore
    registry_of: Callable[[str], RedisWeightsRegistry]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(rollout_app, name="rollout")


@rollout_app.command("start")
def start_rollout(
    candidate: Annotated[str, typer.Argument(help="LINE, LINE@VERSION or LINE@latest.")],
    why: Why,
    steps: Annotated[str, typer.Option(help="Percent, or `shadow`, as in shadow,1,5,25,100.")] = "",
    bake_s: Annotated[float | None, typer.Option(min=0, help="Shortest stay at a step.")] = None,
    decisions_min: Annotated[
        int | None, typer.Option(min=0, help="Answers that it takes to leave a step.")
    ] = None,
    entity: Annotated[
        str, typer.Option(help="Whose hash decides; else the event type's primary one.")
    ] = "",
    tenant: Annotated[
        list[str] | None, typer.Option(help="Only its events take part; may be repeated.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE that events must carry; may be repeated.")
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help="A person promotes it, or nobody.")] = False,
    no_shadow: Annotated[
        bool, typer.Option("--no-shadow", help="The candidate scores its own events only.")
    ] = False,
    by: By = "",
) -> None:
    """Begin a rollout; scorers follow within a second or two."""
    settings = load_settings()
    try:
        target = parse_target(candidate)
        plan = Plan(
            steps=steps_of(settings, steps, bake_s, decisions_min),
            selector=Selector(
                entity=_entity(settings, entity),
                tenants=tuple(tenant or ()),
                attributes=attributes_of(attribute or ()),
            ),
            limits=settings.rollout_limits,
            automatic=not hold,
            patience_s=settings.rollout_patience_s,
            shadow=not no_shadow,
        )
    except ValueError as error:
        _end(error)

    async def act(shelves: Shelves) -> RolloutState:
        who = by or versions.actor()
        return await start(shelves.store, shelves.registry_of, target, plan, who, why, now_ms())

    state = _run(_with_shelves(settings, act))
    assert state.rollout is not None
    first = "as a shadow" if state.rollout.share == 0 else f"at {state.rollout.share:.4g}"
    typer.echo(f"rollout {state.rollout.number} of {target} began {first}; riskbeat rollout status")


@rollout_app.command()
def status(as_json: Json = False) -> None:
    """Say what is rolled out, what was seen of it, and what would turn it back."""

    async def act(shelves: Shelves) -> tuple[RolloutState, Signals | None, list[Any]]:
        return *await look(shelves.store), await shelves.store.history()

    state, signals, acts = _run(_with_shelves(load_settings(), act))
    if as_json:
        row = dict(row_of(state, signals)) | {"acts": msgspec.to_builtins(acts)}
        typer.echo(json.dumps(row))
    else:
        pages.print_status(state, signals, acts)


@rollout_app.command()
def advance(why: Why, by: By = "") -> None:
    """Go to the next step now, baked or not; after the last one: promote."""

    async def act(shelves: Shelves) -> RolloutState:
        at_ms = now_ms()
        return await _change(shelves, "advance", lambda r: advanced(r, at_ms), by, why)

    _say(_run(_with_shelves(load_settings(), act)))


@rollout_app.command()
def promote(why: Why, by: By = "") -> None:
    """Let the candidate be what answers from now on, whatever steps are left."""

    async def act(shelves: Shelves) -> RolloutState:
        at_ms = now_ms()
        return await _change(shelves, "promote", lambda r: promoted(r, why, at_ms), by, why)

    _say(_run(_with_shelves(load_settings(), act)))


@rollout_app.command()
def abort(why: Why, by: By = "") -> None:
    """Let the candidate answer nothing any more."""

    async def act(shelves: Shelves) -> RolloutState:
        at_ms = now_ms()
        state = await _change(shelves, "abort", lambda r: aborted(r, why, at_ms), by, why)
        assert state.rollout is not None
        await release(shelves.registry_of, state.rollout)
        return state

    _say(_run(_with_shelves(load_settings(), act)))


def steps_of(
    settings: Settings, text: str, bake_s: float | None, decisions_min: int | None
) -> tuple[Step, ...]:
    """Return the steps of a command line, and of the settings where it says nothing.

    Raises:
        ValueError: A share is no percentage.
    """
    percents: Sequence[float] = settings.rollout_steps
    if text:
        percents = [_percent(part.strip()) for part in text.split(",")]
    bake = settings.rollout_bake_s if bake_s is None else bake_s
    least = settings.rollout_decisions_min if decisions_min is None else decisions_min
    return tuple(
        Step(share=percent / PERCENT, bake_s=bake, decisions_min=least) for percent in percents
    )


def attributes_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return attributes by name.

    Raises:
        ValueError: One is not NAME=VALUE.
    """
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not name or not sign:
            raise ValueError(f"--attribute {pair}: expected NAME=VALUE")
        found[name] = value
    return found


def _percent(text: str) -> float:
    if text == SHADOW:
        return 0.0
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= PERCENT:
        raise ValueError(f"--steps: {text!r} is no percentage, and not `{SHADOW}`")
    return percent


def _entity(settings: Settings, name: str) -> str:
    entities = sorted({part for one in Spec.load(settings.spec_path).entities for part in one.key})
    if name and name not in entities:
        raise ValueError(f"--entity {name}: events have {', '.join(entities)}")
    return name


async def _change(
    shelves: Shelves, act: ActName, rule: Callable[[Rollout], Rollout], by: str, why: str
) -> RolloutState:
    """Change the rollout that runs, and do at once what a promotion entails."""
    at_ms = now_ms()
    state = await change(shelves.store, act, rule, by or versions.actor(), why, at_ms)
    try:
        return await settle(shelves.store, shelves.registry_of, state, at_ms)
    except RolloutConflict:  # a scorer did it
        return await shelves.store.read()


def _say(state: RolloutState) -> None:
    rollout = state.rollout
    assert rollout is not None
    where = f"; step {rollout.step + 1}, {PERCENT * rollout.share:g} %" if rollout.running else ""
    typer.echo(
        f"rollout {rollout.number} of {rollout.candidate} {pages.STAGES[rollout.stage]}{where}; "
        f"line {state.line} answers"
    )


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Shelves]:
    digest = Spec.load(settings.spec_path).digest
    client = redis_client(settings)

    def registry_of(line: str) -> RedisWeightsRegistry:
        name = "" if line == MAIN else line
        kept = settings.weights_kept
        return RedisWeightsRegistry(client, settings.redis_prefix, digest, kept, line=name)

    try:
        yield Shelves(
            RecordedRollouts(open_audit(settings), client, settings.redis_prefix, digest),
            registry_of,
        )
    finally:
        await client.aclose()


async def _with_shelves(
    settings: Settings, act: Callable[[Shelves], Coroutine[Any, Any, Any]]
) -> Any:
    async with _open(settings) as shelves:
        return await act(shelves)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except ENDINGS as error:
        _end(error)


def _end(error: Exception) -> NoReturn:
    typer.echo(f"riskbeat: {error}", err=True)
    raise typer.Exit(EXIT_USER_ERROR)

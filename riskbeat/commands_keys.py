"""`riskbeat keys …`: the keys of callers; and, by itself, the learner's signing key pair."""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from api.keys import (
    ANY_TENANT,
    SCOPES,
    BadKeyRequest,
    KeyRecord,
    KeyStore,
    KeysUnavailable,
    MadeKey,
    make_key,
    revoke_keys,
    rotate_key,
)
from features.event import DEFAULT_TENANT, from_ms
from models.audit import Act, AuditUnavailable, BadAct, BadEntry, recorded
from models.signing import ensure_keys
from riskbeat.audit import open_audit
from riskbeat.clock import now_ms
from riskbeat.keyring import key_secret, key_store
from riskbeat.settings import Settings
from riskbeat.settings_load import load_settings
from riskbeat.store import redis_client
from riskbeat.versions import actor

EXIT_USER_ERROR = 2
ENDINGS = (AuditUnavailable, BadAct, BadEntry, BadKeyRequest, KeysUnavailable)
UNSAID = "not said"
WIDE = 160
UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

keys = typer.Typer(help="Keys of callers: make, list, rotate and revoke them.")

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
By = Annotated[str, typer.Option("--by", help="Who acts; this user on this machine if left out.")]
Why = Annotated[str, typer.Option("--why", help="Kept in the audit log.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(keys, name="keys")


@keys.callback(invoke_without_command=True)
def signing(context: typer.Context) -> None:
    """Keys of callers; without a command, make the learner's signing key pair if there is none."""
    if context.invoked_subcommand is None:
        make_signing_keys()


def make_signing_keys() -> None:
    """Make the learner's signing key pair where there is none."""
    settings = load_settings()
    ensure_keys(settings.signing_key_path, settings.public_key_paths[0])
    typer.echo(f"private: {settings.signing_key_path} (only the learner needs it)")
    typer.echo(f"public: {settings.public_key_paths[0]} (every scorer needs it)")


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Who will call with it.")],
    scope: Annotated[
        list[str], typer.Option(help=f"What for: {', '.join(SCOPES)}. May stand several times.")
    ],
    tenant: Annotated[
        str, typer.Option(help="Whose events it writes and reads; '*' for everybody's.")
    ] = DEFAULT_TENANT,
    expires: Annotated[str, typer.Option(help="It ends by itself after this: 90d, 12h.")] = "",
    requests_per_s: Annotated[
        float | None, typer.Option(min=0.01, help="A rate limit of its own.")
    ] = None,
    by: By = "",
    why: Why = UNSAID,
    as_json: Json = False,
) -> None:
    """Make a key, and show its token: now, and never again."""
    for one in scope:
        if one not in SCOPES:
            _end(BadKeyRequest(f"scope {one!r}: expected one of: {', '.join(SCOPES)}"))
    settings, at_ms = load_settings(), now_ms()

    async def act(store: KeyStore) -> MadeKey:
        made = make_key(
            await store.read_all(),
            key_secret(settings),
            name=name,
            tenant=tenant,
            scopes=[one for one in SCOPES if one in scope],
            made_by=by or actor(),
            now_ms=at_ms,
            expires_at_ms=at_ms + _span_ms(expires) if expires else None,
            requests_per_s=requests_per_s,
        )
        async with _recorded(settings, "create", _told(made.record), by, why):
            await store.put_many([made.record])
        return made

    _show_made(settings, _run(settings, act), as_json)


@keys.command("list")
def list_keys(
    everything: Annotated[bool, typer.Option("--all", help="Also those that ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON each.")] = False,
) -> None:
    """List the keys: whose, what for, until when. Tokens are not kept, and so not shown."""
    at_ms = now_ms()
    records = _run(load_settings(), lambda store: store.read_all())
    shown = [record for record in records if everything or record.is_valid(at_ms)]
    if as_json:
        for record in shown:
            typer.echo(json.dumps(_row_of(record, at_ms)))
    elif not shown:
        typer.echo("there are no keys")
    else:
        Console(width=None if sys.stdout.isatty() else WIDE).print(_table(shown, at_ms))


@keys.command()
def revoke(
    which: Annotated[str, typer.Argument(help="A key's id, or a name: then all keys of it.")],
    by: By = "",
    why: Why = UNSAID,
) -> None:
    """End keys now. Scorers know within RISKBEAT_KEYS_REFRESH_S."""
    settings = load_settings()

    async def act(store: KeyStore) -> list[KeyRecord]:
        ended = revoke_keys(await store.read_all(), which, now_ms())
        told = ", ".join(_told(record) for record in ended)
        try:
            async with _recorded(settings, "revoke", told, by, why):
                await store.put_many(ended)
        except AuditUnavailable as error:  # a key that leaked does not wait for the log
            await store.put_many(ended)
            typer.echo(f"riskbeat: revoked, and not in the audit log: {error}", err=True)
        return ended

    for record in _run(settings, act):
        typer.echo(
            f"revoked {record.id} of {record.name}; "
            f"no scorer takes it after {settings.keys_refresh_s:g} s"
        )


@keys.command()
def rotate(
    name: Annotated[str, typer.Argument(help="Whose key.")],
    overlap: Annotated[str, typer.Option(help="The old key ends after this: 7d, 12h.")] = "7d",
    by: By = "",
    why: Why = UNSAID,
    as_json: Json = False,
) -> None:
    """Make a successor with the same rights; the old key stays valid for a while beside it."""
    settings, at_ms = load_settings(), now_ms()

    async def act(store: KeyStore) -> MadeKey:
        made, old = rotate_key(
            await store.read_all(),
            key_secret(settings),
            name=name,
            overlap_ms=_span_ms(overlap),
            made_by=by or actor(),
            now_ms=at_ms,
        )
        async with _recorded(settings, "rotate", f"{_told(old)} to {made.record.id}", by, why):
            await store.put_many([made.record, old])
        return made

    _show_made(settings, _run(settings, act), as_json)


def _recorded(
    settings: Settings, verb: str, target: str, by: str, why: str
) -> AbstractAsyncContextManager[object]:
    """Write an act down before it happens in the `async with` block, and after; never a token."""
    act = Act(subject="key", verb=verb, target=target, by=by or actor(), why=why, at_ms=now_ms())
    return recorded(open_audit(settings), act)


def _told(record: KeyRecord) -> str:
    scopes = " ".join(record.scopes)
    return f"{record.id} of {record.name} ({record.tenant}: {scopes})"


def _run(settings: Settings, act: Callable[[KeyStore], Awaitable[T]]) -> T:
    async def with_store() -> T:
        client = redis_client(settings)
        try:
            return await act(key_store(settings, client))
        finally:
            await client.aclose()

    try:
        return asyncio.run(with_store())
    except ENDINGS as error:
        _end(error)


def _end(error: Exception) -> NoReturn:
    typer.echo(f"riskbeat: {error}", err=True)
    raise typer.Exit(EXIT_USER_ERROR)


def _show_made(settings: Settings, made: MadeKey, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_row_of(made.record, now_ms()) | {"token": made.token}))
        return
    typer.echo(made.token)
    typer.echo(
        f"key {made.record.id} of {made.record.name}, shown this once; "
        f"every scorer takes it within {settings.keys_refresh_s:g} s",
        err=True,
    )


def _span_ms(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None:
        raise BadKeyRequest(f"{text!r}: expected a span as in 90d, 12h, 30m, 45s")
    return int(found[1]) * UNITS_MS[found[2]]


def _row_of(record: KeyRecord, at_ms: int) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "tenant": record.tenant,
        "scopes": record.scopes,
        "state": _state(record, at_ms),
        "made_at": from_ms(record.made_at_ms).isoformat(),
        "made_by": record.made_by,
        "expires_at": _instant(record.expires_at_ms),
        "revoked_at": _instant(record.revoked_at_ms),
        "requests_per_s": record.requests_per_s,
    }


def _table(records: Sequence[KeyRecord], at_ms: int) -> Table:
    table = Table("id", "name", "tenant", "scopes", "state", "made", "by", "ends")
    for record in records:
        tenant = "any" if record.tenant == ANY_TENANT else record.tenant
        made = from_ms(record.made_at_ms).astimezone(UTC).strftime("%Y-%m-%d")
        ends = _instant(record.revoked_at_ms or record.expires_at_ms) or "never"
        row = (record.id, record.name, tenant, " ".join(record.scopes))
        table.add_row(*row, _state(record, at_ms), made, record.made_by, ends)
    return table


def _state(record: KeyRecord, at_ms: int) -> str:
    if record.revoked_at_ms is not None:
        return "revoked"
    return "valid" if record.is_valid(at_ms) else "expired"


def _instant(at_ms: int | None) -> str | None:
    moment: datetime | None = None if at_ms is None else from_ms(at_ms)
    return None if moment is None else moment.isoformat(timespec="seconds")

"""`riskbeat audit`: who changed policy, lists, weights, rollouts or keys, when and why."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from features.event import from_ms
from features.spec_yaml import span_text
from models.audit import AuditUnavailable, BadEntry
from models.audit_chain import Checked
from riskbeat.audit import Told, checked, fold, open_audit, wanted
from riskbeat.settings_load import load_settings

EXIT_BROKEN = 1
EXIT_USER_ERROR = 2
UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
SHA_CHARACTERS = 12


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(audit)


def audit(
    what: Annotated[
        str, typer.Option(help="Only acts with this subject or verb, or with this in the target.")
    ] = "",
    who: Annotated[str, typer.Option(help="Only acts of actors whose name holds this.")] = "",
    since: Annotated[
        str, typer.Option(help="Only from then on: `36h`, `7d`, or an instant as in RFC 3339.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON an act.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check that no record was changed or removed.")
    ] = False,
) -> None:
    """Print the audit log: who changed what answers are made with, when, from what to what, why.

    Ends with code 1 if the chain that the entries form is broken.
    """
    begin_ms = _since(since, datetime.now(UTC))
    try:
        kept = asyncio.run(open_audit(load_settings()).read())
    except (AuditUnavailable, BadEntry) as error:
        _end(str(error))
    found = checked(kept)
    if not verify:
        acts = wanted(fold(kept), what, who, begin_ms)
        _print_json(acts) if as_json else _print_table(acts)
    for one in found.breaks:
        typer.echo(
            f"riskbeat: the entry at offset {one.offset} saw another log before offset "
            f"{one.claim.seen} than there is now: a record there was changed, put in or removed",
            err=True,
        )
    if verify and not found.breaks:
        typer.echo(_chain_line(found))
    if found.breaks:
        raise typer.Exit(EXIT_BROKEN)


def _since(text: str, now: datetime) -> int:
    if not text:
        return 0
    if text[:-1].isdecimal() and text[-1] in UNITS_S:
        at = now - timedelta(seconds=int(text[:-1]) * UNITS_S[text[-1]])
    else:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            _end(f"--since {text}: expected a time ago as in 36h or 7d, or an instant (RFC 3339)")
        at = at.replace(tzinfo=at.tzinfo or UTC)
    return int(at.timestamp() * 1000)


def _print_json(acts: list[Told]) -> None:
    for one in acts:
        typer.echo(json.dumps(one.row()))


def _print_table(acts: list[Told]) -> None:
    if not acts:
        typer.echo("no such act")
        return
    table = Table("when (UTC)", "who", "what", "from", "to", "why", "state")
    for one in acts:
        act = one.act
        state = f"failed: {one.error}" if one.state == "failed" else one.state
        late_ms = one.at_ms - act.at_ms
        when = f"{from_ms(one.at_ms):%Y-%m-%d %H:%M:%S}"
        if abs(late_ms) >= 60_000:
            when += f"\n(acted {span_text(abs(late_ms))} {'before' if late_ms > 0 else 'after'})"
        tenant = f"\ntenant {act.tenant}" if act.tenant else ""
        stood = [
            f"{side.what} {side.sha256[:SHA_CHARACTERS]}".strip()
            for side in (act.before, act.after)
        ]
        what = f"{act.subject} {act.verb} {act.target}{tenant}"
        table.add_row(when, act.by, what, *stood, act.why, state, style=_style(one))
    Console().print(table)


def _style(one: Told) -> str:
    return {"meant": "yellow", "failed": "red", "done": ""}[one.state]


def _chain_line(found: Checked) -> str:
    if not found.ends:
        return "the audit log is empty"
    begin = f" from offset {found.begins}" if found.begins else ""
    open_ = found.ends - found.covered
    return (
        f"{found.ends} entries{begin}: none was changed, put in or removed; "
        f"{open_} at the end not vouched for by a later one yet"
    )


def _end(message: str) -> NoReturn:
    typer.echo(f"riskbeat: {message}", err=True)
    raise typer.Exit(EXIT_USER_ERROR)

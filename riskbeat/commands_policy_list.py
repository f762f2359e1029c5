"""`riskbeat policy list …`: entries of allow, deny and watch lists, put in and taken out."""

import csv
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from features.event import Instant, from_ms
from features.spec_yaml import read_duration_ms
from models.policy_lists import CHANGE_MAX, LISTS, NEVER_MS, ListEntry, ListKey
from models.policy_store import PolicyAct
from riskbeat import policy_acts
from riskbeat.clock import now_ms
from riskbeat.policy_ending import BadList, run
from riskbeat.settings_load import load_settings
from riskbeat.versions import actor

COLUMNS = ("id", "reason", "until", "tenant")
SHOWN = 100

lists = typer.Typer(help="Allow, deny and watch lists, for all scorers.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(help="deny, watch or allow.")]
Entity = Annotated[str, typer.Argument(help="Kind of entity, as in card.")]
Tenant = Annotated[str, typer.Option(help="Of the events that it is for; * for all.")]
Why = Annotated[str, typer.Option("--why", help="Kept with the entry and in the list of acts.")]
By = Annotated[str, typer.Option("--by", help="Who acts; this user on this machine if left out.")]


@lists.command()
def add(
    which: Which,
    entity: Entity,
    ids: Annotated[list[str], typer.Argument(help="Of the entities.")],
    why: Why,
    tenant: Tenant = "*",
    length: Annotated[str, typer.Option("--for", help="As in 30d; for good if left out.")] = "",
    by: By = "",
) -> None:
    """Put entities into a list. One that stands there gets the new reason and end."""
    run(_add(which, entity, ids, why, tenant, length, by or actor()))


@lists.command()
def remove(
    which: Which,
    entity: Entity,
    ids: Annotated[list[str], typer.Argument(help="Of the entities.")],
    why: Why,
    tenant: Tenant = "*",
    by: By = "",
) -> None:
    """Take entities out of a list."""
    run(_remove(which, entity, ids, why, tenant, by or actor()))


@lists.command()
def show(
    which: Annotated[str, typer.Argument(help="deny, watch or allow; all if left out.")] = "",
    entity: Annotated[str, typer.Option(help="Only this kind of entity.")] = "",
    entity_id: Annotated[str, typer.Option("--id", help="Only this entity.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many entries.")] = SHOWN,
) -> None:
    """Count the entries, and show some: who put them there, when and why, and until when."""
    run(_show(which, entity, entity_id, limit))


@lists.command("import")
def import_file(
    which: Which,
    entity: Entity,
    file: Annotated[Path, typer.Argument(help="CSV with the column id.")],
    why: Why,
    tenant: Tenant = "*",
    by: By = "",
) -> None:
    """Put what a CSV file names into a list: id, and if you like reason, until and tenant.

    The file is checked whole before the first entry is put.
    """
    run(_import(which, entity, file, why, tenant, by or actor()))


@lists.command()
def prune(by: By = "") -> None:
    """Take out the entries whose time is over; they count no longer anyway."""
    run(_prune(by or actor()))


async def _add(
    which: str, entity: str, ids: Sequence[str], why: str, tenant: str, length: str, by: str
) -> None:
    at_ms = now_ms()
    try:
        until_ms = at_ms + read_duration_ms(length) if length else NEVER_MS
    except ValueError as error:
        raise BadList(f"--for: {error}") from error
    entries = [_entry(which, entity, one, tenant, why, by, at_ms, until_ms) for one in ids]
    act, new = _act("put", f"{which} {entity}: {len(entries)}", by, why), 0
    async with _changing(act) as stores:
        for part in _parts(entries):
            new += await stores.lists.put_many(part)
    typer.echo(f"{which}: {new} new, {len(entries) - new} changed")


async def _remove(
    which: str, entity: str, ids: Sequence[str], why: str, tenant: str, by: str
) -> None:
    keys = [_key(_entry(which, entity, one, tenant, "", by, 0, NEVER_MS)) for one in ids]
    act, gone = _act("remove", f"{which} {entity}: {len(keys)}", by, why), 0
    async with _changing(act) as stores:
        for part in _parts(keys):
            gone += await stores.lists.remove_many(part)
    typer.echo(f"{which}: {gone} taken out, {len(keys) - gone} did not stand there")


async def _show(which: str, entity: str, entity_id: str, limit: int) -> None:
    if which and which not in LISTS:
        raise BadList(f"{which!r}: expected one of: {', '.join(LISTS)}")
    shown = 0
    async with policy_acts.open_stores(load_settings()) as stores:
        counts = await stores.lists.counts()
        typer.echo(", ".join(f"{name} {counts[name]}" for name in LISTS))
        async for entries in stores.lists.scan():
            for entry in entries:
                mine = which in ("", entry.list) and entity in ("", entry.entity)
                if mine and entity_id in ("", entry.id) and shown < limit:
                    shown += 1
                    typer.echo(_line(entry))
            if shown >= limit:
                return


async def _import(which: str, entity: str, file: Path, why: str, tenant: str, by: str) -> None:
    def read() -> Iterator[ListEntry]:
        return _entries_of(file, which, entity, tenant, why, by)

    count = sum(1 for _ in read())  # raises before anything was put
    act, new = _act("put", f"{which} {entity}: {count} of {file.name}", by, why), 0
    async with _changing(act) as stores:
        for part in _parts(read()):
            new += await stores.lists.put_many(part)
    typer.echo(f"{which}: {new} new, {count - new} changed")


async def _prune(by: str) -> None:
    gone, at_ms = 0, now_ms()
    over: list[ListKey] = []
    async with policy_acts.open_stores(load_settings()) as stores:
        async for entries in stores.lists.scan():
            over += [_key(e) for e in entries if NEVER_MS < e.until_ms <= at_ms]
    if over:
        act = _act("remove", f"{len(over)} entries", by, "their time is over")
        async with _changing(act) as stores:
            for part in _parts(over):
                gone += await stores.lists.remove_many(part)
    typer.echo(f"{gone} entries taken out")


@asynccontextmanager
async def _changing(act: PolicyAct) -> AsyncIterator[policy_acts.Stores]:
    """Open the stores for a change of lists, which is recorded before, after and among the acts."""
    async with policy_acts.open_stores(load_settings()) as stores:
        async with stores.policies.changing(act):
            yield stores
        await stores.policies.note(act)


def _entries_of(
    file: Path, which: str, entity: str, tenant: str, why: str, by: str
) -> Iterator[ListEntry]:
    """Yield the entries of a CSV file."""
    at_ms = now_ms()
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        names = rows.fieldnames or []
        if "id" not in names:
            raise BadList(f"{file.name}:1: expected a column named id")
        for name in names:
            if name not in COLUMNS:
                raise BadList(f"{file.name}:1: {name}: expected columns {', '.join(COLUMNS)}")
        for row in rows:
            place = f"{file.name}:{rows.line_num}"
            try:
                yield _entry(
                    which,
                    entity,
                    row["id"] or "",
                    row.get("tenant") or tenant,
                    row.get("reason") or why,
                    by,
                    at_ms,
                    _until_ms(row.get("until") or ""),
                )
            except (BadList, ValueError) as error:
                raise BadList(f"{place}: {error}") from error


def _until_ms(text: str) -> int:
    if not text:
        return NEVER_MS
    try:
        until = msgspec.convert(text, type=Instant)
    except msgspec.ValidationError as error:
        raise BadList(f"until: {error}; as in 2026-12-31T00:00:00Z") from error
    return int(until.timestamp() * 1000)


def _entry(
    which: str, entity: str, one: str, tenant: str, why: str, by: str, at_ms: int, until_ms: int
) -> ListEntry:
    values = {"list": which, "entity": entity, "id": one, "tenant": tenant, "reason": why}
    try:
        return msgspec.convert(
            {**values, "by": by, "at_ms": at_ms, "until_ms": until_ms}, ListEntry
        )
    except msgspec.ValidationError as error:
        raise BadList(str(error).replace(" - at `$.", " - at `")) from error


def _key(entry: ListEntry) -> ListKey:
    return ListKey(list=entry.list, entity=entry.entity, id=entry.id, tenant=entry.tenant)


def _parts(items: Any) -> Iterator[Any]:
    """Yield lists of as many as one call takes."""
    rest = iter(items)
    while part := list(islice(rest, CHANGE_MAX)):
        yield part


def _act(kind: Any, subject: str, by: str, why: str) -> PolicyAct:
    return PolicyAct(act=kind, subject=subject, by=by, why=why, at_ms=now_ms())


def _line(entry: ListEntry) -> str:
    until = f", until {from_ms(entry.until_ms).isoformat()}" if entry.until_ms else ""
    at = from_ms(entry.at_ms).isoformat(timespec="seconds")
    who = f"{entry.list} {entry.entity} {entry.id} (tenant {entry.tenant})"
    return f"{who}: {entry.reason}; by {entry.by} {at}{until}"

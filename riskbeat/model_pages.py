"""versions of the model → tables for people and rows for machines."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from models.registry import Freeze, Shelved
from models.weights import LaneRef, MemberRef, Weights, checksum_of
from models.weights_chain import Held
from riskbeat.versions import Entry, Overview

WIDE = 160
FIGURES = ("average_precision", "roc_auc", "brier")
HEADS = {"average_precision": "AP", "roc_auc": "AUC", "brier": "Brier"}


def overview_row(overview: Overview) -> dict[str, Any]:
    """Return an overview for machines."""
    standing = overview.standing
    return {
        "latest": standing.latest,
        "active": standing.active,
        "pinned": standing.pinned,
        "frozen": msgspec.to_builtins(overview.freeze),
        "learner": overview.learner or None,
        "scorers": overview.scorers,
        "last_act": msgspec.to_builtins(overview.last),
        "on_shelf": overview.on_shelf,
        "versions": [_entry_row(entry) for entry in overview.entries],
    }


def print_overview(overview: Overview) -> None:
    """Print an overview for people."""
    standing = overview.standing
    if not standing.latest:
        typer.echo(f"no version has been published; learner: {overview.learner or 'none'}")
        if overview.freeze is not None:
            typer.echo(f"publishing is frozen {freeze_line(overview.freeze)}")
        return
    pinned = ", pinned" if standing.pinned else ""
    typer.echo(f"latest {standing.latest}, active {standing.active}{pinned}")
    typer.echo(f"learner: {overview.learner or 'none'}")
    if overview.freeze is not None:
        typer.echo(f"publishing is frozen {freeze_line(overview.freeze)}")
    if overview.last is not None:
        act = overview.last
        who = f"{act.by}, {_ago(act.at_ms)}"
        typer.echo(f"last act: {act.act} at version {act.version} by {who}: {act.why}")
    table = Table()
    table.add_column("version", justify="right")
    for head in ("", "made", "form"):
        table.add_column(head)
    for head in ("bytes", "labels", *HEADS.values(), "step", "scorers"):
        table.add_column(head, justify="right")
    for entry in overview.entries:
        manifest, version = entry.manifest, entry.shelved.version
        answering = list(overview.scorers.values()).count(version)
        table.add_row(
            str(version),
            "active" if version == standing.active else "",
            _ago(manifest.created_at_ms),
            _form(entry),
            f"{entry.shelved.size_bytes:,}",
            f"{manifest.labels_learned:,}",
            *(_figure(manifest.metrics, name) for name in FIGURES),
            f"{manifest.step.mean_logit:.4f}",
            str(answering or ""),
        )
    _console().print(table)
    left = overview.on_shelf - len(overview.entries)
    if left:
        typer.echo(f"{left} older versions are on the shelf: --limit shows more")


def version_row(held: Held, shelved: Shelved) -> dict[str, Any]:
    """Return a version for machines."""
    weights = held.weights
    return {
        "version": weights.version,
        "model": weights.model,
        "sha256": held.sha256,
        "parent_sha256": weights.parent_sha256,
        "schema_digest": weights.schema_digest,
        "result": checksum_of(weights.arrays),
        "form": "full" if shelved.full == shelved.version else "delta",
        "chain": [shelved.full, shelved.version],
        "size_bytes": shelved.size_bytes,
        "created_at_ms": weights.created_at_ms,
        "learned_until_ms": weights.learned_until_ms,
        "labels_learned": weights.labels_learned,
        "code_version": weights.code_version,
        "beta": weights.beta,
        "offsets": dict(weights.offsets),
        "metrics": dict(weights.metrics),
        "step": msgspec.to_builtins(weights.step),
        "lanes": msgspec.to_builtins(weights.lanes),
        "members": msgspec.to_builtins(weights.members),
        "takes": len(weights.cuts),
        "arrays": {
            name: {"dtype": array.dtype.name, "shape": list(array.shape)}
            for name, array in sorted(weights.arrays.items())
        },
    }


def print_version(held: Held, shelved: Shelved) -> None:
    """Print a version for people."""
    weights = held.weights
    row = version_row(held, shelved)
    delta = f"delta; its chain begins at {shelved.full}" if row["form"] == "delta" else "full"
    facts = {
        "version": f"{weights.model} {weights.version} ({delta}), signature and checksum good",
        "made": f"{_time(weights.created_at_ms)} by riskbeat {weights.code_version}",
        "learned": f"{weights.labels_learned:,} labels, until {_time(weights.learned_until_ms)}",
        "size": f"{shelved.size_bytes:,} bytes published, "
        f"{sum(array.nbytes for array in weights.arrays.values()):,} in memory",
        "sha256": held.sha256,
        "parent": weights.parent_sha256 or "none",
        "spec": weights.schema_digest,
        "result": row["result"],
        "step": f"mean |Δ log-odds| {weights.step.mean_logit:.5f}, largest "
        f"{weights.step.max_logit:.5f}, largest |Δp| {weights.step.max_p:.5f}",
        "offsets": ", ".join(f"{k} {v:,}" for k, v in sorted(weights.offsets.items())) or "none",
        "takes": f"{len(weights.cuts)} cuts",
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        grid.add_row(name, value)
    for name, figure in sorted(weights.metrics.items()):
        grid.add_row("figure", f"{name} {figure:.4f}")
    _console().print(grid)
    shares = Table("lane", "member", "kind", "share", "β", "calibration")
    for lane in weights.lanes:
        shares.add_row(lane.name, "", "", f"{lane.weight:.3f}", "", f"{lane.a:.3f}·z {lane.b:+.3f}")
        for member in (m for m in weights.members if m.lane == lane.name):
            share = f"{member.weight:.3f}"
            shares.add_row("", member.name, member.kind, share, f"{member.beta:g}", "")
    _console().print(shares)


def difference_row(first: Held, second: Held) -> dict[str, Any]:
    """Return what differs between two versions, for machines."""
    one, other = first.weights, second.weights
    return {
        "versions": [one.version, other.version],
        "labels_learned": other.labels_learned - one.labels_learned,
        "seconds": (other.created_at_ms - one.created_at_ms) / 1000,
        "metrics": {
            name: [one.metrics.get(name), other.metrics.get(name)]
            for name in sorted({*one.metrics, *other.metrics})
        },
        "shares": {
            name: [before, after]
            for name, before, after in _share_pairs(one, other)
            if before != after
        },
        "arrays": [
            change
            for name in sorted(one.arrays.keys() | other.arrays.keys())
            if (change := _array_change(name, one, other)) is not None
        ],
    }


def print_difference(first: Held, second: Held) -> None:
    """Print what differs between two versions, for people."""
    row = difference_row(first, second)
    typer.echo(
        f"from version {row['versions'][0]} to {row['versions'][1]}: "
        f"{row['labels_learned']:+,} labels, {row['seconds']:+,.1f} s"
    )
    if row["metrics"] or row["shares"]:
        table = Table("", "before", "after")
        for name, (before, after) in (row["metrics"] | row["shares"]).items():
            table.add_row(name, _number(before), _number(after))
        _console().print(table)
    if not row["arrays"]:
        typer.echo("all arrays are equal, bit for bit")
        return
    table = Table("array", "change", "numbers", "of", "largest |Δ|")
    for change in row["arrays"]:
        table.add_row(
            change["name"],
            change["change"],
            f"{change['numbers']:,}",
            f"{change['of']:,}",
            _number(change["largest"]),
        )
    _console().print(table)


def freeze_line(freeze: Freeze) -> str:
    """Return who froze, when and why, in one line."""
    who = "by the learner's own checks" if freeze.cause == "checks" else f"by {freeze.by}"
    return f"{who}, {_ago(freeze.at_ms)}: {freeze.why}"


def _entry_row(entry: Entry) -> dict[str, Any]:
    manifest = entry.manifest
    return {
        "version": entry.shelved.version,
        "form": _form(entry),
        "chain_from": entry.shelved.full,
        "size_bytes": entry.shelved.size_bytes,
        "created_at_ms": manifest.created_at_ms,
        "labels_learned": manifest.labels_learned,
        "metrics": manifest.metrics,
        "step": msgspec.to_builtins(manifest.step),
        "result": manifest.result,
    }


def _form(entry: Entry) -> str:
    return "full" if entry.shelved.full == entry.shelved.version else "delta"


def _share_pairs(one: Weights, other: Weights) -> list[tuple[str, Any, Any]]:
    mine, theirs = _shares(one), _shares(other)
    names = sorted(mine.keys() | theirs.keys())
    return [(name, mine.get(name), theirs.get(name)) for name in names]


def _shares(weights: Weights) -> dict[str, float]:
    lanes: list[LaneRef] = list(weights.lanes)
    members: list[MemberRef] = list(weights.members)
    found = {f"lane {lane.name}: share": lane.weight for lane in lanes}
    found |= {f"lane {lane.name}: a": lane.a for lane in lanes}
    found |= {f"lane {lane.name}: b": lane.b for lane in lanes}
    return found | {f"member {m.lane}.{m.name}: share": m.weight for m in members}


def _array_change(name: str, one: Weights, other: Weights) -> dict[str, Any] | None:
    before, after = one.arrays.get(name), other.arrays.get(name)
    if before is None or after is None or before.shape != after.shape:
        shown = after if after is not None else before
        assert shown is not None
        what = "new" if before is None else "gone" if after is None else "other shape"
        return {
            "name": name,
            "change": what,
            "numbers": shown.size,
            "of": shown.size,
            "largest": None,
        }
    differ = before.view(np.uint32) != after.view(np.uint32)
    if not differ.any():
        return None
    apart = np.abs(after.astype(np.float64) - before.astype(np.float64))
    return {
        "name": name,
        "change": "changed",
        "numbers": int(differ.sum()),
        "of": int(before.size),
        "largest": float(np.nanmax(apart)) if not np.isnan(apart).all() else None,
    }


def _figure(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _time(at_ms: int) -> str:
    if not at_ms:
        return "never"
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")


def _ago(at_ms: int) -> str:
    seconds = datetime.now(UTC).timestamp() - at_ms / 1000
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:,.0f} {unit} ago"
    return f"{seconds / 86_400:,.0f} d ago"


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDE)

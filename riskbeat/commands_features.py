"""`riskbeat features list | check | explain`: the feature spec, for people and for scripts."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from features.spec import Spec
from features.spec_yaml import duration_text, span_text
from riskbeat.feature_pages import (
    SpecReport,
    UnknownFeature,
    explain_rows,
    find_feature,
    list_json,
    report_of,
    short_bounds,
)
from riskbeat.settings_load import load_settings

EXIT_USER_ERROR = 2
PIPED_COLUMNS = 10_000  # what is piped is never cut: one line for each row
LEGEND = (
    "bound: how far a window's far edge may lie early once it holds more than the newest"
    " {events} events (or {labels} labels) of its entity; until then it is exact to the"
    " millisecond. 13 %: standard error of a number of different values, likewise."
)

SpecOption = Annotated[
    Path | None, typer.Option("--spec", help="The feature spec; else RISKBEAT_SPEC_PATH.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]


def register(app: typer.Typer) -> None:
    """Add the `features` commands to the command line."""
    features = typer.Typer(no_args_is_help=True, help="What the feature spec declares.")
    features.command("list")(list_features)
    features.command("check")(check_features)
    features.command("explain")(explain_feature)
    app.add_typer(features, name="features")


def list_features(spec_path: SpecOption = None, as_json: JsonOption = False) -> None:
    """List every feature: name, type, unit, window, filter, bound."""
    spec = Spec.load(_path(spec_path))
    if as_json:
        _print_json(list_json(spec))
        return
    console = _console()
    legend = LEGEND.format(events=spec.limits.head_events, labels=spec.limits.label_head_events)
    table = _feature_table(spec)
    fits = Console(width=PIPED_COLUMNS).measure(table).maximum <= console.width
    _show(console, table if fits else _stacked(spec), Text(legend, style="dim"))


def check_features(spec_path: SpecOption = None, as_json: JsonOption = False) -> None:
    """Read the spec, and report its digest, counts, worst-case sizes and what is coarse."""
    path = _path(spec_path)
    report = report_of(Spec.load(path))
    if as_json:
        _print_json(asdict(report))
        return
    _show(_console(), *_report(path, report))


def explain_feature(
    name: Annotated[str, typer.Argument(help="As `riskbeat features list` has it.")],
    spec_path: SpecOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain one feature in plain words: meaning, exactness, where it is kept, what it costs."""
    spec = Spec.load(_path(spec_path))
    try:
        info = find_feature(spec, name)
    except UnknownFeature as error:
        typer.echo(f"riskbeat: {error}", err=True)
        sys.exit(EXIT_USER_ERROR)
    rows = explain_rows(spec, info)
    if as_json:
        _print_json(asdict(info) | {"explained": dict(rows)})
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for question, answer in rows:
        grid.add_row(question, Text(answer))
    _show(_console(), Text(info.name, style="bold"), Padding(grid, (0, 0, 0, 2), expand=False))


def _feature_table(spec: Spec) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("feature", "type", "unit", "window", "where", "bound"):
        table.add_column(title, no_wrap=True)
    bounds = short_bounds(spec)
    for info in spec.features.values():
        window = "" if info.window_ms is None else duration_text(info.window_ms)
        cells = (info.name, info.type, info.unit, window, info.filter or "", bounds[info.name])
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _stacked(spec: Spec) -> Text:
    """Return two lines for each feature, for where a table would have to cut the names."""
    bounds = short_bounds(spec)
    lines: list[Text] = []
    for info in spec.features.values():
        window = "" if info.window_ms is None else f"over {duration_text(info.window_ms)}"
        where = "" if info.filter is None else f"where {info.filter}"
        parts = (info.type, info.unit, window, where, f"bound {bounds[info.name]}")
        lines.append(Text(info.name, style="bold", overflow="fold"))
        lines.append(Text("  " + " · ".join(part for part in parts if part)))
    return Text("\n").join(lines)


def _report(path: Path, report: SpecReport) -> list[RenderableType]:
    of_entities = report.features - report.of_event
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("entity", no_wrap=True)
    table.add_column("key", no_wrap=True)
    table.add_column("features", justify="right")
    table.add_column("largest state", justify="right", no_wrap=True)
    table.add_column("windows", overflow="fold")
    for cost in report.entities:
        key, most = " + ".join(cost.key), f"{cost.state_bytes_max:,} B"
        table.add_row(cost.name, key, str(cost.features), most, ", ".join(cost.windows))
    return [
        Text(f"{path}: good", style="bold green"),
        Text(f"digest    {report.digest}", overflow="fold"),
        Text(
            f"features  {report.features} (at most {report.features_max}):"
            f" {of_entities} of {len(report.entities)} kinds of entities,"
            f" {report.of_event} of the event and of others; {report.filters} filters"
        ),
        table,
        Text(f"No state can be larger than {report.blob_max_bytes:,} B (limits.blob_max_bytes)."),
        *_coarse(report),
    ]


def _coarse(report: SpecReport) -> list[RenderableType]:
    """Return a warning about windows that had to give up exactness, if there are any."""
    if not report.coarse:
        return []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("entity", "window", "tile", "times the finest"):
        table.add_column(title, no_wrap=True)
    for one in report.coarse:
        table.add_row(one.entity, one.window, span_text(one.tile_ms), str(one.times_finest))
    return [
        Text(
            f"warning: {len(report.coarse)} windows have wider tiles than a 64th of the window, so"
            " that a state fits that limit. Their far edge is off by up to one tile once events"
            " leave the head. For finer ones raise limits.blob_max_bytes, lower limits.head_events,"
            " or ask this entity for less.",
            style="yellow",
        ),
        table,
    ]


def _show(console: Console, *parts: RenderableType) -> None:
    """Print; what is piped has no blanks at the ends of lines."""
    if console.is_terminal:
        for part in parts:
            console.print(part)
        return
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_COLUMNS)


def _path(spec_path: Path | None) -> Path:
    return spec_path or load_settings(servers=False).spec_path

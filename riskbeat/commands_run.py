"""`riskbeat featurize | rebuild | learn | serve | demo`: the processes, each alone, and all.

What a command needs is imported when it runs: torch alone costs seconds and 600 MB, and a
featurize worker has no use for it.
"""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from riskbeat.clock import now_ms
from riskbeat.logs import configure_logs
from riskbeat.ports import check_port
from riskbeat.settings import PREFIX, Settings
from riskbeat.settings_load import load_settings

DEMO_SECONDS = 90.0
DEMO_EVENTS_PER_S = 700


def register(app: typer.Typer) -> None:
    """Add the process commands to the command line."""
    for command in (demo, up, featurize, index, learn, rebuild, serve):
        app.command()(command)


def featurize() -> None:
    """Keep window states: events and labels in, Redis out. Run one for each core."""
    settings = _start("featurize", port="metrics")
    sys.exit(_house("featurize").run_featurize(settings))


def rebuild() -> None:
    """Fill the feature store anew from the log: after a loss, or for a changed feature spec.

    What lives serves until the new features hold the whole log. Workers of the same spec then stop,
    to be started again by their supervisor; those of another spec go on undisturbed.
    """
    settings = _start("rebuild")
    sys.exit(_house("featurize").rebuild_features(settings))


def learn(
    anew: Annotated[
        bool,
        typer.Option(
            "--anew",
            help="If what was learned is of another spec or recipe, forget it and begin again.",
        ),
    ] = False,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby",
            help="Wait, loaded, while another learner uses this data directory; then go on for it.",
        ),
    ] = False,
    catch_up: Annotated[
        bool,
        typer.Option(
            "--catch-up",
            help="If the data directory is older than what was published, learn what lies between "
            "again, from the log.",
        ),
    ] = False,
) -> None:
    """Learn: decisions and labels in, a signed and numbered set of weights out, every second."""
    settings = _start("learn", port="metrics")
    if catch_up and (code := _house("catch_up").run_catch_up(settings)):
        sys.exit(code)
    sys.exit(_house("learn").run_learner(settings, anew=anew, standby=standby))


def serve(
    http: Annotated[bool, typer.Option(help="Answer decisions over HTTP.")] = True,
    stream: Annotated[bool, typer.Option(help="Decide what arrives on the events topic.")] = True,
) -> None:
    """Decide: over HTTP, and from the events topic to the decisions topic."""
    settings = _start("serve", port="http" if http else "metrics")
    if http and (settings.http_workers > 1 or settings.http_spare):
        sys.exit(_house("serve_workers").run_workers(settings, stream=stream))
    sys.exit(_house("serve").run_serve(settings, http=http, stream=stream))


def index() -> None:
    """Index decisions for lookup; `riskbeat serve` keeps one of these running on each machine."""
    settings = _start("index")
    sys.exit(_house("index").run_index(settings, now_ms))


def demo(
    seconds: Annotated[float, typer.Option(min=10, help="How long payments flow.")] = DEMO_SECONDS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated payments.")] = 1,
    rate: Annotated[int, typer.Option(min=50, help="Payments per second.")] = DEMO_EVENTS_PER_S,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Also write the summary to this file.")
    ] = None,
) -> None:
    """Run the whole path on generated payments and watch it learn. Leaves nothing behind."""
    sys.exit(_house("demo").run_demo(seconds, seed, rate, json_out))


def up(
    folder: Annotated[
        Path | None, typer.Option(help="Keep data here; else they are deleted at the end.")
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, help="Of the HTTP door; else 8000 or a free one."),
    ] = None,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Broker and store, without our processes.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the addresses as one line of JSON.")
    ] = False,
) -> None:
    """Bring the embedded stack up and keep it up; prints addresses and a request to try."""
    sys.exit(_house("up").run_up(folder, http_port, servers_only, as_json))


def _start(process: str, port: Literal["http", "metrics"] | None = None) -> Settings:
    settings = load_settings()
    if port is not None:
        host, number = getattr(settings, f"{port}_host"), getattr(settings, f"{port}_port")
        check_port(f"{PREFIX}{port.upper()}_PORT", host, number)
    configure_logs(settings, process)
    return settings


def _house(name: str) -> Any:
    return importlib.import_module(f"riskbeat.{name}")

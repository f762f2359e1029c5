"""The bare workload through our door, by both its faces, and beside it through other servers.

Each server has one core to itself, the client and Redis the other; peers run in environments of
their own, made with uv under a cache folder and kept there, from load_tests/peers/scoring_*.py.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from load_tests.features_peers import HERE, CannotRun, Peer, installed
from load_tests.features_servers import Servers
from load_tests.peers.scoring_model import fill_blobs
from load_tests.processes import wait_until
from load_tests.report import ROOT, Row
from load_tests.scoring_client import Plan
from load_tests.scoring_stage import Load, ask
from riskbeat.ports import free_ports

CONNECTIONS = 32
SECONDS = 6.0
OPEN_RATE = 2_000.0
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 10.0
PROBE = b'{"id":"probe","keys":["blob:1","blob:2","blob:3","blob:4"]}'
JSON_BODY = {"content-type": "application/json"}
COMMON = (f"torch=={version('torch')}", "numpy<3", "redis==8.1.0", "hiredis==3.4.2")


@dataclass(frozen=True)
class Rival(Peer):
    """A peer; `by_option` if it takes its port by `--port` and Redis by the environment."""

    by_option: bool = False


RIVALS = (
    Rival(
        "mosec 0.9.8 (batches of 32, 2 ms)",
        "scoring_mosec.py",
        ("mosec==0.9.8", "msgspec==0.22.0", *COMMON),
        "",
        0,
        by_option=True,
    ),
    Rival(
        "FastAPI + pydantic, as tutorials write it",
        "scoring_fastapi.py",
        ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", *COMMON),
        "",
        0,
    ),
    Rival("LitServe 0.2.19", "scoring_litserve.py", ("litserve==0.2.19", *COMMON), "", 0),
)


def measure_bare(servers: Servers, folder: Path) -> tuple[list[Row], float]:
    """Return rows of our two faces, and the better rate."""
    with servers.client() as client:
        fill_blobs(client)
    rows: list[Row] = []
    rates = {}
    for face in ("socket", "asgi"):
        command = [sys.executable, "-m", "load_tests.scoring_bare"]
        with _serving(servers, folder, face, command, (servers.store.address, face)) as place:
            load, more = _loads(servers, *place)
        rates[face] = load.per_cpu_all_s
        must, aim = (15_000, 30_000) if face == "socket" else (None, None)
        what = f"bare workload, our door ({face})"
        rows.append(Row(what, load.per_cpu_all_s, "requests/CPU-s", must, aim, note=_note(load)))
        rows += _open_rows(what, more)
    return rows, rates["socket"]


def measure_rivals(servers: Servers, folder: Path, ours: float) -> list[Row]:
    """Return rows of the peers, and ours against the best of them."""
    rows: list[Row] = []
    best = 0.0
    for rival in RIVALS:
        what = f"bare workload, {rival.name}"
        try:
            python, _ = installed(rival)
            command = [str(python), str(HERE / rival.script)]
            told = () if rival.by_option else (servers.store.address,)
            name = rival.script.removesuffix(".py")
            with _serving(servers, folder, name, command, told, rival.by_option) as place:
                load, more = _loads(servers, *place)
        except (CannotRun, RuntimeError, TimeoutError) as reason:
            rows.append(Row(what, None, "requests/CPU-s", note=f"did not run: {reason}"))
            continue
        best = max(best, load.per_cpu_all_s)
        rows.append(Row(what, load.per_cpu_all_s, "requests/CPU-s", note=_note(load)))
        rows += _open_rows(what, more)
    ratio = ours / best if best and ours else None
    return [*rows, Row("bare workload, ours / the best peer", ratio, "x", aim=1.0)]


def _loads(servers: Servers, port: int, pid: int) -> tuple[Load, Load]:
    rest = servers.cores.rest
    full = ask(Plan(port, "/score", SECONDS, CONNECTIONS, events=0), pid, rest)
    even = ask(Plan(port, "/score", SECONDS, CONNECTIONS, OPEN_RATE, events=0), pid, rest)
    return full, even


def _note(load: Load) -> str:
    ms = {name: round(value, 2) for name, value in load.result.ms.items()}
    return (
        f"{CONNECTIONS} connections, closed loop: {load.per_s:.0f}/s, ms {ms}, "
        f"statuses {load.result.statuses}"
    )


def _open_rows(what: str, load: Load) -> list[Row]:
    note = f"statuses {load.result.statuses}; the client's own p99 {load.result.late_ms:.2f} ms"
    return [
        Row(
            f"{what}: {name} at {OPEN_RATE:.0f}/s",
            load.result.ms.get(name),
            "ms",
            better="lower",
            note=note,
        )
        for name in ("p50", "p99", "p99.9")
    ]


@contextmanager
def _serving(
    servers: Servers,
    folder: Path,
    name: str,
    command: list[str],
    told: tuple[str, ...],
    by_option: bool = False,
) -> Iterator[tuple[int, int]]:
    """Start a server on the subject's core; yield its port and process once it answers."""
    (port,) = free_ports(1)
    log = folder / f"bare-{name}.log"
    place = (f"--port={port}",) if by_option else (str(port),)
    env: Mapping[str, str] = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "REDIS_URL": servers.store.address,
        "MOSEC_PORT": str(port),
    }
    with servers.cores.for_subject(), log.open("wb") as out:
        process = subprocess.Popen(
            [*command, *place, *told],
            cwd=ROOT if name in ("socket", "asgi") else folder,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"it ended: {log.read_text(errors='replace')[-300:]}")
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/score", PROBE, JSON_BODY)
            try:
                with urllib.request.urlopen(asked, timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until(answers, f"{name} answers", START_TIMEOUT_S)
        yield port, process.pid
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server and all that it started: they share its session's process group."""
    for number in (15, 9):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_TIMEOUT_S)
            time.sleep(0.2)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return

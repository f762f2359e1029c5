"""Other systems, side by side: the same log, broker and store, as much of the goal as each can say.

Each peer runs in an environment of its own, made with uv under a cache folder and kept there; its
script (load_tests/peers) writes every result into the same Redis. Rates count the CPU of all its
processes, from its first results to its last, or to the end of its time.
"""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from load_tests.features_bench import Bench, bench
from load_tests.features_log import fill, zipf_log
from load_tests.features_saturation import EVENTS, now_ms
from load_tests.features_servers import CpuClock, Servers
from load_tests.report import Row

HERE = Path(__file__).parent / "peers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "riskbeat-peers"
PEER_PYTHON = "3.11"
INSTALL_TIMEOUT_S = 600.0
START_TIMEOUT_S = 300.0  # of a peer, to its first results
PEER_TIMEOUT_S, QUICK_PEER_TIMEOUT_S = 240.0, 60.0  # from there on
IDLE_S = 30.0  # without a new result: what is missing was dropped
QUICK_SHARE = 10
PARTITIONS = 1  # in one partition the log is in order for those who regroup it
STOP_TIMEOUT_S = 20.0
LOOK_S = 0.25
RESULTS_OF_EVENT = 24  # four entities, six windows; each holds five aggregates
FLINK_KAFKA = "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2"
CLIENT = ("redis==8.1.0", "hiredis==3.4.2")


class CannotRun(Exception):
    """A peer cannot be installed here; says why."""


@dataclass(frozen=True)
class Peer:
    """One system.

    Attributes:
        packages: What its environment holds, pinned.
        could_not: What of the goal it cannot express, or not like ours.
        events: How many of the log it is given: fewer where more would not end.
        jar: Maven coordinates of a connector, if it needs one.
        java: Whether it needs Java.
    """

    name: str
    script: str
    packages: tuple[str, ...]
    could_not: str
    events: int
    jar: str = ""
    java: bool = False


PEERS = (
    Peer(
        "PyFlink 2.3 SQL OVER RANGE",
        "flink.py",
        ("apache-flink==2.3.0", *CLIENT),
        "expresses all 24 windows exactly; one OVER window a SELECT, so 24; a result stands "
        "as of the last event and does not decay; the sink is at-least-once and not fenced",
        events=EVENTS,
        jar=FLINK_KAFKA,
        java=True,
    ),
    Peer(
        "Quix Streams 3.28 sliding windows",
        "quix.py",
        ("quixstreams==3.28.0", *CLIENT),
        "expresses all 24 windows; a log of several partitions is regrouped out of order, and what "
        "is later than its grace is dropped (so: one partition here); a result does not decay; the "
        "sink is at-least-once and not fenced",
        events=EVENTS // 20,
    ),
    Peer(
        "Faust 0.15.3 stock hopping tables",
        "faust_stock.py",
        ("faust-streaming==0.15.3", *CLIENT),
        "no sliding windows: sixty hops a window stand for it, so the far edge is off by up to "
        "1/60; a duplicate counts twice; a result does not decay",
        events=EVENTS // 200,
    ),
)


def measure_peers(servers: Servers, folder: Path, quick: bool, our_rate: float | None) -> list[Row]:
    """Return each peer's rate, and ours against the best of them."""
    rows, best = [], 0.0
    for peer in PEERS:
        what = f"peers: {peer.name}"
        try:
            python, jar = installed(peer)
        except CannotRun as reason:
            note = f"could not be installed: {reason}"
            rows.append(Row(what, None, "events/CPU-s", note=note))
            continue
        result = run_peer(servers, folder, peer, python, jar, quick)
        rows += result.rows(what, peer)
        if result.rate == result.rate:
            best = max(best, result.rate)
    what = "peers: ours / the best of them"
    if our_rate is None or not best:
        note = "needs a saturation run beside it" if best else "no peer ran"
        return [*rows, Row(what, None, "x", aim=40, note=note)]
    return [*rows, Row(what, our_rate / best, "x", aim=40, note=f"{our_rate:.0f} / {best:.1f}")]


def installed(peer: Peer) -> tuple[Path, str]:
    """Return the peer's interpreter and jar; make both on first use.

    Raises:
        CannotRun: Something is missing here; names it.
    """
    if peer.java and shutil.which("java") is None:
        raise CannotRun("no java on the path (17 is needed)")
    uv = shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)
    if uv is None:
        raise CannotRun("no uv on the path, nor beside this Python")
    home = CACHE / peer.script.removesuffix(".py")
    python, done = home / "bin" / "python", home / "packages.txt"
    wanted = "\n".join(peer.packages)
    if not done.exists() or done.read_text() != wanted:
        _install([uv, "venv", "--quiet", "--clear", "--python", PEER_PYTHON, str(home)])
        _install([uv, "pip", "install", "--quiet", "--python", str(python), *peer.packages])
        done.write_text(wanted)
    return python, _jar(peer.jar) if peer.jar else ""


def _jar(coordinates: str) -> str:
    _, name, version = coordinates.split(":")
    jar = CACHE / f"{name}-{version}.jar"
    if not jar.exists():
        maven = shutil.which("mvn")
        if maven is None:
            raise CannotRun(f"no mvn on the path to get {coordinates}")
        copy = (f"-Dartifact={coordinates}", f"-DoutputDirectory={CACHE}")
        _install([maven, "-q", "-B", "dependency:copy", *copy])
    return str(jar)


def _install(command: list[str]) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotRun(f"{command[0]}: {error}") from error
    if done.returncode:
        raise CannotRun(f"{' '.join(command[:3])}: {(done.stderr or done.stdout)[-400:].strip()}")


@dataclass(frozen=True)
class PeerRun:
    """What a peer did in its time.

    Attributes:
        events: Of the log.
        done: Results / 24: events' worth of results in Redis.
        rate: Events' worth of results per CPU-second, from the first results seen to the last.
        ended: How it ended, in words.
    """

    events: int
    done: float
    rate: float
    rss_bytes: int
    seconds: float
    ended: str

    def rows(self, what: str, peer: Peer) -> list[Row]:
        """Return the peer's rows."""
        note = (
            f"{self.done:.0f} events' results of the log's first {self.events} events, in "
            f"{self.seconds:.0f} s ({self.ended}); CPU of all its processes from its first "
            f"results on; {peer.could_not}"
        )
        memory = self.rss_bytes / 2**20
        return [
            Row(what, self.rate, "events/CPU-s", note=note),
            Row(f"{what}: largest resident memory", memory, "MiB", better="lower"),
        ]


def run_peer(
    servers: Servers, folder: Path, peer: Peer, python: Path, jar: str, quick: bool
) -> PeerRun:
    """Fill the log, start the peer, and watch its results until it is done or its time is over."""
    events = peer.events // QUICK_SHARE if quick else peer.events
    timeout_s = QUICK_PEER_TIMEOUT_S if quick else PEER_TIMEOUT_S
    log_of_all = zipf_log(EVENTS, now_ms())
    with bench(servers, folder, RISKBEAT_EVENTS_PARTITIONS=str(PARTITIONS)) as run:
        topic = run.topic("events.v1")
        fill(servers.kafka.address, topic, log_of_all.first(events), PARTITIONS)
        process, log = _start(run, peer, python, jar)
        try:
            return _watch(run, process, log, events, timeout_s)
        finally:
            _stop(process)


def _start(run: Bench, peer: Peer, python: Path, jar: str) -> tuple[subprocess.Popen[bytes], Path]:
    home = run.deployment.folder
    log = home / "peer.log"
    told = {
        "kafka": run.servers.kafka.address,
        "topic": run.topic("events.v1"),
        "redis": run.servers.store.address,
        "prefix": run.env["RISKBEAT_REDIS_PREFIX"],
        "group": f"peer-{run.topic_prefix.rstrip('.')}",
        "folder": str(home / "peer"),
        "jar": jar,
    }
    command = [str(python), str(HERE / peer.script), *(f"--{k}={v}" for k, v in told.items())]
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    with run.servers.cores.for_subject(), log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "JVM_ARGS": "-Xmx6g"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, log


def _watch(
    run: Bench, process: "subprocess.Popen[bytes]", log: Path, events: int, timeout_s: float
) -> PeerRun:
    clock = CpuClock(process.pid)
    start_s, key = time.monotonic(), f"{run.env['RISKBEAT_REDIS_PREFIX']}done"
    first: tuple[float, float] | None = None
    first_s = last_s = math.inf
    last, rss_bytes, ended = (0.0, 0.0), 0, ""
    with run.servers.client() as client:
        while not ended:
            running = process.poll() is None
            done = int(client.get(key) or 0) / RESULTS_OF_EVENT
            cpu_s = clock.read_s()
            rss_bytes = max(rss_bytes, clock.rss_bytes())
            if done and first is None:
                first, first_s = (done, cpu_s), time.monotonic()
            if done > last[0]:
                last, last_s = (done, cpu_s), time.monotonic()
            if done >= events:
                ended = "all of it"
            elif not running:
                ended = f"it ended with {process.returncode}: {_tail(log)}"
            elif first is None and time.monotonic() - start_s > START_TIMEOUT_S:
                ended = f"no result within {START_TIMEOUT_S:g} s: {_tail(log)}"
            elif time.monotonic() - first_s > timeout_s:
                ended = f"stopped at its bound of {timeout_s:g} s"
            elif time.monotonic() - last_s > IDLE_S:
                ended = f"no new result for {IDLE_S:g} s"
            time.sleep(LOOK_S)
    seconds = time.monotonic() - start_s
    rate = float("nan")
    if first is not None and last[1] > first[1]:
        rate = (last[0] - first[0]) / (last[1] - first[1])
    return PeerRun(events, last[0], rate, rss_bytes, seconds, ended)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-300:].replace("\n", " | ")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the peer and everything that it started: they share its session's process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return

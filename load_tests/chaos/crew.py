"""the processes of a deployment, and a supervisor that starts again whatever ends."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from load_tests.chaos_features.workers import DIES_WITH_US
from load_tests.processes import run_riskbeat

STOP_TIMEOUT_S = 40.0
NOTHING = 1  # bytes; 0 would be the same, and some systems take it for none

WORKERS = ("featurize-1", "featurize-2")
LEARNERS = ("learn-1", "learn-2")
SCORER = "serve"
PROCESSES = (*WORKERS, *LEARNERS, SCORER)
COMMANDS = {
    **dict.fromkeys(WORKERS, ("featurize",)),
    **dict.fromkeys(LEARNERS, ("learn", "--standby")),
    SCORER: ("serve",),
}
HOMES = {**dict.fromkeys(LEARNERS, "learn")}  # both learners use one data directory


@dataclass(frozen=True)
class Role:
    """What one process is started with.

    Attributes:
        command: `riskbeat` …
        env: Beside that of the deployment.
    """

    command: tuple[str, ...]
    env: Mapping[str, str]


@dataclass
class Crew:
    """Processes by name, all of which end with the `with` block.

    Attributes:
        ends: How often a process ended that nobody had killed, by its name and status.
        down: Names that the supervisor leaves alone.
        full: Names whose disk is full: no file grows, that of their log neither.
    """

    env: Mapping[str, str]
    folder: Path
    roles: Mapping[str, Role]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    down: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.running):
            self.kill(name)

    def start(self, name: str) -> None:
        """Start a process, or start it again; its log goes on."""
        role = self.roles[name]
        with (self.folder / f"{name}.log").open("ab") as out:
            self.running[name] = subprocess.Popen(
                [*DIES_WITH_US, sys.executable, "-m", "riskbeat", *role.command],
                env={**os.environ, **self.env, **role.env},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        if name in self.full:
            _bound_files(self.running[name].pid, NOTHING)

    def ask(self, *words: str) -> str:
        """Run `riskbeat` and words to its end; see `run_riskbeat`."""
        return run_riskbeat(self.env, *words)

    def fill(self, name: str) -> None:
        """Let no file of a process and its children grow, as on a disk that is full."""
        self.full.add(name)
        self._bound(name, NOTHING)

    def free(self, name: str) -> None:
        """Let its files grow again."""
        self.full.discard(name)
        self._bound(name, resource.RLIM_INFINITY)

    def _bound(self, name: str, most_bytes: int) -> None:
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.running[name].pid)
            for one in (family, *family.children(recursive=True)):
                _bound_files(one.pid, most_bytes)

    def keep(self) -> None:
        """Start again what ended by itself."""
        for name, popen in list(self.running.items()):
            if popen.poll() is not None and name not in self.down:
                self.ends[f"{name} ended with {popen.returncode}"] += 1
                self.start(name)

    def kill(self, name: str) -> None:
        """`kill -9` a process and its children, frozen or not."""
        popen = self.running.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.running[name].pid, number)

    def stop(self, name: str) -> int:
        """Ask a process to stop; return its exit status, -9 if it had to be killed."""
        popen = self.running[name]
        self.down.add(name)
        popen.terminate()
        try:
            return popen.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill(name)
            return -signal.SIGKILL
        finally:
            self.running.pop(name, None)
            self.down.discard(name)

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the end of a process's log."""
        text = (self.folder / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def pause(self, seconds: float, step_s: float = 0.05) -> None:
        """Let time pass, and the supervisor do its work."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self.keep()
            time.sleep(min(step_s, left_s))


def _bound_files(pid: int, most_bytes: int) -> None:
    """Bound how far a process may extend a file; what is written within a file's size may be."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, hard))

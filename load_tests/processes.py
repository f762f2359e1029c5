"""The processes under measurement: started by the command that users run, watched from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from load_tests.report import ROOT

STOP_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 120.0
WORDS_MAX = 2000
POLL_S = 0.2
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Process:
    """One `riskbeat` process and what it has cost.

    Attributes:
        name: Its subcommand: featurize, learn, serve.
    """

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    cpu_s: float = 0.0
    rss_bytes: int = 0

    def look(self) -> None:
        """Read CPU seconds and resident bytes of the process and its children.

        Raises:
            RuntimeError: The process has ended; the message ends with its last lines.
        """
        if self.popen.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{self.name} ended with {self.popen.returncode}:\n{tail}")
        root = psutil.Process(self.popen.pid)
        family = [root, *root.children(recursive=True)]
        cpu_s, rss_bytes = 0.0, 0
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):  # a child may end while we look
                times = member.cpu_times()
                cpu_s += times.user + times.system
                rss_bytes += member.memory_info().rss
        self.cpu_s, self.rss_bytes = cpu_s, rss_bytes


@dataclass
class Processes:
    """A set of `riskbeat` processes that end with the `with` block."""

    env: Mapping[str, str]
    folder: Path
    running: dict[str, Process] = field(default_factory=dict)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, *arguments: str, **env: str) -> Process:
        """Start `riskbeat NAME`; its output goes to a file."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "riskbeat", name, *arguments],
                env={**os.environ, **self.env, **env},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running[name] = Process(name, popen, log)
        return self.running[name]

    def look(self) -> None:
        """Look at every process."""
        for process in self.running.values():
            process.look()

    def stop(self) -> None:
        """Ask every process to stop, newest first; kill what does not within the timeout."""
        for process in reversed(list(self.running.values())):
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.popen.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
        self.running.clear()


def run_riskbeat(env: Mapping[str, str], *words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run `riskbeat` and words to its end, as an operator would; return what it prints.

    It runs in the project's root, where the shipped spec and policy are.

    Args:
        env: Beside that of this process.
        words: Of the command line.
        timeout_s: For how long it may run.

    Raises:
        CommandFailed: It ended with another status than 0, or not in time.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "riskbeat", *words],
            cwd=ROOT,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(words, f"not within {timeout_s:g} s", "") from error
    if done.returncode:
        raise CommandFailed(words, done.stderr[-WORDS_MAX:], done.stdout)
    return done.stdout


class CommandFailed(RuntimeError):
    """A command failed, and why.

    Attributes:
        printed: What it printed all the same.
    """

    def __init__(self, words: Sequence[str], why: str, printed: str) -> None:
        super().__init__(f"riskbeat {' '.join(words)}: {why}")
        self.printed = printed


def wait_until(true: Callable[[], bool], what: str, timeout_s: float) -> float:
    """Poll until a condition holds; return the seconds that it took.

    Raises:
        TimeoutError: It did not within `timeout_s`.
    """
    start = time.monotonic()
    while not true():
        if time.monotonic() - start > timeout_s:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)
    return time.monotonic() - start


def answers(url: str) -> bool:
    """Whether a URL answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def page(url: str) -> str:
    """Return the text of a page, empty where nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return ""


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let every signal that ends us be Ctrl-C, so that everything that was started is ended.

    A shell's background process is started deaf to SIGINT; it hears it here.
    """

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {n: signal.signal(n, stop) for n in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

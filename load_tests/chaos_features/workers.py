"""Featurize workers that are killed, frozen and started again, and an eye on what they commit."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import redis

from load_tests.chaos_features.servers import client_of
from load_tests.processes import page
from riskbeat.child import GUARD
from tests.live.servers import Server

WATCH_S = 0.02
STOP_TIMEOUT_S = 40.0
REFUSED = "not where we left it"  # of `StoreConflict`
NO_NAME = "no name"
DIES_WITH_US = (sys.executable, "-I", str(GUARD), "run")
OWNED = 'riskbeat_partitions_owned{step="aggregate"}'


@dataclass
class Worker:
    """One `riskbeat featurize` process.

    Attributes:
        log: One JSON object a line.
        killed: Whether it was we who ended it.
    """

    popen: subprocess.Popen[bytes]
    log: Path
    killed: bool = False

    def said(self) -> Iterator[dict[str, Any]]:
        """Yield what it logged; lines that are not ours are passed over."""
        with self.log.open(errors="replace") as lines:
            for line in lines:
                with suppress(ValueError):
                    said = json.loads(line)
                    if isinstance(said, dict):
                        yield said

    def count(self, event: str, words: str = "") -> int:
        """Count the lines of an event whose reason holds some words."""
        return sum(
            said.get("event") == event and words in str(said.get("reason", ""))
            for said in self.said()
        )

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self.popen.poll() is None

    def owned(self) -> float:
        """Return how many updates partitions it holds, as its metrics page says."""
        ports = [said["port"] for said in self.said() if said.get("event") == "metrics.served"]
        lines = page(f"http://127.0.0.1:{ports[-1]}/metrics").splitlines() if ports else []
        return sum(float(line.split()[-1]) for line in lines if line.startswith(OWNED))

    def end_name(self) -> str:
        """Return by which error it ended itself; `NO_NAME` if it did not say."""
        names = [said["error"] for said in self.said() if said.get("event") == "worker.failed"]
        return names[-1] if names else f"{NO_NAME} ({self.popen.returncode}, {self.log})"


@dataclass
class Workers:
    """The workers of a run, by slot; all of them end with the `with` block.

    Attributes:
        fixed: Whether a slot's worker is a static member of the group, by the slot's name.
        ends: How often workers ended themselves, by the error that they named.
    """

    env: Mapping[str, str]
    folder: Path
    fixed: bool = False
    slots: dict[int, Worker] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    _number: Iterator[int] = field(default_factory=count)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for slot in list(self.slots):
            self.kill(slot)

    def start(self, slot: int) -> Worker:
        """Start a slot's worker; it dies with this process, however that dies."""
        log = self.folder / f"worker{slot}-{next(self._number)}.log"
        more = {"RISKBEAT_KAFKA_INSTANCE_ID": f"slot{slot}"} if self.fixed else {}
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [*DIES_WITH_US, sys.executable, "-m", "riskbeat", "featurize"],
                env={**os.environ, **self.env, **more},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.slots[slot] = Worker(popen, log)
        return self.slots[slot]

    def kill(self, slot: int) -> None:
        """`kill -9` a worker, frozen or not."""
        worker = self.slots[slot]
        worker.killed = worker.alive
        worker.popen.kill()
        worker.popen.wait()
        self._bury(worker)
        del self.slots[slot]

    def freeze(self, slot: int) -> Worker:
        """Stop a worker where it stands."""
        self.slots[slot].popen.send_signal(signal.SIGSTOP)
        return self.slots[slot]

    def wake(self, slot: int) -> None:
        """Let a frozen worker go on."""
        self.slots[slot].popen.send_signal(signal.SIGCONT)

    def keep(self) -> None:
        """Do what a supervisor does: start again what ended itself."""
        for slot, worker in list(self.slots.items()):
            if not worker.alive:
                self._bury(worker)
                self.start(slot)

    def end(self) -> list[int]:
        """Ask every worker to stop; return their exit statuses."""
        for worker in self.slots.values():
            worker.popen.terminate()
        statuses = [worker.popen.wait(STOP_TIMEOUT_S) for worker in self.slots.values()]
        for worker in self.slots.values():
            self.refused += worker.count("partition.reopened", REFUSED)
        self.slots.clear()
        return statuses

    def _bury(self, worker: Worker) -> None:
        self.refused += worker.count("partition.reopened", REFUSED)
        if not worker.killed:
            self.ends[worker.end_name()] += 1


@dataclass
class Commits:
    """Every change of a partition's offset in the store, as seen from outside.

    Attributes:
        seen: (monotonic seconds, partition, offset), in order of time.
    """

    server: Server
    keys: Sequence[str]
    seen: list[tuple[float, int, int]] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Commits":
        self._thread = threading.Thread(target=self._watch, name="commits", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        last: list[int] = [-1] * len(self.keys)
        with client_of(self.server) as client:
            while not self._done.wait(WATCH_S):
                try:
                    with client.pipeline(transaction=False) as pipe:
                        for key in self.keys:
                            pipe.hget(key, "offset")
                        offsets = [int(offset or -1) for offset in pipe.execute()]
                except redis.RedisError:
                    continue
                now_s = time.monotonic()
                for p, offset in enumerate(offsets):
                    if offset > last[p]:  # a fall is a loss of the store's, no commit
                        self.seen.append((now_s, p, offset))
                    last[p] = offset

    def since(self, start_s: float, end_s: float = float("inf")) -> dict[int, float]:
        """Return partition → time of its first commit between two times."""
        found: dict[int, float] = {}
        for at_s, p, _ in reversed(self.seen):
            if at_s < start_s:
                break
            if at_s < end_s:
                found[p] = at_s
        return found

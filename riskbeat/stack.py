"""nothing → broker, store and workers on loopback ports → nothing: the embedded local stack.

No Docker and no Java. What it starts it stops, in order, whatever ends it: leaving the
`async with`, an exception, Ctrl-C; should this process be killed outright, a warden process kills
the rest and deletes the temporary folder.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from riskbeat.child import GUARD, RESTARTS_MAX, Child, ChildFailed, ChildSpec
from riskbeat.embedded import broker_command, valkey_command
from riskbeat.ports import LOOPBACK, free_ports, listens
from riskbeat.probe_kafka import KafkaSilent, probe_kafka
from riskbeat.probe_redis import RedisSilent, probe_redis
from riskbeat.settings import PREFIX

WORKERS = ("featurize", "learn", "serve")
ONE_SHOTS = ("prepare",)
SERVERS_READY_TIMEOUT_S = 20.0
ONE_SHOT_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 2.0
POLL_S = 0.05


class StackFailed(RuntimeError):
    """The stack did not come up, or a part of it died for good; says which, and its last words."""


class LocalStack:
    """The embedded stack: `async with LocalStack() as stack: …`.

    Attributes:
        kafka: `host:port` of the broker.
        redis_url: URL of the store.
        http_url: Where `serve` answers (once it does; see `wait_ready`).
        metrics_urls: Worker name → its Prometheus page.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        workers: Sequence[str] = WORKERS,
        environment: Mapping[str, str] | None = None,
        http_port: int | None = None,
        durable: bool = True,
    ) -> None:
        """Plan the stack; nothing runs before it is entered.

        Args:
            folder: Where data and logs live and stay; a temporary folder, deleted at the end,
                when absent.
            workers: Commands of `riskbeat` to keep running, in the order in which they start.
            environment: Settings for the workers, beside those that the stack gives.
            http_port: Port of `serve`; a free one when absent.
            durable: Give Valkey an append-only file.
        """
        self._kept_folder = folder
        self._workers = tuple(workers)
        self._environment = dict(environment or {})
        self._durable = durable
        self._children: dict[str, Child] = {}
        self._warden: subprocess.Popen[str] | None = None
        broker, valkey, http, *metrics = free_ports(3 + len(self._workers))
        self._ports = {"broker": broker, "valkey": valkey}
        self.kafka = f"{LOOPBACK}:{broker}"
        self.redis_url = f"redis://{LOOPBACK}:{valkey}/0"
        self._http_port = http_port or http
        self.http_url = f"http://{LOOPBACK}:{self._http_port}"
        self._metrics_ports = dict(zip(self._workers, metrics, strict=True))
        self.metrics_urls = {
            name: f"{self.http_url}/metrics"
            if name == "serve"
            else f"http://{LOOPBACK}:{port}/metrics"
            for name, port in self._metrics_ports.items()
        }

    @property
    def folder(self) -> Path:
        """Where data and logs live while the stack runs."""
        return self._folder

    @property
    def restarts(self) -> dict[str, int]:
        """How often each process died and was started again."""
        return {name: child.restarts for name, child in self._children.items()}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs now."""
        return {n: child.pid for n, child in self._children.items() if child.pid is not None}

    def kill(self, name: str) -> None:
        """Kill one process as `kill -9` does; the stack restarts it."""
        self._children[name].kill()

    def log_tail(self, name: str) -> str:
        """Return the end of a process's log."""
        return self._children[name].log_tail()

    def environment_of(self, name: str) -> dict[str, str]:
        """Return the environment in which a `riskbeat` command talks to this stack."""
        keys = self._folder / "keys"
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "REDIS_URL": self.redis_url,
            "DATA_DIR": str(self._folder / name),
            "SIGNING_KEY_PATH": str(keys / "signing.pem"),
            "PUBLIC_KEY_PATHS": f'["{keys / "public.pem"}"]',
            "AUTH": "off",
            "HTTP_HOST": LOOPBACK,
            "HTTP_PORT": str(self._http_port),
            "METRICS_PORT": str(self._metrics_ports.get(name, 0)),
        }
        elsewhere = (f"{PREFIX}KAFKA_", f"{PREFIX}REDIS_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(elsewhere)}
        ours = {PREFIX + key: value for key, value in settings.items()}
        few = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        return kept | few | ours | self._environment

    async def __aenter__(self) -> Self:
        """Start the servers, the topics and keys, and the workers.

        Raises:
            EmbeddedMissing: A server's binary is not installed.
            StackFailed: A part does not come up.
        """
        self._folder = self._kept_folder or Path(tempfile.mkdtemp(prefix="riskbeat-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder = self._folder.resolve()
        try:
            self._start_warden()
            await self._start_servers()
            if self._workers:
                for name in ONE_SHOTS:
                    await self._run_one_shot(name)
            for name in self._workers:
                await self._start(name, (sys.executable, "-m", "riskbeat", name))
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything, in the reverse order of its start."""
        await asyncio.shield(asyncio.ensure_future(self._stop()))

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until `serve` says that a decision can be answered.

        Raises:
            StackFailed: It does not within `timeout_s`, or a part died for good.
        """
        async with httpx.AsyncClient(base_url=self.http_url, timeout=PROBE_TIMEOUT_S) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).is_success
                except httpx.TransportError:
                    return False

            await self._wait_until(ready, "serve", timeout_s)

    async def watch(self) -> None:
        """Run until a part dies for good.

        Raises:
            StackFailed: Always, in the end; names the part and quotes the end of its log.
        """
        failures = [child.failed for child in self._children.values()]
        done, _ = await asyncio.wait(failures, return_when=asyncio.FIRST_COMPLETED)
        try:
            done.pop().result()
        except ChildFailed as error:
            raise StackFailed(str(error)) from error

    def _start_warden(self) -> None:
        owned = "0" if self._kept_folder else "1"
        self._warden = subprocess.Popen(
            [sys.executable, "-I", str(GUARD), "watch", str(self._folder), owned],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def _tell_warden(self, line: int | str) -> None:
        assert self._warden is not None and self._warden.stdin is not None
        try:
            self._warden.stdin.write(f"{line}\n")
            self._warden.stdin.flush()
        except BrokenPipeError:
            return  # somebody killed the warden; then only the kernel watches over the children

    async def _start_servers(self) -> None:
        for name in self._ports:
            (self._folder / name).mkdir(exist_ok=True)
        broker = broker_command(self._folder / "broker", self._ports["broker"])
        valkey = valkey_command(
            self._folder / "valkey", self._ports["valkey"], durable=self._durable
        )
        await self._start("broker", broker, restarts_max=0)
        await self._start("valkey", valkey)
        await self._wait_until(self._broker_answers, "broker", SERVERS_READY_TIMEOUT_S)
        await self._wait_until(self._valkey_answers, "valkey", SERVERS_READY_TIMEOUT_S)

    async def _broker_answers(self) -> bool:
        if not await asyncio.to_thread(listens, self._ports["broker"]):
            return False  # asking would only make the client log that it cannot connect
        try:
            return await probe_kafka({"bootstrap_servers": self.kafka}, PROBE_TIMEOUT_S) > 0
        except KafkaSilent:
            return False

    async def _valkey_answers(self) -> bool:
        try:
            return bool(await probe_redis(self.redis_url, PROBE_TIMEOUT_S))
        except RedisSilent:
            return False

    async def _wait_until(
        self, ready: Callable[[], Awaitable[bool]], name: str, timeout_s: float
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while not await ready():
            failed = self._children[name].failed
            if failed.done():
                raise StackFailed(str(failed.exception()))
            if time.monotonic() > deadline:
                tail = self.log_tail(name)
                raise StackFailed(
                    f"{name} did not answer in {timeout_s:g} s; its log ends:\n{tail}"
                )
            await asyncio.sleep(POLL_S)

    async def _start(
        self, name: str, command: Sequence[str], restarts_max: int = RESTARTS_MAX
    ) -> None:
        await self._child(name, command, restarts_max).start()

    async def _run_one_shot(self, name: str) -> None:
        child = self._child(name, (sys.executable, "-m", "riskbeat", name))
        try:
            await child.run_once(ONE_SHOT_TIMEOUT_S)
        except ChildFailed as error:
            raise StackFailed(str(error)) from error

    def _child(self, name: str, command: Sequence[str], restarts_max: int = RESTARTS_MAX) -> Child:
        log = self._folder / f"{name}.log"
        spec = ChildSpec(name, tuple(command), self.environment_of(name), log, restarts_max)
        self._children[name] = Child(spec, self._tell_warden)
        return self._children[name]

    async def _stop(self) -> None:
        while self._children:
            _, child = self._children.popitem()
            await child.stop(STOP_TIMEOUT_S)
        if self._warden is not None:
            self._tell_warden("done")
            await asyncio.to_thread(self._warden.communicate)
        if self._kept_folder is None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

"""settings → the serve process: one scorer, kept up to date, behind an HTTP and a stream door.

Start: warm up, freeze the garbage collector's view, listen. Stop (SIGTERM, SIGINT): refuse new
requests, answer those that were taken, commit what the stream decided, leave.
"""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Iterator

import structlog
import uvicorn
import uvloop

from api.admin_http import create_admin
from api.decide_http import create_app
from api.publish import LogUnavailable
from api.seen import Asked
from features.event import Amount, Event, from_ms
from features.read import warm_up_reads
from features.store import SchemaMismatch, StoreUnavailable
from models import trees_walk
from models.decision import Source
from riskbeat.serve_parts import Parts, build_parts, now_ms
from riskbeat.settings import Settings

STREAM_RESTART_S = 1.0
EXIT_REFUSED = 3
METRICS_EVERY_S = 1.0
BACKLOG = 2_048
WARM_UP_READS = 3
WARM_UP_CONNECTIONS = 4  # TLS takes longer to connect than an answer may wait

log = structlog.get_logger("serve")


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def run_serve(settings: Settings, *, http: bool = True, stream: bool = True) -> int:
    """Run until a signal asks to stop, or a part fails; return the exit code.

    0: asked to stop; 1: a part failed; 3: the store holds no features of this spec.

    Args:
        settings: Of the process.
        http: Whether decisions are answered over HTTP. Health and metrics always are: on
            `http_port`, or on `metrics_port` without this door.
        stream: Whether the events topic is decided.

    Raises:
        SpecError: The feature spec cannot be read.
        PolicyError: The policy cannot be read.
        BadKeys: A public key file cannot be read.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, http, stream))


async def _serve(settings: Settings, http: bool, stream: bool) -> int:
    parts = build_parts(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if await _is_refused(parts):
        await _close(parts)
        return EXIT_REFUSED
    await warm_up(parts)
    await parts.publisher.try_log()
    server = _server(parts, http)
    tasks = {
        "http": asyncio.create_task(server.serve()),
        "weights": asyncio.create_task(parts.watcher.run(stopping)),
        "publisher": asyncio.create_task(parts.publisher.run(stopping)),
        "metrics": asyncio.create_task(_measure(parts, stopping)),
    }
    await _await_weights(parts, stopping)
    if stream:
        tasks["stream"] = asyncio.create_task(_keep_streaming(parts, stopping, restart=http))
    gc.collect()
    gc.freeze()
    parts.state.taking = True
    log.info("serve.started", http=http, stream=stream, device=parts.http.admin.scorer.device)
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait({asked, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
    failed = await _stop(parts, server, tasks, stopping)
    asked.cancel()
    log.info("serve.stopped", failed=failed)
    return 1 if failed else 0


async def _is_refused(parts: Parts) -> bool:
    """Say why no answer could ever be whole; a store that is away only degrades them for now."""
    try:
        await parts.store.check_readable()
    except SchemaMismatch as error:
        log.error("serve.refused", reason=type(error).__name__, detail=str(error))
        return True
    except StoreUnavailable as error:
        log.warning("store.unavailable", detail=str(error))
    return False


async def _await_weights(parts: Parts, stopping: asyncio.Event) -> None:
    """Give a learner that starts beside us the time to publish; then decide without it."""
    waits = [asyncio.create_task(each.wait()) for each in (parts.watcher.loaded, stopping)]
    await asyncio.wait(
        waits,
        timeout=parts.settings.first_weights_wait_s,
        return_when=asyncio.FIRST_COMPLETED,
    )
    for wait in waits:
        wait.cancel()


async def _stop(
    parts: Parts,
    server: HttpServer,
    tasks: dict[str, asyncio.Task[None]],
    stopping: asyncio.Event,
) -> list[str]:
    """Wind down in order; return the names of parts that had failed."""
    asked = stopping.is_set()
    failed = [] if asked else [name for name, task in tasks.items() if task.done()]
    parts.state.taking = False
    stopping.set()
    server.should_exit = True
    _, late = await asyncio.wait(tasks.values(), timeout=parts.settings.stop_timeout_s)
    for name, task in tasks.items():
        if task in late:
            task.cancel()
            failed.append(name)
    for name, result in zip(
        tasks, await asyncio.gather(*tasks.values(), return_exceptions=True), strict=True
    ):
        if isinstance(result, Exception):
            log.error("serve.failed", part=name, error=repr(result))
            failed.append(name)
    await parts.http.coalescer.close()
    await parts.http.answerer.close()
    await parts.publisher.stop()
    await _close(parts)
    return sorted(set(failed))


async def _close(parts: Parts) -> None:
    for client in parts.clients:
        await client.aclose()


def _server(parts: Parts, http: bool) -> HttpServer:
    settings = parts.settings
    config = uvicorn.Config(
        create_app(parts.http) if http else create_admin(parts.http.admin),
        host=settings.http_host if http else settings.metrics_host,
        port=settings.http_port if http else settings.metrics_port,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(settings.stop_timeout_s) or 1,
    )
    return HttpServer(config)


async def warm_up(parts: Parts) -> None:
    """Compile the kernels, open connections and touch every path once, before anybody waits."""
    asked = [_an_event(parts, name) for name in parts.spec.event_rules.event_types]
    parts.decider.rehearse(asked)
    warm_up_reads(parts.spec)
    trees_walk.warm_up()
    events = [one.event for one in asked]
    wait_s = parts.settings.redis_timeout_s
    for _ in range(WARM_UP_READS):  # side by side: each leaves a connection open behind it
        await asyncio.gather(
            *(parts.decider.look(events, wait_s) for _ in range(WARM_UP_CONNECTIONS))
        )


def _an_event(parts: Parts, event_type: str) -> Asked:
    entities = {part: "warm-up" for entity in parts.spec.entities for part in entity.key}
    kind = parts.spec.event_rules.event_types[event_type]
    event = Event(
        event_type=event_type,
        event_id="warm-up",
        event_time=from_ms(now_ms()),
        entities=entities | {kind.primary: "warm-up"},
        amount=Amount(1, parts.spec.base_currency) if kind.amount_required else None,
    )
    return Asked(event, Source(door="http"))


async def _keep_streaming(parts: Parts, stopping: asyncio.Event, *, restart: bool) -> None:
    """Run the stream door; beside HTTP, which outlives the log's absence, start it again."""
    while not stopping.is_set():
        try:
            await parts.stream.run(stopping)
        except LogUnavailable as error:
            if not restart:
                raise
            log.warning("stream.failed", error=repr(error))
            await _pause(stopping, STREAM_RESTART_S)


async def _measure(parts: Parts, stopping: asyncio.Event) -> None:
    """Keep the gauges up to date."""
    spooled = 0
    while not stopping.is_set():
        parts.metrics.spool_bytes.set(parts.publisher.spool_bytes)
        parts.metrics.spooled.inc(parts.publisher.spooled_records - spooled)
        spooled = parts.publisher.spooled_records
        await _pause(stopping, METRICS_EVERY_S)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()

"""settings → the serve process: one scorer, kept up to date, behind an HTTP and a stream door.

Start: warm up, freeze the garbage collector's view, listen. Stop (SIGTERM, SIGINT): take no more
connections, answer what comes on those that are open until they are closed, commit what the stream
decided, leave. One of several on a port (`serve_workers.py`) loads, and listens once it is called.
"""

import asyncio
import contextlib
import signal

import structlog
import uvloop

from api.publish import LogUnavailable
from api.seen import Asked
from features.event import Amount, Event, from_ms
from features.read import warm_up_reads
from features.store import SchemaMismatch, StoreUnavailable
from models import walk
from models.decision import Source
from pipeline.collector import SMALL_STEPS, calm_collector
from riskbeat.clock import now_ms
from riskbeat.index import keep_index
from riskbeat.keyring import NoKeys
from riskbeat.serve_gauges import measure
from riskbeat.serve_http import HttpServer, http_server
from riskbeat.serve_parts import Parts, build_parts
from riskbeat.serve_place import LISTENS, Calls, Place
from riskbeat.settings import Settings

STREAM_RESTART_S = 1.0
EXIT_REFUSED = 3
WARM_UP_READS = 3
WARM_UP_CONNECTIONS = 4  # TLS takes longer to connect than an answer may wait

log = structlog.get_logger("serve")


def run_serve(
    settings: Settings, *, http: bool = True, stream: bool = True, place: Place | None = None
) -> int:
    """Run until a signal asks to stop, or a part fails; return the exit code.

    0: asked to stop; 1: a part failed; 3: the store holds no features of this spec.

    Args:
        settings: Of the process.
        http: Whether decisions are answered over HTTP. Health and metrics always are: on
            `http_port`, or on `metrics_port` without this door.
        stream: Whether the events topic is decided; one of several is told when it is called.
        place: Among several processes on the port (`serve_workers.py`); None: alone.

    Raises:
        SpecError: The feature spec cannot be read.
        PolicyError: The policy cannot be read.
        BadKeys: A public key file cannot be read.
        NoKeys: Callers need API keys and there are none.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, http, stream, place))


async def _serve(settings: Settings, http: bool, stream: bool, place: Place | None) -> int:
    parts = build_parts(settings, place.name if place else "")
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    calls = Calls(place, stopping) if place is not None else None
    if await _is_refused(parts):
        await _close(parts)
        return EXIT_REFUSED
    try:
        await parts.doorkeeper.start()
    except NoKeys:
        await _close(parts)
        raise
    await warm_up(parts)
    await parts.publisher.try_log()
    server = http_server(parts, http)
    tasks = {
        "weights": asyncio.create_task(parts.watcher.run(stopping)),
        "rollouts": asyncio.create_task(parts.keeper.run(stopping)),
        "publisher": asyncio.create_task(parts.publisher.run(stopping)),
        "spools": asyncio.create_task(parts.adoption.run(stopping)),
        "metrics": asyncio.create_task(measure(parts, stopping)),
        "keys": asyncio.create_task(parts.doorkeeper.run(stopping)),
        "index": asyncio.create_task(keep_index(settings, stopping)),
        "policy": asyncio.create_task(parts.policies.run(stopping)),
        "audit": asyncio.create_task(parts.trail.run(stopping)),
    }
    if place is None:
        tasks["http"] = asyncio.create_task(server.serve())
    await _await_first(parts.policies.loaded, stopping, parts.settings.policy_wait_s)
    await _await_first(parts.watcher.loaded, stopping, parts.settings.first_weights_wait_s)
    calm_collector(SMALL_STEPS)
    if calls is not None:
        await calls.wait(tasks.values())
        stream = calls.streams
    parts.state.taking = calls is None or calls.called
    if calls is not None and calls.called:  # what waits in the socket's queue meets who can answer
        tasks["http"] = asyncio.create_task(server.serve([calls.listening()]))
        await server.listening.wait()
        calls.say(LISTENS)
    if stream:
        tasks["stream"] = asyncio.create_task(_keep_streaming(parts, stopping, restart=http))
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


async def _await_first(loaded: asyncio.Event, stopping: asyncio.Event, longest_s: float) -> None:
    """Give what answers rest on the time to come (a learner may start beside us); then go on."""
    waits = [asyncio.create_task(each.wait()) for each in (loaded, stopping)]
    await asyncio.wait(waits, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
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
    for name in failed:  # at once: winding down may be cut short
        error = tasks[name].exception()
        log.error("serve.failing", part=name, error=f"{type(error).__name__}: {error}")
    parts.state.leaving = True  # not ready for a balancer, but what comes meanwhile is answered
    stopping.set()
    server.should_exit = True
    _, late = await asyncio.wait(tasks.values(), timeout=parts.settings.stop_timeout_s)
    parts.state.taking = False
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
    if parts.tracer is not None:
        await asyncio.to_thread(parts.tracer.close)


async def warm_up(parts: Parts) -> None:
    """Compile the kernels, open connections and touch every path once, before anybody waits."""
    asked = [_an_event(parts, name) for name in parts.spec.event_rules.event_types]
    parts.decider.rehearse(asked)
    warm_up_reads(parts.spec)
    walk.warm_up()
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


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()

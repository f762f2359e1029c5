"""events.v1, label_updates.v1 → updates.v1 → Redis: the Faust worker around the two steps.

1 poll · 2 parse, reject to the dead-letter topic · 3 step · 4 write · 5 commit: in `route` the
write is the acknowledged send and the commit the stored position; in `aggregate` both are one
atomic write of the store. No exception leaves an agent: Faust would acknowledge and go on.
Whatever fails ends the process with a non-zero exit, and its supervisor starts it again.
"""

import asyncio
import math
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, cast

import structlog

from features.store import Pointer, StoreEpochMismatch, StoreUnavailable
from pipeline.app_faust import AGGREGATE, ROUTE, make_app
from pipeline.batch_faust import BatchConsumer, Fetched
from pipeline.collector import LARGE_STEPS, calm_collector
from pipeline.featurize import Layout, Place
from pipeline.featurize_config import FeaturizeConfig
from pipeline.mailbox import Batch, Mailbox
from pipeline.metrics import FeaturizeMetrics
from pipeline.owned import OwnedPartitions
from pipeline.pace import Pace
from pipeline.producer_kafka import LogProducer
from pipeline.watch import LoopGuard, Watch, WorkerStalled

BEAT_S = 0.1
LAG_COMMIT_S = 5.0
WATCH_S = 2.0
CATCH_UP_S = 0.5
PROBE_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
EXIT_FAILED = 1

log = structlog.get_logger("featurize")


class FeaturizeWorker:
    """One process: a Faust app, the partitions it owns, and what keeps it honest."""

    def __init__(
        self,
        config: FeaturizeConfig,
        pointer: Pointer,
        when_caught_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Build everything; nothing is connected before `run`.

        Args:
            config: What the worker is told.
            pointer: The epoch that it writes.
            when_caught_up: Called once when the states hold the whole log; the worker then stops.
        """
        topics = config.topics
        self._config = config
        self._metrics = FeaturizeMetrics()
        self._failure: BaseException | None = None
        self._stopping = asyncio.Event()
        self._layout = Layout(
            sources={topics.events: "e", topics.label_updates: "l"},
            source_partitions={"e": config.events_partitions, "l": config.label_partitions},
            updates=pointer.updates_topic,
            updates_partitions=config.updates_partitions,
            dead=topics.dead,
        )
        self._producer = LogProducer(config.kafka_options)
        self._app = make_app(
            config,
            f"{topics.prefix}featurize.e{pointer.epoch}",
            self._layout,
            assign=self.assign,
            route=partial(self._post, ROUTE),
            aggregate=partial(self._post, AGGREGATE),
        )
        waiting_max = config.limits.route_max_records
        self._mail = {ROUTE: Mailbox(waiting_max), AGGREGATE: Mailbox(waiting_max)}
        self._pace = Pace(self._mail[ROUTE], self._mail[AGGREGATE])
        self._owned = OwnedPartitions(
            spec=config.spec,
            store=config.store,
            log_view=self,
            sender=self._producer,
            layout=self._layout,
            limits=config.limits,
            metrics=self._metrics,
            store_wait_s=config.store_wait_s,
            now_ms=_now_ms,
            hand_over=self._mail[AGGREGATE].put,
            tracer=config.tracer,
        )
        self._following: tuple[int, bool] | None = None
        self._pointer = pointer
        self._when_caught_up = when_caught_up
        self._watch = Watch(config.stall_s, self._layout.updates, time.monotonic)
        self._guard_of_loop = LoopGuard(math.ceil(config.stall_s / BEAT_S))

    # -- what the app asks

    async def assign(self, places: list[Place]) -> Mapping[Place, int]:
        """Take partitions over; a refusal ends the process."""
        try:
            for mail in self._mail.values():
                await mail.clear()
            return await self._owned.take_over(places)
        except Exception as error:
            self.fail(error)
            return {}

    async def _post(self, step: str, fetched: Fetched) -> None:
        """Hand a batch to its step, unless it belongs to an earlier reading of the log."""
        batch = fetched.batch
        if step == AGGREGATE:
            batch = [(place, rows) for place, rows in batch if self._owned.lacks(place, rows)]
        if self._failure is None and batch:
            wanted = fetched.reading
            await self._mail[step].put(batch, lambda: wanted == self._consumer.reading)
            self._pace.more_to_route()

    async def _work_at_routing(self) -> None:
        """Route all that waits, again and again, when it is routing's turn."""
        while self._failure is None:
            await self._pace.turn_to_route()
            await self._do(ROUTE, await self._mail[ROUTE].take(), self._owned.route)

    async def _work_at_applying(self) -> None:
        """Apply all that waits, again and again."""
        while self._failure is None:
            batch = await self._mail[AGGREGATE].take()
            self._pace.applying_begins()
            await self._do(AGGREGATE, batch, self._aggregate_all)
            self._pace.applying_ends()

    async def _do(self, step: str, batch: Batch, do: Callable[[Batch], Awaitable[None]]) -> None:
        """Do a step; stop the process if it fails."""
        try:
            with self._metrics.steps.labels(step).time():
                await do(batch)
        except Exception as error:
            self.fail(error)

    async def _aggregate_all(self, batch: Batch) -> None:
        await self._owned.aggregate(batch)
        await self._follow()

    async def _follow(self) -> None:
        """Fetch updates while any must come by the log, and only then."""
        reading, fetch = self._consumer.reading, not self._owned.feeds_itself()
        if reading is None or self._following == (reading, fetch):
            return
        self._following = reading, fetch
        updates = self._layout.updates
        marks = {q: at for q, at in self._owned.progress().items() if q.topic == updates}
        await self._consumer.follow(marks, fetch=fetch)
        log.debug("updates.followed", fetch=fetch)

    # -- the port `Log`

    @property
    def _consumer(self) -> BatchConsumer:
        return cast(BatchConsumer, self._app.consumer)

    async def bounds(self, places: Sequence[Place]) -> Mapping[Place, tuple[int, int]]:
        """Return where partitions begin and end."""
        return await self._consumer.bounds(places)

    async def seek(self, place: Place, offset: int) -> None:
        """Read a partition on from an offset."""
        await self._consumer.seek_place(place, offset)

    def drained_until_ms(self, place: Place, next_offset: int) -> int | None:
        """Return when the partition was last seen to end at `next_offset`."""
        return self._consumer.drained_until_ms(place, next_offset)

    def owns(self, place: Place) -> bool:
        """Return whether the partition is assigned to us."""
        return place in {Place(*tp) for tp in self._consumer.assignment()}

    # -- the process

    def fail(self, error: BaseException) -> None:
        """Remember the first failure and stop."""
        if self._failure is None:
            error = self._app.crash_reason or error  # what Faust died of, not what followed
            self._failure = error
            log.error(
                "worker.failed", error=type(error).__name__, detail=str(error), exc_info=error
            )
        self._stopping.set()

    async def run(self) -> int:
        """Run until a signal or a failure; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        if self._config.metrics_port is not None:
            address, tls = self._config.metrics_address, self._config.metrics_tls
            port = self._metrics.serve(self._config.metrics_port, address, tls)
            log.info("metrics.served", address=address, port=port)
        await self._producer.start()
        chores = [asyncio.create_task(chore) for chore in self._chores()]
        try:
            await self._app.start()
            calm_collector(LARGE_STEPS)
            self._guard_of_loop.start(BEAT_S)
            log.info("worker.started", epoch=self._pointer.epoch, updates=self._layout.updates)
            await self._stopping.wait()
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            await self._stop()
        return 0 if self._failure is None else EXIT_FAILED

    def _chores(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._work_at_routing(),
            self._work_at_applying(),
            self._repeat(BEAT_S, self._beat),
            self._repeat(BEAT_S, self._turn),
            self._repeat(LAG_COMMIT_S, self._commit_for_tools),
            self._repeat(WATCH_S, self._watch_progress),
            self._repeat(WATCH_S, self._watch_epoch),
            self._repeat(CATCH_UP_S, self._finish_if_caught_up),
        ]

    async def _repeat(self, pause_s: float, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            while not self._stopping.is_set():
                await asyncio.sleep(pause_s)
                await chore()
        except Exception as error:
            self.fail(error)

    async def _turn(self) -> None:
        self._guard_of_loop.turned()

    async def _beat(self) -> None:
        await self._follow()
        await self._owned.beat()
        await self._owned.store_positions()

    async def _commit_for_tools(self) -> None:
        offsets = {place: at for place, at in self._owned.progress().items() if at >= 0}
        if offsets and (trouble := await self._consumer.commit_for_tools(offsets)):
            log.warning("lag_commit.failed", reason=trouble)

    async def _watch_progress(self) -> None:
        """Stop the process when there is something to read and nothing is read."""
        progress = self._owned.progress()
        ends = {}
        if progress:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    ends = {q: end for q, (_, end) in (await self.bounds(list(progress))).items()}
            except TimeoutError as error:
                silence = f"the broker did not say within {PROBE_TIMEOUT_S:g} s where its log ends"
                raise WorkerStalled(silence) from error
        self._owned.must_reach(ends)
        lag = self._watch.check(progress, ends, self._app.rebalancing)
        self._metrics.lag.labels(ROUTE).set(lag.route)
        self._metrics.lag.labels(AGGREGATE).set(lag.aggregate)

    async def _watch_epoch(self) -> None:
        try:
            pointer = await self._config.store.read_pointer()
        except StoreUnavailable:  # the steps wait for it, and know for how long
            return
        if pointer is not None and pointer.epoch > self._pointer.epoch:
            raise StoreEpochMismatch(
                f"epoch {pointer.epoch} came alive, we write {self._pointer.epoch}"
            )

    async def _finish_if_caught_up(self) -> None:
        if self._when_caught_up is None or not self._owned.progress():
            return
        counts = self._layout.source_partitions
        sources = [Place(t, p) for t, s in self._layout.sources.items() for p in range(counts[s])]
        ends = {place: end for place, (_, end) in (await self.bounds(sources)).items()}
        if self._owned.covers(ends):
            await self._when_caught_up()
            self._stopping.set()

    async def _stop(self) -> None:
        """Stop everything within bounds: a Faust app that will not stop is left behind."""
        for stop in (self._app.stop, self._producer.stop):
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await stop()
            except Exception as error:
                log.warning("worker.stop_failed", error=type(error).__name__, detail=str(error))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

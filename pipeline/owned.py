"""assigned partitions → routers and aggregators: what one worker holds while it holds it.

No Faust and no Kafka in sight: the log, the sender and the store are ports. Everything here may be
dropped at any time; the store knows where to go on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
import structlog

from features.spec import Spec
from features.store import FeatureWriter, Source, StoreConflict, StoreUnavailable
from pipeline.aggregate import Aggregator, Applied
from pipeline.dead import dead_letter
from pipeline.featurize import FeaturizeLimits, Layout, LogRecord, Place, UpdatesGap
from pipeline.metrics import FeaturizeMetrics
from pipeline.route import Router

STORE_RETRY_S = 0.2
CONFLICTS_MAX = 10

T = TypeVar("T")
log = structlog.get_logger("featurize")


class OffsetOutsideLog(RuntimeError):
    """The store waits for an offset that the log no longer holds, or does not hold yet."""


class Log(Protocol):
    """What a worker asks of the log that it is assigned to."""

    async def bounds(self, places: Sequence[Place]) -> Mapping[Place, tuple[int, int]]:
        """Return the first offset that each partition holds, and the one after its last."""

    async def seek(self, place: Place, offset: int) -> None:
        """Read on from an offset."""

    def drained_until_ms(self, place: Place, next_offset: int) -> int | None:
        """Return when the partition was last seen to end at `next_offset`, `None` if it goes on."""

    def owns(self, place: Place) -> bool:
        """Return whether the partition is assigned to this process, as far as it knows."""


class Sender(Protocol):
    """Where routed records and dead letters go."""

    async def send_all(self, topic: str, records: Iterable[tuple[int | None, bytes]]) -> None:
        """Send in order; return when all are acknowledged, raise if one is not."""


class OwnedPartitions:
    """The two steps over whatever partitions are assigned."""

    def __init__(
        self,
        *,
        spec: Spec,
        store: FeatureWriter,
        log_view: Log,
        sender: Sender,
        layout: Layout,
        limits: FeaturizeLimits,
        metrics: FeaturizeMetrics,
        store_wait_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        """Hold the ports; nothing is owned yet.

        Args:
            spec: What rows and states mean.
            store: Where states and offsets stay.
            log_view: The log's bounds, and its read position.
            sender: Takes records of the updates topic and dead letters.
            layout: Topics and counts.
            limits: Bounds of every step.
            metrics: Counted in.
            store_wait_s: How long an unavailable store is waited for before the worker stops.
            now_ms: UTC clock.
        """
        self._spec = spec
        self._store = store
        self._log = log_view
        self._sender = sender
        self._layout = layout
        self._limits = limits
        self._metrics = metrics
        self._store_wait_s = store_wait_s
        self._now_ms = now_ms
        self._routers: dict[Place, Router] = {}
        self._aggregators: dict[int, Aggregator] = {}
        self._locks: dict[Place, asyncio.Lock] = {}
        self._positions: dict[tuple[Source, int], int] = {}

    def progress(self) -> dict[Place, int]:
        """Return the offset that comes next in each owned partition."""
        offsets = {place: router.read_offset for place, router in self._routers.items()}
        for p, aggregator in self._aggregators.items():
            offsets[Place(self._layout.updates, p)] = aggregator.next_offset
        return offsets

    def covers(self, ends: Mapping[Place, int]) -> bool:
        """Return whether every updates partition is owned, and holds all sources up to `ends`."""
        if len(self._aggregators) < self._layout.updates_partitions:
            return False
        return all(
            aggregator.marks.mark(self._layout.sources[place.topic], place.partition).next_offset
            >= end
            for aggregator in self._aggregators.values()
            for place, end in ends.items()
        )

    async def take_over(self, assigned: Iterable[Place]) -> dict[Place, int]:
        """Own exactly these partitions; return the offset at which to read each.

        Raises:
            OffsetOutsideLog: The store waits for what the log does not hold.
            StoreError: The store refuses, or was unavailable for `store_wait_s`.
        """
        places = sorted(assigned)
        bounds = await self._log.bounds(places)
        kept = set(places)
        self._routers = {q: r for q, r in self._routers.items() if q in kept}
        self._aggregators = {
            p: a for p, a in self._aggregators.items() if Place(self._layout.updates, p) in kept
        }
        offsets = dict(
            zip(
                places,
                await asyncio.gather(*(self._take_over(q, *bounds[q]) for q in places)),
                strict=True,
            )
        )
        self._metrics.partitions.labels("route").set(len(self._routers))
        self._metrics.partitions.labels("aggregate").set(len(self._aggregators))
        return offsets

    async def _take_over(self, place: Place, begins_at: int, ends_at: int) -> int:
        async with self._lock(place):
            if place.topic == self._layout.updates:
                offset = await self._patiently(lambda: self._open(place.partition, begins_at))
            else:
                offset = await self._patiently(lambda: self._resume(place, begins_at))
        if not begins_at <= offset <= ends_at:
            raise OffsetOutsideLog(
                f"{place.topic} {place.partition} must go on at {offset}, but the log holds "
                f"{begins_at} to {ends_at}: run `riskbeat rebuild`"
            )
        log.info("partition.opened", topic=place.topic, partition=place.partition, offset=offset)
        return offset

    async def _open(self, partition: int, begins_at: int) -> int:
        aggregator = self._aggregators.get(partition)
        if aggregator is None:
            aggregator = self._aggregators[partition] = Aggregator(
                self._spec,
                self._store,
                partition,
                source_partitions=self._layout.source_partitions,
                limits=self._limits,
                cache_max_bytes=self._limits.cache_max_bytes // self._layout.updates_partitions,
            )
        return await aggregator.open(begins_at)

    async def _resume(self, place: Place, begins_at: int) -> int:
        source = self._layout.sources[place.topic]
        stored = await self._store.load_position(source, place.partition)
        position = begins_at if stored is None else stored
        self._routers[place] = Router(
            self._spec,
            source=source,
            source_partition=place.partition,
            partitions=self._layout.updates_partitions,
            epoch=self._store.epoch,
            position=position,
            limits=self._limits,
            now_ms=self._now_ms,
        )
        return position

    async def route(self, place: Place, batch: Sequence[LogRecord]) -> None:
        """Route one source partition's batch; returns when every record is acknowledged.

        Raises:
            Whatever the sender raises: the process must stop.
        """
        source = self._layout.sources[place.topic]
        async with self._lock(place):
            router = self._routers.get(place)
            if router is None or not batch:
                return
            routed = router.route(batch, batch[-1].timestamp)
            beats = router.beat(batch[-1].timestamp, drained=False)
            sends = [self._sender.send_all(self._layout.updates, routed.records + beats)]
            if routed.rejects:
                letters = [(None, dead_letter(*place, r, self._now_ms())) for r in routed.rejects]
                sends.append(self._sender.send_all(self._layout.dead, letters))
            await asyncio.gather(*sends)
            self._positions[source, place.partition] = router.position
        counter = self._metrics.events if source == "e" else self._metrics.label_updates
        counter.labels("accepted").inc(routed.accepted)
        counter.labels("rejected").inc(len(routed.rejects))
        for reject in routed.rejects:
            self._metrics.rejects.labels(reject.code).inc()

    async def beat(self) -> None:
        """Tell partitions without rows how far the sources are; call it every few 10 ms."""
        self._metrics.count_cache([each.hot for each in self._aggregators.values()])
        await asyncio.gather(*(self._beat(place) for place in list(self._routers)))

    async def _beat(self, place: Place) -> None:
        async with self._lock(place):
            router = self._routers.get(place)
            if router is None:
                return
            drained_ms = self._log.drained_until_ms(place, router.read_offset)
            beats = router.beat(drained_ms or 0, drained=drained_ms is not None)
            if beats:
                await self._sender.send_all(self._layout.updates, beats)
                source = self._layout.sources[place.topic]
                self._positions[source, place.partition] = router.position

    async def store_positions(self) -> None:
        """Keep the routers' positions, if they moved."""
        moved, self._positions = self._positions, {}
        if moved:
            await self._patiently(lambda: self._store.store_positions(moved))

    async def aggregate(self, place: Place, batch: Sequence[LogRecord]) -> None:
        """Apply one updates partition's batch, opening the partition again after a failure.

        Raises:
            StoreError: The store refuses, or was unavailable for `store_wait_s`.
            UpdatesHole, UpdatesUnreadable: Entries are lost, or not ours.
        """
        async with self._lock(place):
            for _ in range(CONFLICTS_MAX):
                aggregator = self._aggregators.get(place.partition)
                if aggregator is None or aggregator.next_offset < 0:
                    return
                try:
                    applied = await aggregator.apply(batch)
                except UpdatesGap as gap:
                    await self._log.seek(place, gap.next_offset)
                    return
                except (StoreConflict, StoreUnavailable) as error:
                    await self._reopen(place, error)
                    if not self._log.owns(place):
                        return
                else:
                    self._count(applied)
                    return
            raise StoreConflict(f"updates partition {place.partition}: {CONFLICTS_MAX} in a row")

    async def _reopen(self, place: Place, error: Exception) -> None:
        """Forget everything of a partition, and read again where it stands."""
        outcome = "conflict" if isinstance(error, StoreConflict) else "unavailable"
        self._metrics.commits.labels(outcome).inc()
        log.warning("partition.reopened", partition=place.partition, reason=str(error))
        begins_at = (await self._log.bounds([place]))[place][0]
        await self._patiently(lambda: self._open(place.partition, begins_at))

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await an attempt, again and again while the store is unavailable, within bounds."""
        deadline_ms = self._now_ms() + int(self._store_wait_s * 1000)
        while True:
            try:
                return await attempt()
            except StoreUnavailable as error:
                self._metrics.store_errors.labels(error.kind).inc()
                if self._now_ms() >= deadline_ms:
                    raise
                await asyncio.sleep(STORE_RETRY_S)

    def _count(self, applied: Applied) -> None:
        metrics = self._metrics
        metrics.commits.labels("ok").inc(applied.commits)
        metrics.states.inc(applied.states)
        metrics.updates.labels("applied").inc(applied.rows)
        metrics.updates.labels("late").inc(applied.late)
        metrics.updates.labels("duplicate").inc(applied.duplicates)
        metrics.updates.labels("repeated").inc(applied.repeated)
        if applied.appended_ms:
            ages_ms = self._now_ms() - np.concatenate(applied.appended_ms)
            metrics.freshness.observe_many(ages_ms / 1000)

    def _lock(self, place: Place) -> asyncio.Lock:
        return self._locks.setdefault(place, asyncio.Lock())

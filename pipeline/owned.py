"""assigned partitions → routers and aggregators: what one worker holds while it holds it.

No Faust and no Kafka in sight: the log, the sender and the store are ports. Everything here may be
dropped at any time; the store knows where to go on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import structlog

from features.spec import Spec
from features.store import FeatureWriter, Source, StoreConflict, StoreUnavailable
from features.trace import Tracer
from pipeline.aggregate import Aggregator
from pipeline.chunk import Applied
from pipeline.dead import dead_letter
from pipeline.featurize import FeaturizeLimits, Layout, LogRecord, Place, UpdatesGap
from pipeline.locks import PlaceLocks
from pipeline.metrics import FeaturizeMetrics
from pipeline.owned_ports import Batch, HandOver, Log, OffsetOutsideLog, Sender
from pipeline.patience import patiently
from pipeline.route import Routed, RoutedRecord, Router
from pipeline.shortcut import Shortcut
from pipeline.step_maker import StepMaker
from pipeline.together import Outcome, apply_together
from pipeline.traced import StepTraces
from pipeline.updates import RoutedHere

CONFLICTS_MAX = 10

T = TypeVar("T")
log = structlog.get_logger("featurize")


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
        hand_over: HandOver | None = None,
        tracer: Tracer | None = None,
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
            hand_over: Takes what this process routed for partitions that it owns itself, to be
                given to `aggregate` before the log does; without it everything comes by the log.
            tracer: Takes spans; none where nothing is traced.
        """
        self._spec = spec
        self._store = store
        self._log = log_view
        self._sender = sender
        self._layout = layout
        self._make = StepMaker(spec, store, layout, limits, now_ms)
        self._metrics = metrics
        self._store_wait_s = store_wait_s
        self._now_ms = now_ms
        self._hand_over = hand_over
        self._traces = None if tracer is None else StepTraces(tracer, layout, metrics)
        self._routers: dict[Place, Router] = {}
        self._aggregators: dict[int, Aggregator] = {}
        self._locks = PlaceLocks()
        self._positions: dict[tuple[Source, int], int] = {}
        self._shortcut = Shortcut()

    def feeds_itself(self) -> bool:
        """Return whether every update is handed over, so that none need be fetched."""
        alone = len(self._routers) == sum(self._layout.source_partitions.values())
        whole = len(self._aggregators) == self._layout.updates_partitions
        complete = (self._shortcut.complete(p, a.next_offset) for p, a in self._aggregators.items())
        return alone and whole and all(complete)

    def must_reach(self, ends: Mapping[Place, int]) -> None:
        """Fetch what the updates topic holds up to these offsets, unless it was handed over."""
        for place, end in ends.items():
            if place.topic == self._layout.updates:
                self._shortcut.read_until(place.partition, end)

    def lacks(self, place: Place, batch: Batch) -> bool:
        """Return whether a batch that was fetched holds anything that is not applied yet."""
        aggregator = self._aggregators.get(place.partition)
        return aggregator is None or batch[-1].offset >= aggregator.next_offset

    def progress(self) -> dict[Place, int]:
        """Return the offset that comes next in each owned partition."""
        offsets = {place: router.read_offset for place, router in self._routers.items()}
        for p, aggregator in self._aggregators.items():
            offsets[Place(self._layout.updates, p)] = aggregator.next_offset
        return offsets

    def covers(self, ends: Mapping[Place, int]) -> bool:
        """Return whether every updates partition is owned, and the store holds all of `ends`."""
        mine = self._aggregators.values()
        whole = len(mine) == self._layout.updates_partitions
        wanted = [(self._layout.sources[q.topic], q.partition, end) for q, end in ends.items()]
        return whole and all(a.committed(s, p) >= end for a in mine for s, p, end in wanted)

    async def take_over(self, assigned: Iterable[Place]) -> dict[Place, int]:
        """Own exactly these partitions; return the offset at which to read each.

        Raises:
            OffsetOutsideLog: The store waits for what the log does not hold.
            StoreError: The store refuses, or was unavailable for `store_wait_s`.
        """
        places = sorted(assigned)
        bounds = await self._log.bounds(places)
        kept = set(places)
        self._shortcut.forget()
        self._routers = {q: r for q, r in self._routers.items() if q in kept}
        self._aggregators = {
            p: a for p, a in self._aggregators.items() if Place(self._layout.updates, p) in kept
        }
        found = await asyncio.gather(*(self._take_over(q, *bounds[q]) for q in places))
        offsets = dict(zip(places, found, strict=True))
        self._metrics.partitions.labels("route").set(len(self._routers))
        self._metrics.partitions.labels("aggregate").set(len(self._aggregators))
        return offsets

    async def _take_over(self, place: Place, begins_at: int, ends_at: int) -> int:
        async with self._locks.holding([place]):
            if place.topic == self._layout.updates:
                offset = await self._patiently(lambda: self._open(place.partition, begins_at))
            else:
                offset = await self._patiently(lambda: self._resume(place, begins_at))
        if not begins_at <= offset <= ends_at:
            raise OffsetOutsideLog(
                f"{place.topic} {place.partition} must go on at {offset}, but the log holds "
                f"{begins_at} to {ends_at}: run `riskbeat rebuild`"
            )
        if place.topic == self._layout.updates:
            self._shortcut.read_until(place.partition, ends_at)
        log.info("partition.opened", topic=place.topic, partition=place.partition, offset=offset)
        return offset

    async def _open(self, partition: int, begins_at: int) -> int:
        aggregator = self._aggregators.get(partition)
        if aggregator is None:
            aggregator = self._aggregators[partition] = self._make.aggregator(partition)
        return await aggregator.open(begins_at)

    async def _resume(self, place: Place, begins_at: int) -> int:
        source = self._layout.sources[place.topic]
        stored = await self._store.load_position(source, place.partition)
        position = begins_at if stored is None else stored
        self._routers[place] = self._make.router(source, place.partition, position)
        return position

    async def route(self, batches: Sequence[tuple[Place, Batch]]) -> None:
        """Route batches of source partitions, in one send; return when all is acknowledged.

        What the sender raises must stop the process.
        """
        routers = {place: self._routers.get(place) for place, _ in batches}
        routing = None if self._traces is None else self._traces.begin(batches)
        trace = "" if routing is None else routing.context
        records: list[RoutedRecord] = []
        letters: list[tuple[int | None, bytes]] = []
        done: list[tuple[Place, Router, Routed]] = []
        async with self._locks.holding(routers):
            for place, batch in batches:
                router = routers[place]
                if router is None or router is not self._routers.get(place) or not batch:
                    continue  # taken over anew while it waited: it need not follow on the offset
                routed = router.route(batch, batch[-1].timestamp, trace)
                records += routed.records
                records += router.beat(batch[-1].timestamp, drained=False)
                letters += [(None, dead_letter(*place, r, self._now_ms())) for r in routed.rejects]
                done.append((place, router, routed))
            sends: list[Awaitable[object]] = [self._send(records)]
            if letters:
                sends.append(self._sender.send_all(self._layout.dead, letters))
            await asyncio.gather(*sends)
            for place, router, routed in done:
                self._sent(place, router)
                source, codes = self._layout.sources[place.topic], [r.code for r in routed.rejects]
                self._metrics.count_routed(source, routed.accepted, codes)
        if self._traces is not None and routing is not None:
            self._traces.routed(routing, [routed for _, _, routed in done])

    async def beat(self) -> None:
        """Tell partitions without rows how far the sources are; call it every few 10 ms."""
        self._metrics.count_cache([each.hot for each in self._aggregators.values()])
        places = list(self._routers)
        async with self._locks.holding(places):
            owned = [(q, self._routers[q]) for q in places if q in self._routers]
            beats: list[RoutedRecord] = []
            for place, router in owned:
                drained_ms = self._log.drained_until_ms(place, router.read_offset)
                beats += router.beat(drained_ms or 0, drained=drained_ms is not None)
            if beats:
                await self._send(beats)
                for place, router in owned:
                    self._sent(place, router)

    def _sent(self, place: Place, router: Router) -> None:
        """Keep a router's position: all it made is acknowledged, and its lock is held."""
        self._positions[self._layout.sources[place.topic], place.partition] = router.position

    async def _send(self, records: Sequence[RoutedRecord]) -> None:
        """Send updates, and hand over those that are for us as soon as the log has them."""
        plain = ((record.partition, record.data) for record in records)
        offsets = await self._sender.send_all(self._layout.updates, plain)
        if self._hand_over is None:
            return
        ours: dict[Place, list[LogRecord]] = {}
        for record, offset in zip(records, offsets, strict=True):
            if offset < 0:
                self._shortcut.distrust(record.partition)
            elif record.partition in self._aggregators:
                here = RoutedHere(offset, self._now_ms(), record.data, record.update)
                ours.setdefault(Place(self._layout.updates, record.partition), []).append(here)
        if ours:
            await self._hand_over(list(ours.items()))

    async def store_positions(self) -> None:
        """Keep the routers' positions, if they moved."""
        moved, self._positions = self._positions, {}
        if moved:
            await self._patiently(lambda: self._store.store_positions(moved))

    async def aggregate(self, batches: Sequence[tuple[Place, Batch]]) -> None:
        """Apply batches of updates partitions, opening again those that fail.

        Raises:
            StoreError: The store refuses, or was unavailable for `store_wait_s`.
            UpdatesHole, UpdatesUnreadable: Entries are lost, or not ours.
        """
        todo, began_ms = dict(batches), self._now_ms()
        async with self._locks.holding(todo):
            for _ in range(CONFLICTS_MAX):
                known = ((q, self._aggregators.get(q.partition)) for q in todo)
                owned = [(q, a) for q, a in known if a is not None and a.next_offset >= 0]
                if not owned:
                    return
                outcomes = await apply_together(
                    self._spec, self._store, [(a, todo[q]) for q, a in owned]
                )
                done = [outcome for outcome in outcomes if isinstance(outcome, Applied)]
                self._metrics.count(done, self._now_ms())
                if self._traces is not None:
                    self._traces.committed(done, began_ms)
                failed = [
                    place
                    for (place, _), outcome in zip(owned, outcomes, strict=True)
                    if not await self._settled(place, outcome)
                ]
                todo = {place: todo[place] for place in failed if self._log.owns(place)}
            raise StoreConflict(f"{', '.join(map(str, todo))}: {CONFLICTS_MAX} in a row")

    async def _settled(self, place: Place, outcome: Outcome) -> bool:
        """Do what an outcome asks for; return whether its batch is done with."""
        if isinstance(outcome, Applied):
            self._shortcut.read_until(place.partition, outcome.ahead)
        elif isinstance(outcome, UpdatesGap):
            await self._log.seek(place, outcome.next_offset)
        elif isinstance(outcome, StoreConflict | StoreUnavailable):
            await self._reopen(place, outcome)
            return False
        elif isinstance(outcome, Exception):
            raise outcome
        return True

    async def _reopen(self, place: Place, error: Exception) -> None:
        """Forget everything of a partition, and read again where it stands."""
        outcome = "conflict" if isinstance(error, StoreConflict) else "unavailable"
        self._metrics.commits.labels(outcome).inc()
        log.warning("partition.reopened", partition=place.partition, reason=str(error))
        begins_at, ends_at = (await self._log.bounds([place]))[place]
        self._shortcut.read_until(place.partition, ends_at)
        offset = await self._patiently(lambda: self._open(place.partition, begins_at))
        await self._log.seek(place, offset)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await an attempt, again and again while the store is unavailable, within bounds."""
        errors = self._metrics.store_errors
        return await patiently(
            attempt, self._store_wait_s, self._now_ms, lambda kind: errors.labels(kind).inc()
        )

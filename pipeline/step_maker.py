"""a partition → the router or the aggregator that works on it."""

from collections.abc import Callable
from dataclasses import dataclass

from features import window
from features.spec import Spec
from features.store import FeatureWriter, Source
from pipeline import dedup
from pipeline.aggregate import Aggregator
from pipeline.featurize import FeaturizeLimits, Layout
from pipeline.route import Router


def warm_up(spec: Spec) -> None:
    """Compile what the steps run (or load it from numba's disk cache), so that no event waits."""
    window.warm_up(spec)
    dedup.warm_up()


@dataclass(frozen=True, slots=True)
class StepMaker:
    """What every router and aggregator of a worker has in common."""

    spec: Spec
    store: FeatureWriter
    layout: Layout
    limits: FeaturizeLimits
    now_ms: Callable[[], int]

    def router(self, source: Source, partition: int, position: int) -> Router:
        """Return a router of a source partition that goes on at an offset of it."""
        return Router(
            self.spec,
            source=source,
            source_partition=partition,
            partitions=self.layout.updates_partitions,
            epoch=self.store.epoch,
            position=position,
            limits=self.limits,
            now_ms=self.now_ms,
        )

    def aggregator(self, partition: int) -> Aggregator:
        """Return an aggregator of an updates partition; it must be opened."""
        return Aggregator(
            self.spec,
            self.store,
            partition,
            source_partitions=self.layout.source_partitions,
            limits=self.limits,
            cache_max_bytes=self.limits.cache_max_bytes // self.layout.updates_partitions,
        )

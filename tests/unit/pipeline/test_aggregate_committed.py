"""How far a partition is in the store, not in memory, says when a rebuild may flip."""

from pathlib import Path
from typing import Any

from features.spec import Spec
from features.store import PartitionMeta
from features.watermarks import SourceMark, Watermarks
from pipeline.aggregate import Aggregator
from pipeline.chunk import Chunk
from pipeline.featurize import FeaturizeLimits

SPEC = Spec.load(Path(__file__).parents[3] / "features.yaml")
CACHE_BYTES = 1_000_000


class Store:
    """Holds a partition of which five events are in."""

    async def open_partition(self, partition: int, log_begins_at: int) -> PartitionMeta:
        return PartitionMeta(3, Watermarks(e=[SourceMark(next_offset=5)]), 0)

    async def load_dedup(self, *_: Any) -> dict[Any, bytes]:
        return {}


async def test_what_is_applied_counts_once_it_is_committed() -> None:
    aggregator = Aggregator(
        SPEC,
        Store(),  # type: ignore[arg-type]
        0,
        source_partitions={"e": 1, "l": 1},
        limits=FeaturizeLimits(),
        cache_max_bytes=CACHE_BYTES,
    )
    assert aggregator.committed("e", 0) == 0
    await aggregator.open(0)
    assert aggregator.committed("e", 0) == 5
    aggregator._marks.mark("e", 0).next_offset = 9  # as applying does
    commit = aggregator.commit_of(Chunk(3), {})
    assert aggregator.committed("e", 0) == 5
    aggregator.settle(commit)
    assert aggregator.committed("e", 0) == 9
    assert aggregator.committed("l", 7) == 0

"""/metrics pages → figures: what the live table and the load tests read from running processes."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Buckets = dict[float, float]


@dataclass(slots=True)
class Scrape:
    """The samples of one or more processes, added up.

    Attributes:
        values: Metric name → sum over all label sets.
        buckets: Histogram name → upper edge (base unit) → cumulative count.
    """

    values: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    largest: dict[str, float] = field(default_factory=dict)
    buckets: dict[str, Buckets] = field(default_factory=lambda: defaultdict(dict))


def parse_many(pages: Iterable[str]) -> Scrape:
    """Add up the samples of several exposition pages."""
    scrape = Scrape()
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name.endswith("_bucket") and "le" in sample.labels:
                    edges = scrape.buckets[sample.name.removesuffix("_bucket")]
                    edge = float(sample.labels["le"])
                    edges[edge] = edges.get(edge, 0.0) + sample.value
                else:
                    scrape.values[sample.name] += sample.value
                    largest = scrape.largest.get(sample.name, -math.inf)
                    scrape.largest[sample.name] = max(largest, sample.value)
    return scrape


def subtract(now: Buckets, before: Buckets) -> Buckets:
    """Return what a cumulative histogram counted since `before`."""
    return {edge: count - before.get(edge, 0.0) for edge, count in now.items()}


def quantile(buckets: Buckets, q: float) -> float:
    """Return a quantile by linear interpolation within its bucket; NaN for an empty histogram.

    The answer is no finer than the bucket edges; beyond the last finite edge it is that edge.
    """
    edges = sorted(buckets)
    total = buckets[edges[-1]] if edges else 0.0
    if total <= 0:
        return math.nan
    rank, low, below = q * total, 0.0, 0.0
    for edge in edges:
        if buckets[edge] >= rank:
            if math.isinf(edge):
                return low
            inside = buckets[edge] - below
            return low + (edge - low) * ((rank - below) / inside if inside else 1.0)
        low, below = edge, buckets[edge]
    return low

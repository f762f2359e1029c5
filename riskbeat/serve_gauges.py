"""parts of a serve process → gauges that nobody sets in passing: spool, disk, index."""

import asyncio
import contextlib

from api.lookup import IndexUnavailable
from api.lookup_sqlite import SqliteReader
from riskbeat.index import index_path
from riskbeat.room_metrics import DiskMetrics
from riskbeat.serve_parts import Parts

METRICS_EVERY_S = 1.0


async def measure(parts: Parts, stopping: asyncio.Event) -> None:
    """Keep the gauges up to date."""
    backlog, publisher, settings = parts.metrics.backlog, parts.publisher, parts.settings
    disk = DiskMetrics(parts.metrics.registry)
    index = SqliteReader(index_path(settings))
    backlog.spool_max_bytes.set(settings.spool_max_bytes)
    spooled = 0
    while not stopping.is_set():
        backlog.spool_bytes.set(publisher.spool_bytes)
        backlog.spooled.inc(publisher.spooled_records - spooled)
        spooled = publisher.spooled_records
        disk.look(settings.data_dir)
        backlog.index_as_of.set(await asyncio.to_thread(_as_of_s, index))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(METRICS_EVERY_S):
                await stopping.wait()
    index.close()


def _as_of_s(index: SqliteReader) -> float:
    try:
        return index.as_of_ms() / 1000
    except IndexUnavailable:
        return 0.0

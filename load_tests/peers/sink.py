"""results → Redis, in batches: the one way in which every peer keeps what it computed.

Imported by the peers' scripts from beside them, in their own environments.
"""

import argparse
import time

import redis

ENTITIES = ("card", "merchant", "device", "ip")
WINDOWS_S = {"1m": 60, "10m": 600, "1h": 3_600, "6h": 21_600, "1d": 86_400, "7d": 604_800}
FLUSH_S = 0.1


class Sink:
    """Keeps the newest result of each (entity, id, window), and counts results."""

    def __init__(self, url: str, prefix: str, flush_results: int) -> None:
        """Connect on first use.

        Args:
            url: Of Redis.
            prefix: Of every key; `{prefix}done` counts results.
            flush_results: A batch is written when it is this large, or `FLUSH_S` old.
        """
        self.client = redis.Redis.from_url(url)
        self.prefix = prefix
        self.flush_results = flush_results
        self.pending: dict[str, str] = {}
        self.count = 0
        self.flushed_s = time.monotonic()

    def put(self, entity, id_, window, count, total, mean, low, high):
        """Keep one result: five aggregates of one window."""
        self.pending[f"{self.prefix}{entity}:{id_}:{window}"] = (
            f"{count},{total},{mean},{low},{high}"
        )
        self.count += 1
        if self.count >= self.flush_results or time.monotonic() - self.flushed_s > FLUSH_S:
            self.flush()

    def flush(self):
        """Write what is pending."""
        if self.count:
            pipeline = self.client.pipeline(transaction=False)
            pipeline.mset(self.pending)
            pipeline.incrby(f"{self.prefix}done", self.count)
            pipeline.execute()
        self.pending, self.count, self.flushed_s = {}, 0, time.monotonic()


def arguments():
    """Read what the harness tells a peer."""
    parser = argparse.ArgumentParser()
    for name in ("kafka", "topic", "redis", "prefix", "group", "folder", "jar"):
        parser.add_argument(f"--{name}", default="")
    return parser.parse_args()

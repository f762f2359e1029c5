"""The same log, twice, into empty stores: the same bytes."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from features.store import decode_watermarks
from tests.live.running import UPDATES_PARTITIONS, Deployment, deployment, wait_until

pytestmark = pytest.mark.live

EVENTS = 6_000
DAYS = 40


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    yield tmp_path / "first", tmp_path / "second"


def states(url: str, prefix: str) -> dict[bytes, bytes]:
    with redis.Redis.from_url(url) as client:
        keys = [key for key in client.scan_iter(f"{prefix}0:*", count=5_000) if b"}:s:" in key]
        values = client.mget(keys) if keys else []
    return {k.removeprefix(prefix.encode()): v for k, v in zip(keys, values, strict=True)}


def featurized(stack: Deployment, log: Path, url: str, prefix: str) -> dict[bytes, bytes]:
    """Replay a log through one worker that has nobody beside it; return every state."""
    with stack.processes:
        stack.start("featurize")
        stack.run("replay", str(log), "--mapping", "generator", "--no-tail", "--no-progress")
        ends = Counter(record.partition for record in stack.read("events.v1"))

        def all_in() -> bool:
            stack.processes.look()
            with redis.Redis.from_url(url) as client:
                names = [f"{prefix}0:{{{p}}}:mark" for p in range(UPDATES_PARTITIONS)]
                marks = [mark for mark in client.mget(names) if mark]
            taken = [decode_watermarks(mark)[1].e for mark in marks]
            return len(taken) == UPDATES_PARTITIONS and all(
                len(each) > partition and each[partition].next_offset >= end
                for each in taken
                for partition, end in ends.items()
            )

        wait_until(all_in, "every event is in the states of every partition", 120)
        return states(url, prefix)


def test_the_same_log_twice_gives_the_same_bytes(
    kafka_bootstrap: str,
    redis_url: str,
    topic_prefix: str,
    redis_prefix: str,
    folders: tuple[Path, Path],
) -> None:
    log = folders[0].parent / "payments.parquet"
    found = []
    for name, folder in zip(("a", "b"), folders, strict=True):
        prefixes = f"{topic_prefix}{name}.", f"{redis_prefix}{name}:"
        stack = deployment(kafka_bootstrap, redis_url, *prefixes, folder)
        if not log.exists():
            stack.run(
                *("generate", str(log), "--events", str(EVENTS), "--days", str(DAYS)),
                "--no-progress",
            )
        found.append(featurized(stack, log, redis_url, prefixes[1]))
    first, second = found
    assert len(first) > EVENTS // 10
    assert first == second

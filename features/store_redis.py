"""The feature store in Redis, Valkey or a Redis Cluster.

Layout, `{p}` being the hash tag of updates partition p, in one epoch:
`{prefix}{epoch}:{p}:meta` (hash: what a commit compares), `…:mark` (watermarks and freshness),
`…:s:<entity key>` (a state), `…:d:<source partition>:<bucket>` (packed identity hashes),
`{prefix}{epoch}:position:<source>:<partition>` (a router's). Which epoch lives for a spec is in
`epochs_redis`. A reader takes mark and states of a partition with one MGET, which is one step.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from features.client_redis import Client, RedisLink, connect_redis
from features.epochs_redis import RedisEpochs, decode_pointer
from features.event import partition_of
from features.store import (
    Commit,
    DedupBucket,
    LogTruncated,
    PartitionMeta,
    Pointer,
    Reads,
    SchemaMismatch,
    Source,
    StoreError,
    StoreEvicts,
    StoreUnavailable,
    Watermarks,
    decode_watermarks,
    encode_watermarks,
    live_buckets,
)
from features.store_scripts import COMMIT, OPEN, refusal

__all__ = ["RedisFeatureStore", "connect_redis"]


class RedisFeatureStore:
    """Reader and writer of one epoch; `features.store` holds what it promises."""

    def __init__(
        self,
        client: Client | RedisLink,
        *,
        prefix: str,
        partitions: int,
        spec_digest: str,
        ttl_s: int,
        updates_topic: str,
        epoch: int = 0,
    ) -> None:
        """Hold a client; nothing is read before `attach`.

        Args:
            client: From `connect_redis`, or a link over one that others use, too.
            prefix: Begins every key.
            partitions: Count of updates partitions.
            spec_digest: Of the feature spec that states are made by.
            ttl_s: After how much wall time an untouched state is garbage; at least the longest
                window and the dedup horizon.
            updates_topic: Recorded in the pointer when this store is the first to use it.
            epoch: The epoch to write; `attach` replaces it by the living one.
        """
        assert partitions >= 1
        assert ttl_s >= 1
        self._link = client if isinstance(client, RedisLink) else RedisLink(client)
        self._prefix = prefix
        self._partitions = partitions
        self._digest = spec_digest
        self._ttl_s = ttl_s
        self.epochs = RedisEpochs(self._link, prefix)
        self._pointer_key = self.epochs.pointer_key(spec_digest)
        self._first = self._ours = Pointer(epoch, updates_topic, partitions, spec_digest)
        self._alive: bytes = b""
        self._use_epoch(epoch)

    @property
    def epoch(self) -> int:
        """The epoch that this store reads and writes."""
        return self._epoch

    def _use_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._tags = [f"{self._prefix}{epoch}:{{{p}}}:".encode() for p in range(self._partitions)]

    def in_epoch(self, epoch: int, updates_topic: str) -> "RedisFeatureStore":
        """Return a store over the same client that writes an epoch which is not alive yet."""
        return RedisFeatureStore(
            self._link.client,
            prefix=self._prefix,
            partitions=self._partitions,
            spec_digest=self._digest,
            ttl_s=self._ttl_s,
            updates_topic=updates_topic,
            epoch=epoch,
        )

    async def attach(self) -> Pointer:
        """Find the epoch that lives for our spec, and make the first one in an empty store.

        Raises:
            SchemaMismatch: The store has features of other specs only, or of another partition
                count.
            StoreEvicts: Redis is set to evict keys.
            StoreUnavailable: No answer.
        """
        await self._check_eviction()
        return self._follow(await self.epochs.begin(self._first))

    async def _check_eviction(self) -> None:
        for node in await self._link.memory_of_nodes():
            policy = node.get("maxmemory_policy", "noeviction")
            if node.get("maxmemory", 0) and policy != "noeviction":
                raise StoreEvicts(f"maxmemory-policy is {policy}; set it to noeviction")

    async def read_pointer(self) -> Pointer | None:
        """Return which epoch lives for our spec, `None` if none does."""
        data = await self.epochs.read_pointer(self._digest)
        return decode_pointer(data, Pointer) if data else None

    async def check_readable(self) -> bool:
        """Return whether an epoch lives for our spec; False in a store that was never used.

        Raises:
            SchemaMismatch: The store has features of other specs only, or of another partition
                count.
            StoreUnavailable: No answer.
        """
        data = await self.epochs.read_pointer(self._digest)
        if data:
            self._follow(data)
        elif not await self.epochs.in_empty_store():
            raise await self.epochs.unbuilt(self._digest)
        return bool(data)

    def _follow(self, data: bytes) -> Pointer:
        """Turn to the epoch that a pointer names, if it was made for us."""
        pointer = decode_pointer(data, Pointer)
        if pointer.partitions != self._partitions:
            raise SchemaMismatch(
                f"the store was filled under another count of updates partitions "
                f"({pointer.partitions}, not {self._partitions}): run `riskbeat rebuild`"
            )
        self._alive, self._ours = data, pointer
        self._use_epoch(pointer.epoch)
        return pointer

    async def open_partition(self, partition: int, log_begins_at: int) -> PartitionMeta:
        """Return where the partition stands; the first open of all makes it."""
        tag = self._tags[partition]
        empty = encode_watermarks(Watermarks(), 0)
        for make in (b"0", b"1") if log_begins_at == 0 else (b"0",):
            if make == b"1":  # also where Redis was emptied under us
                await self.epochs.revive(self._ours, alive=bool(self._alive))
            keys, args = [tag + b"meta", tag + b"mark"], [*self._checks(), make, empty]
            status, *rest = await self._link.run(OPEN, keys, args)
            if status == b"ok":
                fresh_until_ms, watermarks = decode_watermarks(rest[1])
                return PartitionMeta(int(rest[0]), watermarks, fresh_until_ms)
            if status != b"absent":
                raise refusal(status, rest, partition, self._epoch)
        raise LogTruncated(
            f"the store knows nothing of updates partition {partition}, whose log begins only at "
            f"{log_begins_at}: run `riskbeat rebuild`"
        )

    async def load_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes]:
        """Return the states of keys that the partition owns, `b""` where there is none."""
        state = self._tags[partition] + b"s:"
        return await self._link.get_many([state + key for key in keys])

    async def load_across(self, wanted: Mapping[int, Sequence[bytes]]) -> list[bytes]:
        """Return the states of keys by the partition that owns them, in the order asked."""
        if self._link.cluster:
            parts = [self.load_many(p, keys) for p, keys in wanted.items()]
            return [blob for part in await asyncio.gather(*parts) for blob in part]
        return await self._link.get_many(
            [self._tags[p] + b"s:" + key for p, keys in wanted.items() for key in keys]
        )

    async def load_dedup(
        self, partition: int, watermarks: Watermarks, horizon_ms: int
    ) -> dict[DedupBucket, bytes]:
        """Return the identity hashes within the horizon of each source partition's clock."""
        buckets = live_buckets(watermarks, horizon_ms)
        found = await self._link.get_many([self._dedup_key(partition, b) for b in buckets])
        return {bucket: data for bucket, data in zip(buckets, found, strict=True) if data}

    async def commit_batch(self, commit: Commit) -> None:
        """Write all of it in one atomic step, if the store is where the writer believes."""
        for refused in await self.commit_many([commit]):
            if refused is not None:
                raise refused

    async def commit_many(self, commits: Sequence[Commit]) -> list[StoreError | None]:
        """Write commits of different partitions in one round trip, each atomic by itself."""
        answers = await self._link.run_many(COMMIT, [self._call_of(commit) for commit in commits])
        return [
            answer
            if isinstance(answer, StoreUnavailable)
            else None
            if answer[0] == b"ok"
            else refusal(answer[0], answer[1:], commit.partition, self._epoch)
            for commit, answer in zip(commits, answers, strict=True)
        ]

    def _call_of(self, commit: Commit) -> tuple[list[bytes], list[bytes]]:
        """Return keys and arguments of `COMMIT`."""
        p = commit.partition
        tag = self._tags[p]
        state = tag + b"s:"
        keys = [tag + b"meta", tag + b"mark"]
        keys.extend([state + key for key in commit.states])
        keys.extend(self._dedup_key(p, bucket) for bucket in commit.dedup_add)
        keys.extend(self._dedup_key(p, bucket) for bucket in commit.dedup_drop)
        args: list[bytes] = [
            *self._checks(),
            b"%d" % commit.expected_offset,
            b"%d" % commit.next_offset,
            encode_watermarks(commit.watermarks, commit.fresh_until_ms),
            b"%d" % self._ttl_s,
            b"%d" % len(commit.states),
            b"%d" % len(commit.dedup_add),
            b"%d" % len(commit.dedup_drop),
            *commit.states.values(),
            *commit.dedup_add.values(),
        ]
        return keys, args

    async def load_position(self, source: Source, partition: int) -> int | None:
        """Return the offset from which a router must go on, `None` if it never stored one."""
        data = await self._link.get(self._position_key(source, partition))
        return None if data is None else int(data)

    async def store_positions(self, positions: Mapping[tuple[Source, int], int]) -> None:
        """Keep router positions; call only with what every updates partition has acknowledged."""
        await asyncio.gather(
            *(
                self._link.set(self._position_key(*key), b"%d" % offset)
                for key, offset in positions.items()
            )
        )

    async def read_many(self, keys: Sequence[bytes]) -> Reads:
        """Read the states of many entities in one round trip."""
        owners = [partition_of(key, self._partitions) for key in keys]
        while True:
            pointer, found = await self._read_groups(keys, owners)
            if not pointer:
                if await self.check_readable():
                    continue
                return Reads([b""] * len(keys), owners, {}, {})  # every entity is new
            if pointer == self._alive:
                return _reads(owners, found)
            self._follow(pointer)

    async def _read_groups(
        self, keys: Sequence[bytes], owners: list[int]
    ) -> tuple[bytes, dict[int, list[bytes]]]:
        """Read pointer, and by partition the mark followed by its states."""
        groups: dict[int, list[bytes]] = {}
        for key, p in zip(keys, owners, strict=True):
            groups.setdefault(p, [self._tags[p] + b"mark"]).append(self._tags[p] + b"s:" + key)
        if self._link.cluster:
            reads = asyncio.gather(*(self._link.get_together(names) for names in groups.values()))
            pointer, lists = await asyncio.gather(self.epochs.read_pointer(self._digest), reads)
            return pointer, dict(zip(groups, lists, strict=True))
        names = [self._pointer_key]
        for group in groups.values():
            names.extend(group)
        pointer, *rest = await self._link.get_together(names)
        found: dict[int, list[bytes]] = {}
        start = 0
        for p, group in groups.items():
            found[p] = rest[start : start + len(group)]
            start += len(group)
        return pointer, found

    def _checks(self) -> list[bytes]:
        return [b"%d" % self._epoch, b"%d" % self._partitions, self._digest.encode()]

    def _dedup_key(self, partition: int, bucket: DedupBucket) -> bytes:
        return self._tags[partition] + b"d:%d:%d" % (bucket.source_partition, bucket.bucket)

    def _position_key(self, source: Source, partition: int) -> bytes:
        return f"{self._prefix}{self._epoch}:position:{source}:{partition}".encode()


def _reads(owners: list[int], found: Mapping[int, Iterable[bytes]]) -> Reads:
    """Undo the grouping: states in the order asked, marks decoded."""
    watermarks: dict[int, Watermarks] = {}
    fresh_until_ms: dict[int, int] = {}
    states = {p: iter(group) for p, group in found.items()}
    for p, group in states.items():
        mark = next(group)
        fresh_until_ms[p], watermarks[p] = decode_watermarks(mark) if mark else (0, Watermarks())
    return Reads([next(states[p]) for p in owners], owners, watermarks, fresh_until_ms)

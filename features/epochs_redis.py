"""The epochs of the feature store in Redis, Valkey or a Redis Cluster.

All keys share one hash tag, so every act is one atomic script: `{prefix}{store}:alive:<digest>`
(the pointer of a spec; the braces are literal) and `{prefix}{store}:epochs` (hash: number → what
it is or was, and the next number).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec

from features.client_redis import RedisLink
from features.epochs import EpochInfo, EpochKept, EpochSize, EpochState, state_of
from features.store import Pointer, SchemaMismatch, StoreConflict
from features.store_scripts import ALLOCATE, BEGIN, BURY, FENCE, FLIP, RETIRED, REVIVE, refusal

FENCE_TTL_S = 7 * 24 * 3600
"""After this a late writer meets no fence, but its epoch's record, which says the same."""
DROP_BATCH_KEYS = 1_000
SAMPLED_KEYS = 200

P = TypeVar("P", bound=Pointer)
_TAG = re.compile(rb"\{([^}]*)\}")


class RedisEpochs:
    """`epochs.Epochs`, and what a store asks about the one that it uses."""

    def __init__(self, link: RedisLink, prefix: str) -> None:
        """Hold a link; `prefix` begins every key."""
        self._link = link
        self._prefix = prefix
        self._known = f"{prefix}{{store}}:epochs".encode()

    def pointer_key(self, digest: str) -> bytes:
        """Return where the pointer of a spec stands."""
        return f"{self._prefix}{{store}}:alive:{digest}".encode()

    async def read_pointer(self, digest: str) -> bytes:
        """Return which epoch lives for a spec, as its pointer's bytes; empty for none."""
        return await self._link.get(self.pointer_key(digest)) or b""

    async def begin(self, first: Pointer) -> bytes:
        """Return the pointer of a spec; in an empty store, `first` is made its first epoch.

        Raises:
            SchemaMismatch: The store holds features of other specs, and none of this one.
        """
        args = [msgspec.json.encode(first), b"%d" % first.epoch, b"%d" % (first.epoch + 1)]
        keys = [self.pointer_key(first.digest), self._known]
        status, *rest = await self._link.run(BEGIN, keys, args)
        if status == b"ok":
            return rest[0]
        raise await self.unbuilt(first.digest)

    async def in_empty_store(self) -> bool:
        """Return whether no epoch was ever begun, for any spec."""
        return not await self._link.hash_length(self._known)

    async def unbuilt(self, digest: str) -> SchemaMismatch:
        """Return the refusal of a spec that has no living epoch, naming what there is."""
        states = await self._states()
        if any(kept.digest == digest and state == "filling" for kept, state in states):
            why = "they are being rebuilt, or a rebuild did not finish"
        else:
            living = [kept.digest[:12] for kept, state in states if state == "alive"]
            why = f"it holds those of {', '.join(living) or 'none that lives'}"
        return SchemaMismatch(
            f"the store has no features of spec {digest[:12]} ({why}): run `riskbeat rebuild`"
        )

    async def revive(self, pointer: Pointer, *, alive: bool) -> None:
        """Make sure that an epoch may be written; an emptied store is told of it again.

        Raises:
            StoreEpochMismatch: It was retired, or another one lives in its place.
            SchemaMismatch: In an emptied store another spec took its number.
        """
        keys = [self.pointer_key(pointer.digest), self._known]
        args = [msgspec.json.encode(pointer), b"%d" % pointer.epoch, pointer.digest.encode()]
        status, *rest = await self._link.run(REVIVE, keys, [*args, b"1" if alive else b"0"])
        if status != b"ok":
            raise refusal(status, rest, 0, pointer.epoch)

    async def allocate(self, lowest: int, base_topic: str, partitions: int, digest: str) -> Pointer:
        """Return an epoch that nobody was ever given; see the port."""
        args = [b"%d" % lowest, base_topic.encode(), b"%d" % partitions, digest.encode()]
        _, made = await self._link.run(ALLOCATE, [self._known], args)
        return decode_pointer(made, Pointer)

    async def flip(self, old: Pointer | None, new: Pointer) -> None:
        """Let an epoch live for its spec; see the port."""
        before = msgspec.json.encode(old) if old else b""
        keys = [self.pointer_key(new.digest), self._known]
        args = [before, msgspec.json.encode(new), b"%d" % new.epoch]
        status, *rest = await self._link.run(FLIP, keys, args)
        if status != b"ok":
            what = "it was retired" if status == b"gone" else f"{rest[0].decode() or 'none'} lives"
            raise StoreConflict(f"epoch {new.epoch} cannot live: meanwhile {what}")
        if old is not None:
            await self._fence(old, b"%d" % new.epoch)

    async def _fence(self, dead: Pointer, instead: bytes) -> None:
        for p in range(dead.partitions):
            meta = self._meta_key(dead.epoch, p)
            await self._link.run(FENCE, [meta], [instead, b"%d" % FENCE_TTL_S])

    async def drop(self, pointer: Pointer) -> int:
        """Delete an epoch but for what fences its writers; see the port."""
        gone = EpochKept(**msgspec.structs.asdict(pointer) | {"gone": True})
        keys = [self.pointer_key(pointer.digest), self._known]
        args = [b"%d" % pointer.epoch, msgspec.json.encode(gone)]
        await self._link.run(BURY, keys, args)
        await self._fence(pointer, RETIRED.encode())
        count, batch = 0, list[bytes]()
        async for key in self._keys_of(pointer.epoch):
            if key.endswith(b"}:meta"):
                continue
            batch.append(key)
            if len(batch) == DROP_BATCH_KEYS:
                count += await self._unlink(batch)
                batch = []
        return count + await self._unlink(batch)

    async def _unlink(self, keys: Sequence[bytes]) -> int:
        """Delete keys with one command for each hash slot that is sure to be shared."""
        groups: dict[bytes, list[bytes]] = {}
        for key in keys:
            tag = _TAG.search(key)
            groups.setdefault(tag.group() if tag else key, []).append(key)
        return sum([await self._link.unlink(group) for group in groups.values()])

    async def list_epochs(self) -> list[EpochInfo]:
        """Return every epoch ever given; see the port."""
        now_s = await self._link.clock_s()
        infos = []
        for kept, state in await self._states():
            pointer = Pointer(kept.epoch, kept.updates_topic, kept.partitions, kept.digest)
            written_s = 0 if state == "gone" else await self._written_at_s(pointer)
            infos.append(EpochInfo(pointer, state, written_s, now_s - written_s))
        return infos

    async def _states(self) -> list[tuple[EpochKept, EpochState]]:
        fields = await self._link.hash_items(self._known)
        kept = [decode_pointer(v, EpochKept) for k, v in fields.items() if k != b"next"]
        alive: dict[str, Pointer | None] = {}
        for digest in {one.digest for one in kept}:
            data = await self.read_pointer(digest)
            alive[digest] = decode_pointer(data, Pointer) if data else None
        kept.sort(key=lambda one: one.epoch)
        return [(one, state_of(one, alive[one.digest])) for one in kept]

    async def _written_at_s(self, pointer: Pointer) -> int:
        """Return when any partition of an epoch was last committed, 0 for never."""
        metas = [self._meta_key(pointer.epoch, p) for p in range(pointer.partitions)]
        found = await asyncio.gather(*(self._link.hash_field(meta, b"at") for meta in metas))
        return max(int(at or 0) for at in found)

    async def measure(self, epoch: int) -> EpochSize:
        """Count an epoch's keys, and estimate their bytes from some of them."""
        keys, sampled, sample_bytes = 0, 0, 0
        async for key in self._keys_of(epoch):
            keys += 1
            if sampled < SAMPLED_KEYS:  # Redis hands keys out in the order of their hashes
                sampled += 1
                sample_bytes += await self._link.key_bytes(key)
        return EpochSize(keys, round(sample_bytes * keys / sampled) if sampled else 0)

    def _keys_of(self, epoch: int) -> AsyncIterator[bytes]:
        literal = re.sub(r"([*?\[\]\\^])", r"\\\1", self._prefix)
        return self._link.scan(f"{literal}{epoch}:*".encode())

    def _meta_key(self, epoch: int, partition: int) -> bytes:
        return f"{self._prefix}{epoch}:{{{partition}}}:meta".encode()


def decode_pointer(data: bytes, kind: type[P]) -> P:
    """Read what the store says of an epoch.

    Raises:
        SchemaMismatch: The bytes are not ours.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise SchemaMismatch(f"unreadable store pointer: {error}") from error

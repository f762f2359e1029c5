"""The epochs of a store in memory, under the same contract as those in Redis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from features.epochs import EpochInfo, EpochKept, state_of
from features.store import (
    DedupBucket,
    Pointer,
    SchemaMismatch,
    Source,
    StoreConflict,
    StoreEpochMismatch,
    Watermarks,
    encode_watermarks,
)


@dataclass
class MemoryPartition:
    """What is kept of one partition in one epoch."""

    epoch: int | str
    partitions: int
    digest: str
    offset: int = 0
    at_s: float = 0.0
    mark: bytes = field(default_factory=lambda: encode_watermarks(Watermarks(), 0))
    states: dict[bytes, bytes] = field(default_factory=dict)
    dedup: dict[DedupBucket, bytes] = field(default_factory=dict)


@dataclass
class MemoryShelf:
    """What several stores share, as several processes share one Redis."""

    alive: dict[str, Pointer] = field(default_factory=dict)
    epochs: dict[int, EpochKept] = field(default_factory=dict)
    next_epoch: int = 0
    partitions: dict[tuple[int, int], MemoryPartition] = field(default_factory=dict)
    positions: dict[tuple[int, Source, int], int] = field(default_factory=dict)
    now_s: Callable[[], float] = lambda: 1e9


class MemoryEpochs:
    """`features.epochs.Epochs` over a `MemoryShelf`."""

    def __init__(self, shelf: MemoryShelf) -> None:
        self.shelf = shelf

    def register(self, pointer: Pointer) -> None:
        self.shelf.epochs[pointer.epoch] = kept_of(pointer)
        self.shelf.next_epoch = max(self.shelf.next_epoch, pointer.epoch + 1)

    def begin(self, first: Pointer) -> Pointer:
        if first.digest not in self.shelf.alive:
            if self.shelf.epochs:
                raise SchemaMismatch("no features of this spec: run `riskbeat rebuild`")
            self.register(first)
            self.shelf.alive[first.digest] = first
        return self.shelf.alive[first.digest]

    def revive(self, pointer: Pointer, alive: bool) -> None:
        kept = self.shelf.epochs.get(pointer.epoch)
        if alive and self.shelf.alive.get(pointer.digest, pointer) != pointer:
            raise StoreEpochMismatch("another one lives")
        if kept is not None and kept.digest != pointer.digest:
            raise SchemaMismatch("another spec's epoch: run `riskbeat rebuild`")
        if kept is not None and kept.gone:
            raise StoreEpochMismatch("was retired")
        self.register(pointer)
        if alive:
            self.shelf.alive[pointer.digest] = pointer

    async def allocate(self, lowest: int, base_topic: str, partitions: int, digest: str) -> Pointer:
        epoch = max(lowest, self.shelf.next_epoch)
        made = Pointer(epoch, f"{base_topic}.e{epoch}", partitions, digest)
        self.register(made)
        return made

    async def flip(self, old: Pointer | None, new: Pointer) -> None:
        if self.shelf.alive.get(new.digest) != old or self.shelf.epochs[new.epoch].gone:
            raise StoreConflict("another epoch came alive meanwhile")
        self.shelf.alive[new.digest] = new
        if old is not None:
            self._fence(old, new.epoch)

    def _fence(self, dead: Pointer, instead: int | str) -> None:
        for p in range(dead.partitions):
            fenced = MemoryPartition(instead, dead.partitions, dead.digest)
            self.shelf.partitions.setdefault((dead.epoch, p), fenced).epoch = instead

    async def drop(self, pointer: Pointer) -> int:
        if self.shelf.alive.get(pointer.digest) == pointer:
            del self.shelf.alive[pointer.digest]
        self.shelf.epochs[pointer.epoch] = kept_of(pointer, gone=True)
        self._fence(pointer, "retired")
        count = 0
        for (epoch, _), kept in self.shelf.partitions.items():
            if epoch == pointer.epoch:
                count += len(kept.states) + len(kept.dedup) + 1
                kept.states, kept.dedup = {}, {}
        return count

    async def list_epochs(self) -> Sequence[EpochInfo]:
        infos = []
        for _, kept in sorted(self.shelf.epochs.items()):
            pointer = Pointer(kept.epoch, kept.updates_topic, kept.partitions, kept.digest)
            state = state_of(kept, self.shelf.alive.get(kept.digest))
            at_s = [
                p.at_s for (epoch, _), p in self.shelf.partitions.items() if epoch == kept.epoch
            ]
            newest = 0 if state == "gone" else int(max(at_s, default=0))
            infos.append(EpochInfo(pointer, state, newest, self.shelf.now_s() - newest))
        return infos


def kept_of(pointer: Pointer, *, gone: bool = False) -> EpochKept:
    return EpochKept(
        pointer.epoch, pointer.updates_topic, pointer.partitions, pointer.digest, gone=gone
    )

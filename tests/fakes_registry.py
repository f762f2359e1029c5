"""The weights registry in memory: it works, and it can die where it is told to."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping

from models.registry import (
    Activation,
    ChainBroken,
    Freeze,
    NoWeights,
    Progress,
    Shelved,
    Standing,
    VersionConflict,
)


class Killed(Exception):
    """What a test's `kill -9` looks like from inside."""


class Fuse:
    """Burns down one call at a time, and kills at the one that was chosen."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.at: tuple[str, int] | None = None

    def burn(self, place: str) -> None:
        self.calls[place] += 1
        if self.at == (place, self.calls[place]):
            self.at = None
            raise Killed(place)


class MemoryWeightsRegistry:
    """`models.registry.WeightsRegistry` in a dictionary."""

    def __init__(
        self,
        keep_versions: int = 300,
        fuse: Fuse | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep = keep_versions
        self._fuse = fuse or Fuse()
        self._now_s = now_s
        self._versions: dict[int, bytes] = {}
        self._fulls: dict[int, int] = {}
        self._freeze: Freeze | None = None
        self._lease = ("", 0.0)
        self._latest = 0
        self._active = 0
        self._pinned = 0
        self._held = 0
        self._acts: list[Activation] = []
        self._scorers: dict[str, int] = {}
        self._progress: Progress | None = None
        self._news = asyncio.Condition()
        self.sender = ""

    async def publish(self, version: int, data: bytes, base: int = 0) -> None:
        self._fuse.burn("before registry")
        if version != self._latest + 1:
            raise VersionConflict(f"version {version} does not follow {self._latest}")
        await self._put(version, data, base)
        self._fuse.burn("after registry")

    async def restore(self, version: int, data: bytes, base: int = 0) -> None:
        if version > self._latest:
            await self._put(version, data, base)

    async def standing(self) -> Standing:
        return Standing(latest=self._latest, active=self._active, pinned=self._pinned > 0)

    async def latest_version(self) -> int:
        return self._latest

    async def active_version(self) -> int:
        return self._active

    async def read(self, version: int) -> bytes:
        if version not in self._versions:
            raise NoWeights(f"version {version} is not in the registry")
        return self._versions[version]

    async def read_chain(self, version: int) -> list[bytes]:
        await self.read(version)
        return [self._versions[n] for n in range(self._fulls[version], version + 1)]

    async def read_head(self, version: int, size_bytes: int) -> bytes:
        return (await self.read(version))[:size_bytes]

    async def shelf(self) -> list[Shelved]:
        return [
            Shelved(version=n, full=self._fulls[n], size_bytes=len(self._versions[n]))
            for n in sorted(self._versions)
        ]

    async def wait_newer(self, version: int, timeout_s: float) -> int:
        async with self._news:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait_for(lambda: self._active != version)
            except TimeoutError:
                pass
        return self._active

    async def pin(self, version: int, by: str, why: str, at_ms: int) -> None:
        await self.read(version)
        self._pinned = version
        self._trim()
        await self._activate("pin", version, by, why, at_ms)

    async def unpin(self, by: str, why: str, at_ms: int) -> None:
        if self._pinned:
            self._pinned = 0
            self._trim()
            await self._activate("unpin", self._latest, by, why, at_ms)

    async def hold(self, version: int) -> None:
        if version:
            await self.read(version)
        self._held = version
        self._trim()

    async def rollback(self, by: str, why: str, at_ms: int) -> int:
        target = self._active - 1
        await self.pin(target, by, why, at_ms)
        return target

    async def history(self) -> list[Activation]:
        return list(self._acts)

    async def freeze(self, freeze: Freeze) -> Freeze:
        self._freeze = self._freeze or freeze
        self._note("freeze", self._latest, freeze.by, freeze.why, freeze.at_ms)
        return self._freeze

    async def thaw(self, by: str, why: str, at_ms: int) -> bool:
        if self._freeze is None:
            return False
        self._freeze = None
        self._note("thaw", self._latest, by, why, at_ms)
        return True

    async def frozen(self) -> Freeze | None:
        return self._freeze

    async def take_lease(self, owner: str, ttl_s: float, instead_of: str = "") -> str:
        if await self.lease_owner() in ("", owner, instead_of):
            self._lease = (owner, self._now_s() + ttl_s)
        return self._lease[0]

    async def release_lease(self, owner: str) -> None:
        if self._lease[0] == owner:
            self._lease = ("", 0.0)

    async def lease_owner(self) -> str:
        owner, until_s = self._lease
        return owner if self._now_s() < until_s else ""

    async def report_active(self, scorer_id: str, version: int) -> None:
        self._scorers[scorer_id] = version

    async def active_versions(self) -> Mapping[str, int]:
        return dict(self._scorers)

    async def claim_labels(self, sender: str) -> str:
        self.sender = self.sender or sender
        return self.sender

    async def report_progress(self, offsets: Mapping[str, int], version: int) -> None:
        self._fuse.burn("before progress")
        self._progress = Progress(offsets=dict(offsets), version=version)

    async def progress(self) -> Progress | None:
        return self._progress

    def lose_last(self, count: int) -> None:
        """Forget the newest versions, as a store without its last second does."""
        for version in range(self._latest - count + 1, self._latest + 1):
            self._versions.pop(version, None)
            self._fulls.pop(version, None)
        self._latest -= count
        self._active = self._latest

    async def _put(self, version: int, data: bytes, base: int) -> None:
        if base and base not in self._fulls:
            raise ChainBroken(f"version {version} is a delta to {base}")
        self._versions[version] = data
        self._fulls[version] = self._fulls[base] if base else version
        self._latest = version
        self._trim()
        if not self._pinned:
            self._active = version
        await self._wake()

    async def _activate(self, act: str, version: int, by: str, why: str, at_ms: int) -> None:
        self._active = version
        self._note(act, version, by, why, at_ms)
        await self._wake()

    def _note(self, act: str, version: int, by: str, why: str, at_ms: int) -> None:
        self._acts.insert(0, Activation(act=act, version=version, by=by, why=why, at_ms=at_ms))

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _trim(self) -> None:
        kept = [
            n
            for n in self._fulls
            if n > self._latest - self._keep or n in (self._pinned, self._held)
        ]
        needed = {number for n in kept for number in range(self._fulls[n], n + 1)}
        for version in self._versions.keys() - needed:
            del self._versions[version], self._fulls[version]

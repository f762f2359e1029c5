"""registry → scorer: each new version is fetched, passed through the gates, and made active.

A version that was published as a delta is applied to the one at hand; where that is another one,
the chain is read back to a full version. Whatever is missing or wrong, the active version stays.
The registry's pointer may go back only where somebody has written down that it should: a version
that is older than the newest seen, and not pinned by name, is stale. One that the scorer still
holds is gone back to without reading anything.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from models.registry import NoWeights, RegistryUnavailable, WeightsRegistry
from models.scorer import ACTIVE, Scorer, WeightsRefused
from models.signing import BadSignature, PublicKey
from models.weights import BadWeights, SchemaMismatch, Weights, manifest_of
from models.weights_chain import Held, Links, assemble, read_links

PAUSE_S = 0.2
"""Wait after the registry did not answer, and after a version that can be tried again."""
FLEET_EVERY_S = 1.0
"""Pause between two questions about what the other scorers answer with."""
MOVES = ("pin", "unpin")
"""Acts that move the active pointer."""


class Told(Protocol):
    """Who hears of versions: the log and the metrics."""

    def weights_activated(self, weights: Weights, label_appends_ms: Sequence[int]) -> None:
        """A version became active in this process, with what these labels taught.

        None are named for the first version of a process, nor for one that was gone back to: its
        labels have been serving, or waited for something else than the learner.
        """

    def weights_refused(self, version: int, gate: str, detail: str) -> None:
        """A gate refused a version; the active one stays."""

    def fleet_seen(self, versions: Mapping[str, int]) -> None:
        """Which scorer of the deployment answers with which version, this one included."""

    def registry_failed(self, detail: str) -> None:
        """The registry did not answer; the active version stays."""


class WeightsWatcher:
    """Keeps one scorer on the version that the registry calls active.

    Attributes:
        active: Number of the version that answers; 0 before the first.
        loaded: Set once there is one.
    """

    def __init__(
        self,
        registry: WeightsRegistry,
        scorer: Scorer,
        public_keys: Sequence[PublicKey],
        scorer_id: str,
        told: Told,
        wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the shelf and the scorer.

        Args:
            registry: Where versions stand.
            scorer: What is to be kept up to date.
            public_keys: Whose signatures count.
            scorer_id: Name under which the active version is reported.
            told: Who hears of it.
            wait_s: Longest wait for news; also the pause between two reports.
            clock: Monotonic seconds.
        """
        self._registry = registry
        self._scorer = scorer
        self._public_keys = public_keys
        self._scorer_id = scorer_id
        self._told = told
        self._wait_s = wait_s
        self._clock = clock
        self._seen = 0  # what the pointer was at when it was last acted on
        self._willed = False  # whether that was by a pin
        self._newest = 0
        self._asked_fleet = float("-inf")
        self._held: Held | None = None  # what deltas are applied to, refused by a gate or not
        self.active = 0
        self.loaded = asyncio.Event()

    async def step(self, wait_s: float) -> bool:
        """Wait for another version, load it, report; return whether it became active.

        Raises:
            RegistryUnavailable: The registry did not answer.
        """
        version = await self._registry.wait_newer(self._seen, wait_s)
        changed = False
        # a version that was refused may have been pinned since: then it is wanted all the same
        if version not in (0, self._seen) or (self._seen and self._seen != self.active):
            changed = await self._follow()
        if self.active:
            await self._registry.report_active(self._scorer_id, self.active)
            await self._ask_fleet()
        return changed

    async def run(self, stopping: asyncio.Event) -> None:
        """Step until told to stop; an absent registry is waited for."""
        while not stopping.is_set():
            try:
                await self.step(self._wait_s)
            except RegistryUnavailable as error:
                self._told.registry_failed(str(error))
                await asyncio.sleep(PAUSE_S)

    async def _follow(self) -> bool:
        """Go where the pointer stands by now."""
        standing = await self._registry.standing()
        version = standing.active
        willed = standing.pinned and await self._is_written_down(version)
        if version == self._seen and (version == self.active or willed <= self._willed):
            return False
        newest = max(self._newest, standing.latest)
        if version < newest and not willed:
            detail = f"version {newest} was seen, and nobody has written down to go back"
            changed = self._refuse(version, "stale", detail)
        elif version == self.active:
            changed = False
        else:
            loaded = await self._load(version, willed)
            if loaded is None:
                await asyncio.sleep(PAUSE_S)
                return False
            changed = loaded
        self._seen, self._willed, self._newest = version, willed, newest
        return changed

    async def _is_written_down(self, version: int) -> bool:
        """Whether the last act that moved the pointer was a pin of this version."""
        acts = await self._registry.history()
        last = next((act for act in acts if act.act in MOVES), None)
        return last is not None and last.act == "pin" and last.version == version

    async def _load(self, version: int, willed: bool) -> bool | None:
        """Return whether the version became active; None: not now, but it may be tried again."""
        news: list[int] = []
        try:
            if not await asyncio.to_thread(self._scorer.recall, version):
                links = await read_links(self._registry.read, version, self._held)
                # checked and written beside the loop: requests go on meanwhile
                await asyncio.to_thread(self._take, links, willed)
                news = _labels_of(links) if 0 < self.active < version else []
        except NoWeights:
            return self._refuse(version, "content", "it left the shelf before it was read")
        except BadSignature as error:
            return self._refuse(version, "signature", str(error))
        except BadWeights as error:
            return self._refuse(version, "content", str(error))
        except SchemaMismatch as error:
            return self._refuse(version, "digest", str(error))
        except WeightsRefused as error:
            self._refuse(version, error.gate, str(error))
            return None if error.gate == "busy" else False
        self.active = version
        self.loaded.set()
        self._told.weights_activated(self._scorer.snapshot(ACTIVE).weights, news)
        return True

    def _take(self, links: Links, willed: bool) -> None:
        self._held = assemble(links, self._public_keys)
        self._scorer.load(self._held.weights, self._held.sha256, willed=willed)

    async def _ask_fleet(self) -> None:
        now = self._clock()
        if now - self._asked_fleet >= FLEET_EVERY_S:
            self._asked_fleet = now
            self._told.fleet_seen(await self._registry.active_versions())

    def _refuse(self, version: int, gate: str, detail: str) -> bool:
        self._told.weights_refused(version, gate, detail)
        return False


def _labels_of(links: Links) -> list[int]:
    """Return the append times of the labels that these versions learned."""
    return [at_ms for data in links.data for at_ms in manifest_of(data).label_appends_ms]

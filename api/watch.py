"""registry → scorer: each new version is fetched, passed through the gates, and made active.

A version that was published as a delta is applied to the one at hand; where that is another one,
the chain is read back to a full version. Whatever is missing or wrong, the active version stays.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from models.registry import NoWeights, RegistryUnavailable, WeightsRegistry
from models.scorer import Scorer, WeightsRefused
from models.signing import BadSignature, PublicKey
from models.weights import BadWeights, SchemaMismatch, Weights, manifest_of
from models.weights_chain import Held, Links, assemble, read_links

PAUSE_S = 0.2
"""Wait after the registry did not answer."""


class Told(Protocol):
    """Who hears of versions: the log and the metrics."""

    def weights_activated(self, weights: Weights, label_appends_ms: Sequence[int]) -> None:
        """A version became active in this process, with what these labels taught.

        None are named for the first version of a process, nor for one that was gone back to: its
        labels have been serving, or waited for something else than the learner.
        """

    def weights_refused(self, version: int, gate: str, detail: str) -> None:
        """A gate refused a version; the active one stays."""

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
    ) -> None:
        """Take the shelf and the scorer.

        Args:
            registry: Where versions stand.
            scorer: What is to be kept up to date.
            public_keys: Whose signatures count.
            scorer_id: Name under which the active version is reported.
            told: Who hears of it.
            wait_s: Longest wait for news; also the pause between two reports.
        """
        self._registry = registry
        self._scorer = scorer
        self._public_keys = public_keys
        self._scorer_id = scorer_id
        self._told = told
        self._wait_s = wait_s
        self._seen = 0
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
        if version not in (0, self._seen):
            changed = await self._load(version)
            self._seen = version
        if self.active:
            await self._registry.report_active(self._scorer_id, self.active)
        return changed

    async def run(self, stopping: asyncio.Event) -> None:
        """Step until told to stop; an absent registry is waited for."""
        while not stopping.is_set():
            try:
                await self.step(self._wait_s)
            except RegistryUnavailable as error:
                self._told.registry_failed(str(error))
                await asyncio.sleep(PAUSE_S)

    async def _load(self, version: int) -> bool:
        try:
            links = await read_links(self._registry.read, version, self._held)
            # a large version takes a while to check: other requests go on meanwhile
            self._held = await asyncio.to_thread(assemble, links, self._public_keys)
            self._scorer.load(self._held.weights, self._held.sha256)
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
            return self._refuse(version, error.gate, str(error))
        self.active = version
        self.loaded.set()
        self._told.weights_activated(self._held.weights, news)
        return True

    def _refuse(self, version: int, gate: str, detail: str) -> bool:
        self._told.weights_refused(version, gate, detail)
        return False


def _labels_of(links: Links) -> list[int]:
    """Return the append times of the labels that these versions learned."""
    return [at_ms for data in links.data for at_ms in manifest_of(data).label_appends_ms]

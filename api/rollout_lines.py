"""lines of versions → scorers: what this worker holds of each, and which line answers.

Each line has a scorer of its own, since numbers of versions mean something only within one. The
main line is always followed; another one from the moment that it is rolled out. A version that is
none of its line's active one is held in the slot `CANDIDATE` of the line's scorer.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from models.registry import NoWeights as NotOnShelf
from models.registry import WeightsRegistry
from models.rollout import Target
from models.scorer import ACTIVE, NoWeights, Scorer, Snapshot, WeightsRefused
from models.signing import BadSignature, PublicKey
from models.weights import BadWeights, SchemaMismatch, Weights
from models.weights_chain import Held, Links, assemble, read_links

CANDIDATE: Final = "candidate"
REFUSALS: Final = (NotOnShelf, BadSignature, BadWeights, SchemaMismatch, WeightsRefused)


class Following(Protocol):
    """What keeps a line's scorer on its active version: `api.watch.WeightsWatcher`."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow until told to stop."""


class Line:
    """One line in this worker.

    Attributes:
        refused: Why its newest version was refused; empty if it was not.
    """

    def __init__(self, registry: WeightsRegistry, scorer: Scorer) -> None:
        """Take its shelf and its scorer."""
        self.registry = registry
        self.scorer = scorer
        self.refused = ""


class LineNews:
    """Hears of the versions of a line that is no main line: `api.watch.Told`."""

    def __init__(self, line: Line, failed: Callable[[str], None]) -> None:
        """Take the line, and who hears that the registry did not answer."""
        self._line = line
        self._failed = failed

    def weights_activated(self, weights: Weights, label_appends_ms: Sequence[int]) -> None:
        """A version became active."""
        self._line.refused = ""

    def weights_refused(self, version: int, gate: str, detail: str) -> None:
        """A gate refused a version; the active one stays."""
        self._line.refused = f"version {version} at gate {gate}: {detail}"

    def fleet_seen(self, versions: Mapping[str, int]) -> None:
        """Which scorer answers with which version of this line."""

    def registry_failed(self, detail: str) -> None:
        """The registry did not answer; the active version stays."""
        self._failed(detail)


class SwitchedScorer:
    """The scorer of the line that answers, whichever that is: `models.scorer.Scorer`."""

    def __init__(self, scorer: Scorer) -> None:
        """Begin with a line's scorer."""
        self.now = scorer

    @property
    def build(self) -> str:
        """Name of code and libraries that a forward pass depends on."""
        return self.now.build

    @property
    def device(self) -> str:
        """Name of the device that it runs on."""
        return self.now.device

    def snapshot(self, slot: str = ACTIVE) -> Snapshot:
        """Return a slot's version; see the port."""
        return self.now.snapshot(slot)

    def load(
        self, weights: Weights, sha256: str, slot: str = ACTIVE, *, willed: bool = False
    ) -> None:
        """Load a version of the line; see the port."""
        self.now.load(weights, sha256, slot, willed=willed)

    def recall(self, version: int, slot: str = ACTIVE) -> bool:
        """Let a slot answer with a version of the line that is held; see the port."""
        return self.now.recall(version, slot)

    def clear(self, slot: str) -> None:
        """Let a slot hold nothing; see the port."""
        self.now.clear(slot)

    def versions(self) -> Mapping[str, int]:
        """Return slot → version; see the port."""
        return self.now.versions()


class CandidateLoader:
    """Keeps the slot `CANDIDATE` of a line's scorer on one version, or on the line's newest."""

    def __init__(self, line: Line, target: Target, public_keys: Sequence[PublicKey]) -> None:
        """Take the line, what of it is wanted, and whose signatures count."""
        self._line = line
        self.target = target
        self._public_keys = public_keys
        self._seen = 0
        self._held: Held | None = None
        self.refused = ""

    async def step(self) -> None:
        """Load what is wanted, unless it was tried before.

        Raises:
            RegistryUnavailable: The registry did not answer.
        """
        at = self.target.at
        version = at if isinstance(at, int) else await self._line.registry.latest_version()
        if version in (0, self._seen):
            return
        try:
            links = await read_links(self._line.registry.read, version, self._held)
            # checked and written beside the loop: requests go on meanwhile
            await asyncio.to_thread(self._take, links)
        except REFUSALS as error:
            self.refused = str(error)
        else:
            self.refused = ""
        self._seen = version

    def _take(self, links: Links) -> None:
        self._held = assemble(links, self._public_keys)
        self._line.scorer.load(self._held.weights, self._held.sha256, CANDIDATE)

    def drop(self) -> None:
        """Let the slot hold nothing."""
        self._line.scorer.clear(CANDIDATE)


class Lines:
    """All lines that this worker holds."""

    def __init__(
        self,
        main: str,
        line: Line,
        open_line: Callable[[str, Line], Following],
        make_line: Callable[[str], Line],
    ) -> None:
        """Take the main line, which is followed by its owner.

        Args:
            main: Its name.
            line: Its shelf and scorer.
            open_line: Name, line → what follows it.
            make_line: Name → a line that nobody follows yet.
        """
        self._main = main
        self._lines = {main: line}
        self._open_line = open_line
        self._make_line = make_line
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()

    def line(self, name: str) -> Line:
        """Return a line; it is followed from now on."""
        if name not in self._lines:
            line = self._lines[name] = self._make_line(name)
            following = self._open_line(name, line)
            self._tasks[name] = asyncio.create_task(following.run(self._stopping))
        return self._lines[name]

    async def only(self, names: set[str]) -> None:
        """Let go of all lines but these and the main one."""
        for name in self._lines.keys() - names - {self._main}:
            await self._end(name)
            del self._lines[name]

    async def close(self) -> None:
        """Follow none any more, but the main one, which is its owner's."""
        self._stopping.set()
        for name in list(self._tasks):
            await self._end(name)

    async def _end(self, name: str) -> None:
        """Stop following a line."""
        task = self._tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def holds(scorer: Scorer, slot: str) -> int:
    """Return the version that a slot holds; 0 for none."""
    try:
        return scorer.snapshot(slot).weights.version
    except NoWeights:
        return 0


def slot_of(target: Target) -> str:
    """Return the slot of its line's scorer in which a candidate is held."""
    return ACTIVE if target.at == "active" else CANDIDATE

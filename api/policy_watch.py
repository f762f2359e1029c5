"""policy store → ruler: the policy that counts, what is switched off, and lists, kept up to date.

A policy is read, checked against this feature spec and compiled before it counts here; one
that cannot be meant is refused by name, and the one at hand goes on. A store that does not answer
leaves everything as it is.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from models.policy import PolicyError
from models.policy_list_copy import ListCopy
from models.policy_lists import ListStore, ListsTrimmed, ListsUnavailable
from models.policy_ruling import Halt, Rulebook, Ruler
from models.policy_store import (
    KeptPolicy,
    NoPolicy,
    PolicyAct,
    PolicyConflict,
    PolicyStore,
    PolicyStoreUnavailable,
    ScorerPolicy,
    Switch,
)

Compile = Callable[[str, str], Rulebook]
"""(text, its name in errors) → what a scorer rules by; raises PolicyError."""


class Told(Protocol):
    """Who hears of policies: the log and the metrics."""

    def policy_activated(self, version: int, digest: str) -> None:
        """A policy counts in this process."""

    def policy_refused(self, version: int, detail: str) -> None:
        """The policy that counts is none here; the one at hand goes on."""

    def rule_halted(self, rule: str, why: str) -> None:
        """This process halted a rule."""

    def rule_failed(self, rule: str, detail: str) -> None:
        """A rule failed on an event, for the first time under this policy."""

    def lists_changed(self, entries: int) -> None:
        """The copy of the lists follows the store; it has about so many entries."""

    def policy_store_failed(self, detail: str) -> None:
        """The store did not answer; all stays as it is."""


class PolicyWatcher:
    """Keeps one ruler on what the store says.

    Attributes:
        ruler: What is kept up to date.
        loaded: Set once policy, switches and lists were read.
        refused: Why the policy that counts is none here; empty if it is.
    """

    def __init__(
        self,
        store: PolicyStore,
        lists: ListStore,
        ruler: Ruler,
        compile_text: Compile,
        seed: KeptPolicy,
        scorer_id: str,
        told: Told,
        poll_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        """Take the stores and the ruler.

        Args:
            store: Where policies stand.
            lists: Where lists stand.
            ruler: It rules by `seed` already.
            compile_text: Checks and compiles.
            seed: What an empty store begins with: the policy file of this deployment.
            scorer_id: Name under which this process is listed.
            told: Who hears of it.
            poll_s: Pause between two looks: a change is followed after so long at most.
            now_ms: Wall clock.
        """
        self._store = store
        self._lists = lists
        self.ruler = ruler
        self._compile = compile_text
        self._seed = seed
        self._scorer_id = scorer_id
        self._told = told
        self._poll_s = poll_s
        self._now_ms = now_ms
        self._seen = ("", -1)  # digest and revision
        self._position: str | None = None
        self._failed: set[str] = set()
        self.refused = ""
        self.loaded = asyncio.Event()

    async def step(self) -> None:
        """Look once: 1 tell of halts · 2 the policy · 3 switches · 4 lists · 5 report.

        Raises:
            PolicyStoreUnavailable, ListsUnavailable: The store did not answer.
        """
        self._tell_failures()
        await self._tell_halts()
        standing = await self._store.standing()
        if standing.active == 0:
            with contextlib.suppress(PolicyConflict):  # another scorer was faster
                await self._store.apply(self._seed, 0)
            standing = await self._store.standing()
        digest, revision = self._seen
        if standing.digest != digest:
            await self._follow(standing.active, standing.digest)
        if standing.revision != revision:
            self.ruler.switch(await self._store.switches())
        self._seen = (standing.digest, standing.revision)
        await self._follow_lists()
        book = self.ruler.book
        mine = ScorerPolicy(version=book.policy.version, digest=book.digest, refused=self.refused)
        await self._store.report(self._scorer_id, mine)
        self.loaded.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Step until told to stop; an absent store is waited for."""
        while not stopping.is_set():
            try:
                await self.step()
            except (PolicyStoreUnavailable, ListsUnavailable) as error:
                self._told.policy_store_failed(str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await stopping.wait()

    async def _follow(self, version: int, digest: str) -> None:
        if digest == self.ruler.book.digest:
            self.refused = ""
            self._told.policy_activated(version, digest)
            return
        try:
            kept = await self._store.read(version)
            book = await asyncio.to_thread(self._compile, kept.text, f"policy version {version}")
        except (NoPolicy, PolicyError) as error:
            self.refused = str(error)
            self._told.policy_refused(version, str(error))
            return
        self.refused = ""
        self.ruler.use(book)
        self._failed.clear()
        self._told.policy_activated(version, book.digest)

    async def _tell_halts(self) -> None:
        """Switch off in the store what this process halted, so that all scorers do."""
        while self.ruler.halts:
            halt = self.ruler.halts[0]
            self._told.rule_halted(halt.rule.key, halt.why)
            await self._store.switch(*self._switch_of(halt))
            self.ruler.halts.pop(0)

    def _switch_of(self, halt: Halt) -> tuple[Switch, PolicyAct]:
        rule, at_ms = halt.rule, self._now_ms()
        switch = Switch(
            rule=rule.id,
            kind="halted",
            version=rule.version,
            by=self._scorer_id,
            why=halt.why,
            at_ms=at_ms,
        )
        act = PolicyAct(
            act="halt",
            version=self.ruler.book.policy.version,
            subject=rule.key,
            by=self._scorer_id,
            why=halt.why,
            at_ms=at_ms,
        )
        return switch, act

    def _tell_failures(self) -> None:
        for rule, detail in self.ruler.errors.items():
            if rule not in self._failed:
                self._failed.add(rule)
                self._told.rule_failed(rule, detail)

    async def _follow_lists(self) -> None:
        if self._position is None:
            await self._load_lists()
        while True:
            assert self._position is not None
            try:
                changes, self._position = await self._lists.changes_since(self._position)
            except ListsTrimmed:
                await self._load_lists()
                continue
            if not changes:
                return
            self.ruler.lists.change(changes)
            if self.ruler.lists.crowded:
                self.ruler.lists = await asyncio.to_thread(self.ruler.lists.merged)
            self._told.lists_changed(self.ruler.lists.count)

    async def _load_lists(self) -> None:
        """Read all entries into a new copy; changes meanwhile are followed from before the scan."""
        position = await self._lists.position()
        copy = ListCopy()
        async for entries in self._lists.scan():
            await asyncio.to_thread(copy.load, entries)
        await asyncio.to_thread(copy.settle)
        self.ruler.lists = copy
        self._position = position
        self._told.lists_changed(copy.count)

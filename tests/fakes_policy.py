"""The policy store and the lists, in memory."""

from collections.abc import AsyncIterator, Mapping, Sequence

from models.policy_lists import (
    ENTRIES_MAX,
    LISTS,
    ListChange,
    ListEntry,
    ListKey,
    ListName,
    ListsFull,
    ListsTrimmed,
    ListsUnavailable,
)
from models.policy_store import (
    HISTORY_MAX,
    VERSIONS_KEPT,
    KeptPolicy,
    NoPolicy,
    PolicyAct,
    PolicyConflict,
    PolicyStanding,
    PolicyStoreUnavailable,
    ScorerPolicy,
    Switch,
)


class MemoryPolicyStore:
    """Policies in dictionaries; it can be away."""

    def __init__(self) -> None:
        self.at = PolicyStanding()
        self.kept: dict[int, KeptPolicy] = {}
        self.off: dict[str, Switch] = {}
        self.acts: list[PolicyAct] = []
        self.reports: dict[str, ScorerPolicy] = {}
        self.away = False

    async def standing(self) -> PolicyStanding:
        if self.away:
            raise PolicyStoreUnavailable("nobody listens")
        return self.at

    async def read(self, version: int) -> KeptPolicy:
        if version not in self.kept:
            raise NoPolicy(f"policy version {version} is not in the store")
        return self.kept[version]

    async def apply(self, policy: KeptPolicy, expected: int) -> None:
        if self.at.active != expected:
            raise PolicyConflict(f"version {self.at.active} counts, not {expected}")
        if policy.version <= self.at.latest:
            raise PolicyConflict(f"version {policy.version} is not above {self.at.latest}")
        self.kept[policy.version] = policy
        for version in sorted(self.kept)[:-VERSIONS_KEPT]:
            del self.kept[version]
        self._move(policy.version, policy.digest, policy.version)
        self._note(
            PolicyAct(
                act="apply",
                version=policy.version,
                digest=policy.digest,
                by=policy.by,
                why=policy.why,
                at_ms=policy.at_ms,
            )
        )

    async def rollback(self, act: PolicyAct, expected: int) -> None:
        if self.at.active != expected:
            raise PolicyConflict(f"version {self.at.active} counts, not {expected}")
        if act.version not in self.kept:
            raise NoPolicy(f"policy version {act.version} is not in the store")
        self._move(act.version, act.digest, self.at.latest)
        self._note(act)

    async def versions(self) -> list[KeptPolicy]:
        return [self.kept[version] for version in sorted(self.kept, reverse=True)]

    async def switches(self) -> dict[str, Switch]:
        return dict(self.off)

    async def switch(self, switch: Switch, act: PolicyAct) -> None:
        self.off[switch.rule] = switch
        self._move(self.at.active, self.at.digest, self.at.latest)
        self._note(act)

    async def resume(self, rule: str, act: PolicyAct) -> bool:
        if self.off.pop(rule, None) is None:
            return False
        self._move(self.at.active, self.at.digest, self.at.latest)
        self._note(act)
        return True

    async def note(self, act: PolicyAct) -> None:
        self._note(act)

    async def history(self) -> Sequence[PolicyAct]:
        return list(self.acts)

    async def report(self, scorer_id: str, scorer: ScorerPolicy) -> None:
        self.reports[scorer_id] = scorer

    async def scorers(self) -> Mapping[str, ScorerPolicy]:
        return dict(self.reports)

    def _move(self, active: int, digest: str, latest: int) -> None:
        revision = self.at.revision + 1
        self.at = PolicyStanding(active=active, digest=digest, latest=latest, revision=revision)

    def _note(self, act: PolicyAct) -> None:
        self.acts = [act, *self.acts][:HISTORY_MAX]


class MemoryLists:
    """Lists in a dictionary, with a log of changes that can be cut and a store that can be away."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self.entries: dict[tuple[str, str, str, str], ListEntry] = {}
        self.log: list[list[ListChange]] = []
        self.cut = 0
        self.away = False
        self._entries_max = entries_max

    async def put_many(self, entries: Sequence[ListEntry]) -> int:
        fresh = {_place(entry) for entry in entries} - self.entries.keys()
        if len(self.entries) + len(fresh) > self._entries_max:
            raise ListsFull(f"lists hold at most {self._entries_max} entries")
        self.entries |= {_place(entry): entry for entry in entries}
        self.log.append([ListChange(entry, entry) for entry in entries])
        return len(fresh)

    async def remove_many(self, keys: Sequence[ListKey]) -> int:
        found = [key for key in keys if self.entries.pop(_place(key), None) is not None]
        if found:
            self.log.append([ListChange(key, None) for key in keys])
        return len(found)

    async def find(self, keys: Sequence[ListKey]) -> list[ListEntry | None]:
        return [self.entries.get(_place(key)) for key in keys]

    async def scan(self) -> AsyncIterator[list[ListEntry]]:
        entries = list(self.entries.values())
        for at in range(0, max(len(entries), 1), 2):
            yield entries[at : at + 2]

    async def counts(self) -> Mapping[ListName, int]:
        return {name: sum(e.list == name for e in self.entries.values()) for name in LISTS}

    async def position(self) -> str:
        return f"{len(self.log)}"

    async def changes_since(self, position: str) -> tuple[list[ListChange], str]:
        if self.away:
            raise ListsUnavailable("nobody listens")
        at = int(position)
        if at < self.cut or at > len(self.log):
            raise ListsTrimmed("the log is shorter")
        changes = [change for batch in self.log[at : at + 50] for change in batch]
        return changes, f"{min(at + 50, len(self.log))}"


def _place(key: ListKey) -> tuple[str, str, str, str]:
    return key.list, key.tenant, key.entity, key.id

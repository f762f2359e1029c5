"""The policy that counts in the store is followed, or refused by name while the old one stays."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from api.policy_watch import PolicyWatcher
from models.policy_cel import CelCompiler
from models.policy_lists import ListEntry, ListKey
from models.policy_ruling import Rulebook, Ruler, Scored, compile_policy
from models.policy_store import KeptPolicy, PolicyAct, Switch
from tests.builders_policy import NOW_MS, a_payment, demand, rules_text, small_spec
from tests.fakes_policy import MemoryLists, MemoryPolicyStore


class Ear:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def policy_activated(self, version: int, digest: str) -> None:
        self.heard.append(("activated", version))

    def policy_refused(self, version: int, detail: str) -> None:
        self.heard.append(("refused", version, detail))

    def rule_halted(self, rule: str, why: str) -> None:
        self.heard.append(("halted", rule))

    def rule_failed(self, rule: str, detail: str) -> None:
        self.heard.append(("failed", rule, detail))

    def lists_changed(self, entries: int) -> None:
        self.heard.append(("lists", entries))

    def policy_store_failed(self, detail: str) -> None:
        self.heard.append(("away", detail))


class Stage:
    """Two scorers over one store."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.store, self.lists = MemoryPolicyStore(), MemoryLists()
        self.ears = [Ear(), Ear()]
        self.scorers = [self.a_scorer(name, ear) for name, ear in zip("ab", self.ears, strict=True)]

    def kept(self, version: int, *rules: str) -> KeptPolicy:
        text = rules_text(*rules).replace("version: 3", f"version: {version}")
        return self.of_text(version, text)

    def of_text(self, version: int, text: str) -> KeptPolicy:
        return KeptPolicy(
            version=version, digest=f"{hash(text)}", text=text, by="ann", why="w", at_ms=1
        )

    def compile(self, text: str, name: str) -> Rulebook:
        return compile_policy(text, name, self.spec, CelCompiler)

    def a_scorer(self, name: str, ear: Ear) -> PolicyWatcher:
        seed_book = self.compile(rules_text(), "policy.yaml")
        seed = KeptPolicy(
            version=3, digest=seed_book.digest, text=rules_text(), by="me", why="new", at_ms=1
        )
        return PolicyWatcher(
            self.store,
            self.lists,
            Ruler(self.spec, seed_book),
            self.compile,
            seed,
            name,
            ear,
            0.01,
            lambda: NOW_MS,
        )

    async def step(self) -> None:
        for scorer in self.scorers:
            await scorer.step()

    def outcomes(self, p: float = 0.1) -> list[str]:
        X = np.ones((1, self.spec.n_features), np.float32)
        scored = Scored([p], [float("nan")])
        return [
            scorer.ruler.rule_many([a_payment()], X, scored, NOW_MS)[0].outcome
            for scorer in self.scorers
        ]

    def versions(self) -> list[int]:
        return [scorer.ruler.book.policy.version for scorer in self.scorers]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return small_spec(tmp_path_factory.mktemp("spec"))


@pytest.fixture
def stage(spec: Any) -> Iterator[Stage]:
    yield Stage(spec)


async def test_an_empty_store_begins_with_the_file_of_one_scorer(stage: Stage) -> None:
    await stage.step()
    assert (stage.store.at.active, len(stage.store.acts)) == (3, 1)
    assert stage.versions() == [3, 3]
    assert all(scorer.loaded.is_set() for scorer in stage.scorers)
    assert {name: told.version for name, told in stage.store.reports.items()} == {"a": 3, "b": 3}


async def test_an_applied_policy_counts_in_every_scorer_and_a_rollback_too(stage: Stage) -> None:
    await stage.step()
    await stage.store.apply(stage.kept(4, demand("r", "decline")), 3)
    await stage.step()
    assert (stage.versions(), stage.outcomes()) == ([4, 4], ["decline", "decline"])
    back = stage.store.kept[3]
    act = PolicyAct(act="rollback", version=3, digest=back.digest, by="b", why="w", at_ms=2)
    await stage.store.rollback(act, 4)
    await stage.step()
    assert (stage.versions(), stage.outcomes()) == ([3, 3], ["approve", "approve"])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("version: 4\n", "policy version 4:1: (top): Object missing required field"),
        ("[", "policy version 4:1: not YAML"),
        (rules_text('id: r, when: "nosuch", outcome: review'), "unknown name nosuch"),
    ],
)
async def test_a_policy_that_is_none_is_refused_by_name_and_replaces_nothing(
    stage: Stage, text: str, fault: str
) -> None:
    await stage.step()
    await stage.store.apply(stage.of_text(4, text), 3)
    await stage.step()
    await stage.step()
    assert (stage.versions(), stage.outcomes(0.9)) == ([3, 3], ["decline", "decline"])
    for ear in stage.ears:  # said once, not at every look
        [refusal] = [told for told in ear.heard if told[0] == "refused"]
        assert refusal[1] == 4 and fault in refusal[2]
    assert fault in stage.store.reports["a"].refused
    await stage.store.apply(stage.kept(5), 4)
    await stage.step()
    assert (stage.versions(), stage.store.reports["a"].refused) == ([5, 5], "")


async def test_a_store_that_is_away_leaves_everything_as_it_is(stage: Stage) -> None:
    await stage.step()
    stage.store.away = True
    stopping = asyncio.Event()
    running = asyncio.create_task(stage.scorers[0].run(stopping))
    async with asyncio.timeout(10):
        while ("away", "nobody listens") not in stage.ears[0].heard:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert stage.outcomes(0.9) == ["decline", "decline"]
    stage.store.away = False
    await stage.store.apply(stage.kept(4, demand("r", "challenge")), 3)
    async with asyncio.timeout(10):
        while stage.versions()[0] != 4:  # noqa: ASYNC110 - with a deadline
            await asyncio.sleep(0.005)
    stopping.set()
    await running


async def test_a_rule_halted_by_one_scorer_is_halted_in_all_until_it_is_resumed(
    stage: Stage,
) -> None:
    await stage.step()
    rule = demand("r", "decline", ", limit: {per_minute: 2}")
    await stage.store.apply(stage.kept(4, rule), 3)
    await stage.step()
    for _ in range(3):
        stage.scorers[0].ruler.rule_many([a_payment()], None, None, NOW_MS)
    await stage.step()
    assert ("halted", "r@1") in stage.ears[0].heard
    assert stage.store.off["r"].kind == "halted"
    assert stage.outcomes() == ["approve", "approve"]
    act = PolicyAct(act="resume", subject="r", by="b", why="w", at_ms=2)
    assert await stage.store.resume("r", act)
    await stage.step()
    assert stage.outcomes() == ["decline", "decline"]


async def test_a_snooze_reaches_every_scorer(stage: Stage) -> None:
    await stage.step()
    await stage.store.apply(stage.kept(4, demand("r", "decline")), 3)
    snooze = Switch(rule="r", kind="snoozed", until_ms=NOW_MS + 1, by="b", why="w", at_ms=1)
    act = PolicyAct(act="snooze", subject="r", by="b", why="w", at_ms=1)
    await stage.store.switch(snooze, act)
    await stage.step()
    assert stage.outcomes() == ["approve", "approve"]


async def test_a_rule_that_fails_is_named_once(stage: Stage) -> None:
    await stage.step()
    await stage.store.apply(
        stage.kept(4, 'id: r, when: "1 / (amount.value - 1000) > 0", outcome: review'), 3
    )
    for _ in range(3):
        await stage.step()
        stage.outcomes()
    failures = [told for told in stage.ears[0].heard if told[0] == "failed"]
    assert failures == [("failed", "r@1", "divide by zero")]


async def test_lists_are_followed_entry_by_entry_and_read_again_when_the_log_was_cut(
    stage: Stage,
) -> None:
    entry = ListEntry(list="deny", entity="card", id="c1")
    key = ListKey(list="deny", entity="card", id="c1")
    await stage.lists.put_many([entry])
    await stage.step()
    assert stage.outcomes() == ["decline", "decline"]
    await stage.lists.remove_many([key])
    await stage.step()
    assert stage.outcomes() == ["approve", "approve"]
    await stage.lists.put_many([entry])
    stage.lists.cut = len(stage.lists.log)
    await stage.step()
    assert stage.outcomes() == ["decline", "decline"]


async def test_very_many_changes_are_sorted_in(stage: Stage, monkeypatch: Any) -> None:
    monkeypatch.setattr("models.policy_list_copy.MERGE_AT", 3)
    await stage.step()
    entries = [ListEntry(list="watch", entity="card", id=f"c{i}") for i in range(8)]
    await stage.lists.put_many(entries)
    await stage.step()
    assert not stage.scorers[0].ruler.lists.crowded
    assert stage.outcomes() == ["review", "review"]
    assert ("lists", 8) in stage.ears[0].heard

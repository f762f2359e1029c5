"""A registry, a store of rollouts and workers beside each other, all in memory."""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from api.rollout_counts import ArmTally
from api.rollout_keep import KeepRules, RolloutKeeper
from api.rollout_lines import CandidateLoader, Line, LineNews, Lines, SwitchedScorer
from api.seen import Asked
from api.watch import WeightsWatcher
from features.spec import Spec
from models.decision import DecisionRecord, Source
from models.registry import RegistryUnavailable
from models.rollout import MAIN, Plan, RolloutAct, RolloutState, Target
from models.rollout_acts import start
from models.rollout_limits import Limits
from models.scorer_local import LocalScorer
from models.signing import Signer
from models.weights import Weights, encode
from tests.builders_rollout import a_plan
from tests.builders_weights import probed, some_weights
from tests.fakes_registry import MemoryWeightsRegistry
from tests.fakes_rollout import MemoryRolloutStore
from tests.fakes_serving import Stand, a_stand, an_event

HTTP = Source(door="http", topic="t.events.v1")
BLIND_S = 30.0


class Ear:
    def __init__(self) -> None:
        self.acts: list[RolloutAct] = []
        self.seen = 0
        self.blind = 0

    def rollout_changed(self, act: RolloutAct) -> None:
        self.acts.append(act)

    def rollout_seen(self, state: RolloutState) -> None:
        self.seen += 1

    def rollout_blind(self, detail: str) -> None:
        self.blind += 1


class Deaf:
    def weights_activated(self, weights: Weights, label_appends_ms: Any) -> None: ...

    def weights_refused(self, version: int, gate: str, detail: str) -> None: ...

    def fleet_seen(self, versions: Any) -> None: ...

    def registry_failed(self, detail: str) -> None: ...


class Store(MemoryRolloutStore):
    """May be away."""

    away = False

    async def read(self) -> RolloutState:
        if self.away:
            raise RegistryUnavailable("nobody listens")
        return await super().read()


@dataclasses.dataclass
class Town:
    """What workers share: shelves, the state, the wall clock."""

    folder: Path
    signer: Signer
    store: Store
    shelves: dict[str, MemoryWeightsRegistry]
    now_ms: int = 0
    tick_s: float = 0.0

    def registry_of(self, line: str) -> MemoryWeightsRegistry:
        return self.shelves.setdefault(line, MemoryWeightsRegistry(keep_versions=3))

    async def publish(self, spec: Spec, version: int, line: str = MAIN, shift: float = 0.0) -> None:
        model = "champion" if line == MAIN else line
        weights = some_weights(spec.digest, spec.n_features, version=version, seed=1)
        lanes = [msgspec.structs.replace(lane, b=lane.b + shift) for lane in weights.lanes]
        weights = probed(dataclasses.replace(weights, model=model, lanes=tuple(lanes)))
        await self.registry_of(line).publish(version, encode(weights, self.signer))

    async def roll(self, text: Target, plan: Plan) -> RolloutState:
        return await start(self.store, self.registry_of, text, plan, "ann", "a try", self.now_ms)


@dataclasses.dataclass
class Worker:
    """One worker: its step, and what keeps it on the state."""

    stand: Stand
    keeper: RolloutKeeper
    watcher: WeightsWatcher
    lines: Lines
    tally: ArmTally
    ear: Ear
    switched: SwitchedScorer
    followed: dict[str, WeightsWatcher]
    paid: int = 0

    async def step(self) -> None:
        """Follow all lines, and take one step."""
        await self.watcher.step(0.0)
        for watcher in list(self.followed.values()):
            await watcher.step(0.0)
        await self.keeper.step()

    async def pay(self, count: int = 200) -> list[DecisionRecord]:
        names = range(self.paid, self.paid + count)
        self.paid += count
        asked = [Asked(an_event(f"p{i}", card=f"c{i}", merchant="m"), HTTP) for i in names]
        records = await self.stand.decider.decide_many(asked, 5.0)
        self.tally.observe(records)
        return records


class Quiet:
    """Follows a line only when the test says so."""

    async def run(self, stopping: asyncio.Event) -> None:
        await stopping.wait()


def a_worker(town: Town, name: str) -> Worker:
    folder = town.folder / name
    folder.mkdir()
    stand = a_stand(folder)
    spec, keys = stand.spec, (town.signer.public_key,)
    switched, ear, tally = SwitchedScorer(stand.scorer), Ear(), ArmTally()
    stand.decider._scorer = switched
    followed: dict[str, WeightsWatcher] = {}

    def open_line(line_name: str, line: Line) -> Quiet:
        news = LineNews(line, lambda detail: None)
        followed[line_name] = WeightsWatcher(line.registry, line.scorer, keys, name, news, 0.0)
        return Quiet()

    def make_line(line_name: str) -> Line:
        scorer = LocalScorer(spec.digest, spec.n_features, "test", "cpu")
        return Line(town.registry_of(line_name), scorer)

    main = town.registry_of(MAIN)
    lines = Lines(MAIN, Line(main, stand.scorer), open_line, make_line)
    keeper = RolloutKeeper(
        KeepRules(worker=name, step_s=0.001, lease_ttl_s=60.0, blind_s=BLIND_S),
        spec,
        town.store,
        stand.rollouts,
        tally,
        lines,
        switched,
        lambda line, target: CandidateLoader(line, target, keys),
        ear,
        lambda: town.now_ms,
        lambda: town.tick_s,
    )
    watcher = WeightsWatcher(main, stand.scorer, keys, name, Deaf(), 0.0)
    return Worker(stand, keeper, watcher, lines, tally, ear, switched, followed)


RIVAL = Target(line="rival")
QUICK = Limits(compare_min=100, model_ms_free=1e9)


def quick(*shares: float, **changes: Any) -> Plan:
    return a_plan(shares, limits=QUICK, **changes)


def models(records: list[DecisionRecord]) -> set[str]:
    return {record.model.name for record in records if record.model is not None}


async def live(town: Town, worker: Worker, until: Callable[[RolloutState], bool]) -> RolloutState:
    """Let payments and time go by; a rollout that does not come to its end fails the test."""
    for _ in range(40):
        await worker.step()
        await worker.pay()
        await worker.step()
        town.now_ms += 60_000
        state = await town.store.read()
        if until(state):
            return state
    raise AssertionError(state)


def over(state: RolloutState) -> bool:
    return state.rollout is not None and not state.rollout.running

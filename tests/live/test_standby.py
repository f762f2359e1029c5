"""Learner processes that stand by, are refused, are frozen and killed; and `riskbeat model`."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from api.watch import WeightsWatcher
from features.spec import Spec
from models.scorer_local import LocalScorer
from models.signing import load_public_keys
from models.weights import Weights
from tests.live.learning import ROOT, Place, caught_up, feed, published, until

pytestmark = pytest.mark.live

TTL_S = 1.0
COMMAND = "import sys; from riskbeat.__main__ import main; sys.argv[0] = 'riskbeat'; main()"


async def riskbeat(place: Place, *arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and all that it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        COMMAND,
        *arguments,
        cwd=ROOT,
        env=place.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def listed(place: Place) -> dict[str, Any]:
    code, output = await riskbeat(place, "model", "list", "--json")
    assert code == 0, output
    found: dict[str, Any] = json.loads(output)
    return found


async def stopped(process: asyncio.subprocess.Process) -> int | None:
    process.send_signal(signal.SIGTERM)
    return await process.wait()


async def waits(place: Place) -> bool:
    return "learn.standby" in place.log.read_text()


@pytest.fixture
def quick(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("RISKBEAT_LEARN_LEASE_TTL_S", str(TTL_S))
    return place


async def test_a_standby_goes_on_where_a_killed_learner_ended(quick: Place) -> None:
    first = await quick.learner()
    await until(lambda: published(quick, 1))
    standby = await quick.learner("--standby")
    await until(lambda: waits(quick))
    await feed(quick, 0, 60)
    await until(lambda: caught_up(quick))
    async with quick.registry() as registry:
        before = await registry.latest_version()
        owner = await registry.lease_owner()
    first.send_signal(signal.SIGKILL)
    await first.wait()
    await feed(quick, 60, 120)
    await until(lambda: caught_up(quick))
    async with quick.registry() as registry:
        assert await registry.latest_version() > before
        assert await registry.lease_owner() not in ("", owner)
    assert await stopped(standby) == 0
    code, output = await riskbeat(quick, "model", "verify", "--json")
    assert code == 0, output
    assert json.loads(output.splitlines()[-1])["different"] == 0
    async with quick.registry() as registry:
        assert await registry.lease_owner() == ""


async def test_a_standby_of_the_same_machine_does_not_wait_for_a_dead_ones_lease(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease would live longer than this test waits."""
    monkeypatch.setenv("RISKBEAT_LEARN_LEASE_TTL_S", "600")
    first = await place.learner()
    await until(lambda: published(place, 1))
    standby = await place.learner("--standby")
    await until(lambda: waits(place))
    first.send_signal(signal.SIGKILL)
    await first.wait()
    await feed(place, 0, 30)
    await until(lambda: caught_up(place))
    assert await stopped(standby) == 0


async def test_a_standby_takes_over_at_once_from_a_learner_that_stops(quick: Place) -> None:
    first = await quick.learner()
    await until(lambda: published(quick, 1))
    standby = await quick.learner("--standby")
    await until(lambda: waits(quick))
    assert await stopped(first) == 0
    await feed(quick, 0, 30)
    await until(lambda: caught_up(quick))
    assert await stopped(standby) == 0


async def test_a_standby_that_is_asked_to_stop_stops(quick: Place) -> None:
    first = await quick.learner()
    await until(lambda: published(quick, 1))
    standby = await quick.learner("--standby")
    await until(lambda: waits(quick))
    assert await stopped(standby) == 0
    assert await stopped(first) == 0


async def test_a_learner_on_another_disk_is_refused_by_name(quick: Place, tmp_path: Path) -> None:
    first = await quick.learner()
    await until(lambda: published(quick, 1))
    other = quick.on_another_disk(tmp_path / "other")
    second = await other.learner()
    assert await second.wait() == 3
    assert "LeaseHeld" in quick.log.read_text()
    assert first.returncode is None
    assert await stopped(first) == 0


async def test_a_learner_whose_lease_was_taken_stops_by_name(quick: Place) -> None:
    first = await quick.learner()
    await until(lambda: published(quick, 1))
    async with quick.registry() as registry:
        owner = await registry.lease_owner()
        assert await registry.take_lease("a rival", 60.0, instead_of=owner) == "a rival"
        latest = await registry.latest_version()
        assert await first.wait() == 3
        assert await registry.latest_version() == latest
    assert "LeaseLost" in quick.log.read_text()


async def test_freeze_and_thaw_reach_a_running_learner(place: Place) -> None:
    learner = await place.learner()
    await until(lambda: published(place, 1))
    code, output = await riskbeat(place, "model", "freeze", "--why", "a release", "--by", "ann")
    assert code == 0, output
    before = (await listed(place))["latest"]
    await feed(place, 0, 60)
    await until(lambda: caught_up(place))
    found = await listed(place)
    assert found["latest"] == before
    assert (found["frozen"]["by"], found["frozen"]["why"]) == ("ann", "a release")
    assert place.log.read_text().count("publishing.frozen") == 1
    code, output = await riskbeat(place, "model", "thaw", "--why", "done")
    assert code == 0, output
    await until(lambda: published(place, before + 1))
    assert (await listed(place))["frozen"] is None
    code, output = await riskbeat(place, "model", "thaw", "--why", "again")
    assert (code, output) == (2, "riskbeat: publishing is not frozen\n")
    assert await stopped(learner) == 0
    code, output = await riskbeat(place, "model", "verify", "--json")
    assert code == 0, output


async def test_what_people_see_of_versions(place: Place) -> None:
    learner = await place.learner()
    await until(lambda: published(place, 1))
    for start in (0, 60):
        await feed(place, start, start + 60)
        await until(lambda: caught_up(place))
    assert await stopped(learner) == 0
    found = await listed(place)
    latest = found["latest"]
    assert found["active"] == latest
    assert found["versions"][0]["labels_learned"] == 40
    code, output = await riskbeat(place, "model", "show", "latest", "--json")
    assert (code, json.loads(output)["version"]) == (0, latest)
    assert json.loads(output)["result"] == found["versions"][0]["result"]
    code, output = await riskbeat(place, "model", "diff", "1", "latest", "--json")
    assert (code, json.loads(output)["labels_learned"]) == (0, 40)
    code, output = await riskbeat(place, "model", "diff", "latest", "latest")
    assert (code, output.splitlines()[-1]) == (0, "all arrays are equal, bit for bit")
    code, output = await riskbeat(place, "model", "rollback", "--why", "alerts doubled")
    assert (code, output) == (
        0,
        f"rolled back: pinned version {latest - 1}; no scorer is running\n",
    )
    found = await listed(place)
    assert (found["active"], found["pinned"]) == (latest - 1, True)
    assert found["last_act"]["why"] == "alerts doubled"
    for wrong in ("999999", "newest"):
        code, output = await riskbeat(place, "model", "pin", wrong, "--why", "x")
        assert code == 2
        assert output.startswith("riskbeat: ")
        assert output.count("\n") == 1


class Ear:
    def __init__(self) -> None:
        self.activated: list[int] = []

    def weights_activated(self, weights: Weights, label_appends_ms: Sequence[int]) -> None:
        self.activated.append(weights.version)

    def weights_refused(self, version: int, gate: str, detail: str) -> None:
        raise AssertionError(f"{gate} refused {version}: {detail}")

    def fleet_seen(self, versions: Mapping[str, int]) -> None:
        assert versions

    def registry_failed(self, detail: str) -> None:
        raise AssertionError(detail)


async def test_pin_rollback_and_unpin_reach_a_running_scorer(place: Place) -> None:
    learner = await place.learner()
    await until(lambda: published(place, 1))
    for start in (0, 60, 120):
        await feed(place, start, start + 60)
        await until(lambda: caught_up(place))
    assert await stopped(learner) == 0
    ear, stopping = Ear(), asyncio.Event()
    async with place.registry() as registry:
        latest = await registry.latest_version()
        spec = Spec.load(ROOT / "features.yaml")
        scorer = LocalScorer(spec.digest, spec.n_features, "test", "cpu")
        keys = load_public_keys(place.folder / "public.pem")
        watcher = WeightsWatcher(registry, scorer, keys, "serve-1", ear, 0.2)
        running = asyncio.create_task(watcher.run(stopping))
        await watcher.loaded.wait()
        for words, version in (
            (["pin", "2"], 2),
            (["rollback"], 1),
            (["unpin"], latest),
        ):
            code, output = await riskbeat(place, "model", *words, "--why", "a test")
            assert code == 0, output
            assert output.endswith(f"version {version}; 1 of 1 scorers answer with it\n")
            assert watcher.active == version
        stopping.set()
        await running
    assert ear.activated == [latest, 2, 1, latest]

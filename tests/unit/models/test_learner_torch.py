"""How a stack of networks learns; laws of every learner stand in tests/contract/test_learner.py."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.evaluation import roc_auc
from models.learner import Category, Part, Rows, StateMismatch
from models.learner_torch import NetworkLearner
from models.member_torch import Stack
from models.recipe import Recipe
from tests.builders_rows import LaneOf, N, normalised, some_rows

CATEGORIES = (Category("mcc", 4, 300), Category("merchant", 5, 5000))


def teach(lane: LaneOf, learner: NetworkLearner, rows: Rows, size: int = 64) -> None:
    for start in range(0, len(rows), size):
        part = rows.part(slice(start, start + size))
        learner.learn_many(part)
        lane.remember(part)


def taught(lane: LaneOf, count: int = 4000, seed: int = 0) -> NetworkLearner:
    learner = NetworkLearner(lane.context)
    teach(lane, learner, some_rows(count, seed))
    return learner


def with_categories(count: int, seed: int) -> Rows:
    """Frauds are a handful of merchants, whatever the amounts are; some are missing or unknown."""
    rows = some_rows(count, seed)
    draws = np.random.default_rng(seed + 1000)
    X = rows.X.copy()
    X[:, 4] = draws.integers(0, 300, count)
    X[:, 5] = draws.integers(0, 60, count) * 83
    y = (X[:, 5] < 5 * 83).astype(np.uint8)
    X[::50, 4], X[1::50, 4], X[2::50, 4] = np.nan, 300, -1
    z = normalised(X)
    z[:, 4:] = 0.0
    return replace(rows, X=X, z=z, y=y)


def by_hand(part: Part, X: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float64]:
    """The forward pass that the format states, network by network, in float64."""
    a = {name: array.astype(np.float64) for name, array in part.arrays.items()}
    tables = sorted(int(name[6:]) for name in a if name.startswith("embed."))
    x = z.astype(np.float64)
    for column in tables:
        table = a[f"embed.{column}"]
        index = [int(v) if 0 <= v < len(table) else 0 for v in X[:, column]]
        x = np.concatenate([x, table[index]], axis=1)
    logits = []
    for k in range(len(a["b2"])):
        first = np.maximum(x @ a["w0"][k].T + a["b0"][k], 0)
        second = np.maximum(first @ a["w1"][k].T + a["b1"][k], 0)
        logits.append(second @ a["w2"][k] + a["b2"][k] + z @ a["linear"][k])
    return np.asarray(np.mean(logits, axis=0) + math.log(part.beta))


def test_the_slope_written_by_hand_is_the_one_of_a_tape() -> None:
    recipe = Recipe(
        networks=3, hidden_0=5, hidden_1=4, optimizer="adagrad", averaging=0, slope_max=1e6
    )
    stack = Stack(N, 2, recipe, seed=3)
    draws = torch.Generator().manual_seed(1)
    stack.flat.copy_(torch.randn(stack.flat.shape, generator=draws))
    x = torch.randn((N + 2, 17), generator=draws)
    y = (torch.rand(17, generator=draws) < 0.5).float()
    w = torch.rand(17, generator=draws) / 17
    named = {name: torch.from_numpy(a).requires_grad_() for name, a in stack.arrays().items()}
    seen = x.clone().requires_grad_()
    first = torch.relu(named["w0"] @ seen + named["b0"][:, :, None])
    second = torch.relu(named["w1"] @ first + named["b1"][:, :, None])
    logit = (named["w2"][:, None] @ second)[:, 0] + named["b2"][:, None]
    logit = logit + named["linear"] @ seen[:N]
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logit, y.expand(3, -1), weight=w.expand(3, -1), reduction="sum"
    )
    losses.backward()  # type: ignore[no-untyped-call]
    before = stack.flat.clone()
    of_embedded = stack.learn(x, y, w, rate=1.0)
    # AdaGrad's first step is the slope's sign, and its memory the slope's square
    wanted = torch.cat([tensor.grad.flatten() for tensor in named.values()])  # type: ignore[union-attr]
    assert stack.second.sqrt() == pytest.approx(wanted.abs(), abs=1e-6)
    moved = wanted.abs() > 1e-5
    assert (before - stack.flat)[moved].sign().equal(wanted[moved].sign())
    assert seen.grad is not None
    assert of_embedded == pytest.approx(seen.grad[N:] - 0.0, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_an_optimizers_steps_are_those_of_torch(optimizer: str) -> None:
    rate = 0.01
    recipe = Recipe(
        networks=1, hidden_0=4, hidden_1=3, optimizer=optimizer, averaging=0, slope_max=1e6
    )
    stack = Stack(N, 0, recipe, seed=3)
    flat = stack.flat.clone().requires_grad_()
    theirs: torch.optim.Optimizer = (
        torch.optim.Adam([flat], lr=rate, eps=1e-8)
        if optimizer == "adam"
        else torch.optim.Adagrad([flat], lr=rate, eps=1e-8)
    )
    rows = some_rows(160)
    for start in range(0, 160, 16):
        x = torch.from_numpy(rows.z[start : start + 16].T.copy())
        y = torch.from_numpy(rows.y[start : start + 16].astype(np.float32))
        linear, w0, b0, w1, b1, w2, b2 = torch.split(flat, [N, 4 * N, 4, 12, 3, 3, 1])
        hidden = torch.relu(
            w1.view(3, 4) @ torch.relu(w0.view(4, N) @ x + b0[:, None]) + b1[:, None]
        )
        logit = w2 @ hidden + b2 + linear @ x
        theirs.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logit, y).backward()  # type: ignore[no-untyped-call]
        theirs.step()
        stack.learn(x, y, torch.full((16,), 1 / 16), rate)
        assert stack.flat.numpy() == pytest.approx(flat.detach().numpy(), abs=2e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"networks": 3, "hidden_0": 12, "hidden_1": 7},
        {"averaging": 100, "weight_decay": 0.01},
        {"beta": 0.25},
        {"optimizer": "adagrad", "learning_rate": 0.02},
    ],
    ids=str,
)
def test_a_part_means_what_the_learner_predicts(options: dict[str, float | int | str]) -> None:
    learner = taught(LaneOf(options=options))
    probe = some_rows(500, 9)
    found = learner.predict_many(probe.X, probe.z)
    assert found.dtype == np.float32
    assert roc_auc(probe.y, found.astype(np.float64)) > 0.9
    assert found == pytest.approx(by_hand(learner.snapshot(), probe.X, probe.z), abs=1e-5)


def test_what_amounts_cannot_tell_categories_do() -> None:
    lane = LaneOf(categories=CATEGORIES, options={"networks": 2, "embedding_size": 4})
    learner = NetworkLearner(lane.context)
    teach(lane, learner, with_categories(6000, 0))
    probe = with_categories(1000, 9)
    found = learner.predict_many(probe.X, probe.z)
    assert roc_auc(probe.y, found.astype(np.float64)) > 0.95
    assert found == pytest.approx(by_hand(learner.snapshot(), probe.X, probe.z), abs=1e-5)


def test_only_looked_up_rows_change_and_are_named() -> None:
    lane = LaneOf(categories=CATEGORIES, options={"rehearsed_per_row": 0})
    learner = NetworkLearner(lane.context)
    first = learner.snapshot()
    assert first.changed_rows == {}, "what a scorer holds before is unknown: compare all"
    rows = with_categories(64, 3)
    for _ in range(3):  # at first the last layer is silent, and nothing reaches a table
        learner.learn_many(rows)
    second = learner.snapshot()
    assert second.changed_rows is not None
    for column, size in ((4, 300), (5, 5000)):
        name = f"embed.{column}"
        looked_up = {int(v) if 0 <= v < size else 0 for v in rows.X[:, column]}
        assert set(second.changed_rows[name].tolist()) == looked_up
        differ = np.flatnonzero((first.arrays[name] != second.arrays[name]).any(axis=1))
        assert set(differ.tolist()) <= looked_up
        assert len(differ) > 10
    assert all(len(rows) == 0 for rows in (learner.snapshot().changed_rows or {}).values())


def test_a_checkpoint_holds_the_pages_that_changed() -> None:
    lane = LaneOf(categories=(Category("merchant", 5, 50_000),))
    learner = NetworkLearner(lane.context)
    learner.learn_many(with_categories(64, 3))
    assert set(learner.state_changes()) == {"core", *(f"embed.5/{page}" for page in range(5))}
    assert set(learner.state_changes()) == {"core"}


@pytest.mark.parametrize(
    "options",
    [
        {"networks": 2, "averaging": 50},
        {"optimizer": "adagrad", "learning_rate": 0.02, "beta": 0.5},
    ],
    ids=str,
)
def test_restored_it_goes_on_bit_for_bit(options: dict[str, float | int | str]) -> None:
    lane = LaneOf(categories=CATEGORIES, options=options)
    original, parts = NetworkLearner(lane.context), {}
    for seed in range(3):
        teach(lane, original, with_categories(700, seed))
        original.pace(1.0 + seed)
        parts |= original.state_changes()
    restored = NetworkLearner(lane.context)
    restored.learn_many(some_rows(50, 7))
    restored.restore(parts)
    assert restored.snapshot().changed_rows == {}, "unknown what a scorer holds: compare all"
    more = with_categories(500, 8)
    for learner in (original, restored):
        learner.learn_many(more)
        learner.forget_many(more.part(slice(0, 9)))
    one, other = original.snapshot(), restored.snapshot()
    assert {n: a.tobytes() for n, a in one.arrays.items()} == {
        n: a.tobytes() for n, a in other.arrays.items()
    }
    assert original.state_changes() == restored.state_changes()


@pytest.mark.parametrize(
    "other",
    [
        {"n": 7},
        {"digest": "f" * 64},
        {"seed": 9},
        {"lane": "feedback"},
        {"options": {"hidden_0": 65}},
        {"categories": (Category("mcc", 4, 30),)},
    ],
    ids=str,
)
def test_anothers_state_is_refused(other: dict[str, object]) -> None:
    parts = NetworkLearner(LaneOf().context).state_changes()
    learner = NetworkLearner(LaneOf(**other).context)  # type: ignore[arg-type]
    with pytest.raises(StateMismatch, match="the checkpoint was made by network of lane delayed"):
        learner.restore(parts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hiden": 3}, "network: there is no option 'hiden'; there are averaging=300, batch_rows="),
        ({"networks": 0}, "network: networks must lie within 1 and 16, not 0"),
        ({"networks": 1.5}, "network: networks must be int, not 1.5"),
        ({"learning_rate": "fast"}, "network: learning_rate must be float, not 'fast'"),
        (
            {"learning_rate": math.nan},
            "network: learning_rate must lie within 1e-06 and 1, not nan",
        ),
        ({"networks": True}, "network: networks must be int, not True"),
        ({"optimizer": "sgd"}, "network: optimizer must be one of adam, adagrad, not 'sgd'"),
        ({"beta": 0.0}, "network: beta must lie within 0.001 and 1, not 0"),
    ],
)
def test_a_wrong_option_is_refused_by_name(
    options: dict[str, float | int | str], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        NetworkLearner(LaneOf(options=options).context)


def test_lanes_and_seeds_begin_apart() -> None:
    firsts = {
        NetworkLearner(LaneOf(seed=seed, lane=lane).context).snapshot().arrays["w0"].tobytes()
        for seed in (1, 2)
        for lane in ("feedback", "delayed")
    }
    assert len(firsts) == 4


def test_networks_of_a_stack_differ_and_a_stack_beats_its_part_in_noise() -> None:
    learner = taught(LaneOf(options={"networks": 3}))
    w0 = learner.snapshot().arrays["w0"]
    assert len({w0[k].tobytes() for k in range(3)}) == 3


def test_thinning_is_corrected_and_keeps_every_fraud() -> None:
    plain = {"networks": 1, "averaging": 0, "learning_rate": 1e-3}
    whole, thinned = (taught(LaneOf(options=plain | {"beta": b}), 12_000) for b in (1.0, 0.2))
    probe = some_rows(4000, 9)
    p = [1 / (1 + np.exp(-le.predict_many(probe.X, probe.z))) for le in (whole, thinned)]
    assert p[0].mean() == pytest.approx(probe.y.mean(), rel=0.1)
    assert p[1].mean() == pytest.approx(probe.y.mean(), rel=0.25)
    assert thinned.snapshot().beta == 0.2


def test_thinned_rows_are_those_of_the_hash_and_teach_nothing() -> None:
    """A learner that is given only the survivors ends bit for bit where the thinning one does."""
    options: dict[str, float | int | str] = {"beta": 0.3, "rehearsed_per_row": 0}
    learners = [NetworkLearner(LaneOf(options=options).context) for _ in range(3)]
    rows = some_rows(60)
    legits = rows.part(rows.y == 0)
    for index in range(len(legits)):
        one = legits.part(slice(index, index + 1))
        before = learners[0].state_changes()
        learners[0].learn_many(one)
        if learners[0].state_changes() != before:
            learners[1].learn_many(one)
    assert 0.15 < learners[1]._stack.steps / len(legits) < 0.45
    assert learners[0].state_changes() == learners[1].state_changes()
    assert learners[0].state_changes() != learners[2].state_changes()


def test_an_events_weight_counts_as_so_many_events() -> None:
    """Five times the weight pulls as five copies do in one step."""
    options: dict[str, float | int | str] = {"rehearsed_per_row": 0, "slope_max": 1e6}
    row = some_rows(40).part(np.array([3]))
    five = row.part(np.zeros(5, np.intp))
    slopes = []
    for rows in (row.weighted(np.full(1, 5.0, np.float32)), five):
        learner = NetworkLearner(LaneOf(options=options).context)
        learner.learn_many(rows)
        slopes.append(learner._stack.first.numpy() * len(rows))
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-4, abs=1e-8)


def test_rehearsal_expects_what_the_memory_holds() -> None:
    """Frauds are drawn more often, and weigh so much less that the mean is the memory's."""
    lane = LaneOf(options={"rehearsed_min": 4000, "fraud_share": 0.4})
    learner = taught(lane, 2000)
    learner._stack.steps = 64  # the memory's fraud rate is counted anew
    held, weights = learner._rehearsed(64) or pytest.fail("a memory is there")
    assert (held["y"] == 1).mean() > 0.4
    rate = lane.memory.rows.fraud_rate
    assert weights.mean() == pytest.approx(1.0, abs=0.05)
    assert (weights * held["y"]).sum() / weights.sum() == pytest.approx(rate, rel=0.12)


@pytest.mark.parametrize(("averaging", "left"), [(0, 0.5), (20, 0.6)])
def test_what_is_forgotten_is_rehearsed_no_more_and_its_pull_is_taken_back(
    averaging: int, left: float
) -> None:
    """Held against a learner that never saw the lies: much of the distance is undone, not all.

    With averages (over 20 steps, as many as come after) the published score lags a little more.
    """

    def scores(*, lied: bool, forget: str) -> NDArray[np.float32]:
        lane = LaneOf(options={"averaging": averaging, "networks": 1, "learning_rate": 1e-3})
        learner = taught(lane, 6400)
        lies = some_rows(200, 5).part(slice(0, 100))
        lies = lies.part(lies.y == 0)
        lies = replace(lies, y=np.ones(len(lies), np.uint8))
        teach(lane, learner, lies if lied else some_rows(len(lies), 77))
        teach(lane, learner, some_rows(320, 6))
        if forget:
            lane.memory.forget(lies.ids)
        if forget == "undo":
            learner.forget_many(lies)
        teach(lane, learner, some_rows(1280, 9))
        probe = some_rows(500, 33)
        return learner.predict_many(probe.X, probe.z)

    never = scores(lied=False, forget="")
    apart = {
        how: float(np.abs(scores(lied=True, forget=how) - never).mean())
        for how in ("", "memory", "undo")
    }
    assert apart["undo"] < left * apart[""]
    assert apart["undo"] < 0.7 * apart["memory"]


def test_a_pace_scales_a_step_and_has_bounds() -> None:
    moved = []
    for factor in (1.0, 3.0, 1e9, 10.0):
        learner = NetworkLearner(LaneOf(options={"rehearsed_per_row": 0}).context)
        before = learner._stack.flat.clone()
        learner.pace(factor)
        learner.learn_many(some_rows(64))
        moved.append(float((learner._stack.flat - before).abs().max()))
    assert moved[1] == pytest.approx(3 * moved[0], rel=1e-3)
    assert moved[2] == moved[3]


def test_averages_glide_where_parameters_jump() -> None:
    """Over a thousand steps the published score of a row moves less from step to step."""
    jumps = []
    for averaging in (0, 200):
        lane = LaneOf(options={"averaging": averaging, "learning_rate": 5e-3})
        learner = taught(lane, 12_800)
        probe = some_rows(200, 33)
        scores = []
        for seed in range(30):
            teach(lane, learner, some_rows(64, 100 + seed))
            scores.append(learner.predict_many(probe.X, probe.z))
        jumps.append(float(np.abs(np.diff(scores, axis=0)).mean()))
    assert jumps[1] < 0.3 * jumps[0]


def test_memory_is_what_it_says_and_does_not_grow() -> None:
    lane = LaneOf(categories=CATEGORIES, options={"averaging": 10})
    learner = NetworkLearner(lane.context)
    bound = learner.memory_bytes
    parts: dict[str, bytes] = {}
    for seed in range(5):
        teach(lane, learner, with_categories(1000, seed))
        parts |= learner.state_changes()
    assert learner.memory_bytes == bound
    assert sum(len(part) for part in parts.values()) < bound


def test_no_rows_are_no_step() -> None:
    learner = NetworkLearner(LaneOf().context)
    before = learner.state_changes()
    empty = some_rows(5).part(slice(0, 0))
    learner.learn_many(empty)
    learner.forget_many(empty)
    learner.advance(10**12)
    assert learner.state_changes() == before
    assert learner.predict_many(empty.X, empty.z).shape == (0,)

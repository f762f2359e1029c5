"""What a step of networks is: slopes, optimizers, weights, rehearsal, averages."""

import numpy as np
import pytest
import torch

from models.evaluation import roc_auc
from models.learner_torch import NetworkLearner
from models.member_torch import Stack
from models.recipe import Recipe
from tests.builders_networks import by_hand, taught, teach
from tests.builders_rows import LaneOf, N, some_rows


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

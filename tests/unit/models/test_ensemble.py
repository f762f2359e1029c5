"""An ensemble is one learner: what holds for each of its members holds for the whole."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ensemble import Ensemble
from models.learner import Space, StateMismatch
from models.plan import Member, Plan, PlanMismatch, challenger_of, member_of
from models.weights import decode_verified, encode
from tests.builders_ensemble import (
    ACTS,
    EVERY_KIND,
    Act,
    a_stamp,
    an_ensemble,
    logit_by_hand,
    play,
    some_rows,
    teach,
)
from tests.builders_learn import DIGEST, FEATURES
from tests.fakes_learner import SPACE, a_plan, make_in_memory
from tests.signers import SIGNER


@settings(deadline=None, max_examples=60)
@given(ACTS, st.integers(0, 14), st.booleans())
def test_restored_anywhere_it_goes_on_bit_for_bit(acts: list[Act], at: int, often: bool) -> None:
    """Also where checkpoints were made between versions: they change nothing."""
    acts = [*acts, ("version", 0)]
    whole = an_ensemble()
    expected = play(whole, acts)
    first, second = an_ensemble(), an_ensemble()
    found, parts = [], {}
    for number, act in enumerate(acts[:at]):
        found += play(first, [act], number)
        if often:
            parts |= first.state_changes()
    parts |= first.state_changes()
    second.restore(parts)
    found += play(second, acts[at:], at)
    assert found == expected
    X = some_rows(20, 99).X
    assert (second.predict_each(X) == whole.predict_each(X)).all()


def test_predicting_changes_nothing() -> None:
    asked, left = an_ensemble(), an_ensemble()
    for ensemble in (asked, left):
        teach(ensemble)
        ensemble.state_changes()
    X = some_rows(50, 7).X
    asked.predict_many(X)
    asked.predict_each(X)
    assert asked.state_changes() == left.state_changes()
    assert encode(asked.snapshot(a_stamp()), SIGNER) == encode(left.snapshot(a_stamp()), SIGNER)


@pytest.mark.parametrize("refreshes", [0, 1, 3])
def test_a_version_scores_as_the_ensemble_predicts_and_as_its_formula_says(refreshes: int) -> None:
    ensemble = an_ensemble()
    teach(ensemble)
    for number in range(refreshes + 1):
        ensemble.advance(3_000 + 1_000 * number)
        rows = some_rows(3_000, 5 + number, 5_000 * (number + 1))
        ensemble.judge_many(ensemble.predict_each(rows.X), rows.y, rows.w, rows.ids, rows.at_ms)
        weights = ensemble.snapshot(a_stamp(number + 1))
    weights = decode_verified(encode(weights, SIGNER), [SIGNER.public_key], DIGEST)
    X = some_rows(300, 3).X
    p = 1 / (1 + np.exp(-logit_by_hand(weights, X)))
    assert p == pytest.approx(ensemble.predict_many(X), rel=1e-4, abs=1e-6)
    probe = logit_by_hand(weights, weights.arrays["probe.x"])
    assert weights.arrays["probe.logit"] == pytest.approx(probe, abs=1e-4)
    trees = [member.name for member in weights.members if member.kind == "trees"]
    assert len(trees) == min(refreshes + 1, 3)


def test_a_version_is_not_changed_by_later_learning() -> None:
    ensemble = an_ensemble()
    teach(ensemble)
    weights = ensemble.snapshot(a_stamp())
    before = encode(weights, SIGNER)
    teach(ensemble, 200, 1)
    ensemble.snapshot(a_stamp(2))
    assert encode(weights, SIGNER) == before


def test_challengers_believe_and_never_answer() -> None:
    ensemble = an_ensemble()
    teach(ensemble)
    assert ensemble.predictors[-1] == "challenger.quick"
    X = some_rows(20, 3).X
    each = ensemble.predict_each(X)
    assert each.shape == (20, 4)
    assert not (each[:, -1] == each[:, 1]).all()
    weights = ensemble.snapshot(a_stamp())
    assert {f"{m.lane}.{m.name}" for m in weights.members} == {
        "feedback.slow",
        "delayed.slow",
        "delayed.boosted.1",
    }
    alone = an_ensemble(challengers={})
    teach(alone)
    assert (alone.predict_many(X) == ensemble.predict_many(X)).all()


def test_what_predictors_believed_is_mixed_as_a_version_would() -> None:
    ensemble = an_ensemble()
    teach(ensemble, 2_000)
    X = some_rows(50, 3).X
    mixed = ensemble.mix_many(ensemble.predict_each(X))
    assert np.allclose(mixed, ensemble.predict_many(X), rtol=1e-5)
    assert mixed.std() > 0


def test_the_probe_is_real_and_stands_until_its_time_is_over() -> None:
    ensemble = an_ensemble(probe_renew_ms=1_000)
    probes = []
    for clock_ms in (1, 500, 900, 1_400, 1_500):
        rows = some_rows(300, clock_ms, 1_000 * clock_ms)
        ensemble.observe_many(rows.X, np.full(300, 0.1))
        ensemble.advance(clock_ms)
        probes.append(ensemble.snapshot(a_stamp()).arrays["probe.x"].tobytes())
    real = {x.tobytes() for x in some_rows(300, 1).X}
    first = np.frombuffer(probes[0], np.float32).reshape(-1, FEATURES)
    assert {x.tobytes() for x in first} <= real
    assert probes[0] == probes[1] == probes[2] != probes[3] == probes[4]


def test_quantiles_are_of_the_newest_scores() -> None:
    ensemble = an_ensemble()
    X = np.zeros((20_000, FEATURES), np.float32)
    p = np.random.default_rng(4).random(20_000)
    ensemble.observe_many(X, np.full(20_000, 0.999))
    ensemble.observe_many(X, p)
    found = ensemble.snapshot(a_stamp()).arrays["quantiles"]
    for index in (0, 10, 500, 990, 1000):
        assert np.mean(p < found[index]) == pytest.approx(index / 1000, abs=2e-3)


def test_memory_is_bounded() -> None:
    ensemble = an_ensemble()
    sizes, parts = [], {}
    for seed in range(8):
        rows = teach(ensemble, 2_000, seed)
        ensemble.judge_many(ensemble.predict_each(rows.X), rows.y, rows.w, rows.ids, rows.at_ms)
        ensemble.snapshot(a_stamp(seed + 1))
        parts |= ensemble.state_changes()
        sizes.append(sum(len(part) for name, part in parts.items() if "judged" not in name))
    assert sizes[-1] <= sizes[2] + 64  # counters grow by digits
    assert sum(map(len, parts.values())) < ensemble.memory_bytes + 1_000_000


def test_anothers_checkpoint_is_refused_and_says_whose_it_is() -> None:
    ensemble = an_ensemble()
    teach(ensemble)
    parts = ensemble.state_changes()
    other = Ensemble(Space("f" * 64, SPACE.names), a_plan(**EVERY_KIND), 1, make_in_memory)
    with pytest.raises(StateMismatch, match="spec"):
        other.restore(parts)
    for changed in ({"step_rows": 9}, {"challengers": {}}):
        with pytest.raises(PlanMismatch, match="quick"):
            an_ensemble(**changed).restore(parts)
    ensemble.restore({})
    assert encode(ensemble.snapshot(a_stamp()), SIGNER) == encode(
        an_ensemble().snapshot(a_stamp()), SIGNER
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Plan(lanes={"feedbak": {"a": Member("linear")}}), "feedbak"),
        (lambda: Plan(lanes={"delayed": {}}), "at least one"),
        (lambda: member_of("delayed.Big", {"learner": "linear"}), "Big"),
        (lambda: member_of("delayed.a", {"rate": 1}), "learner"),
        (lambda: challenger_of("a", {"learner": "linear", "lane": "late"}), "lane"),
        (lambda: an_ensemble(lanes={"delayed": {"a": Member("oracle")}}), "oracle"),
    ],
)
def test_what_is_no_plan_is_refused_by_name(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_learner_paces_all_members() -> None:
    usual, fast = an_ensemble(), an_ensemble()
    fast.pace(3.0)
    X = some_rows(20, 3).X
    start = usual.predict_each(X)
    for ensemble in (usual, fast):
        ensemble.learn_many("feedback", some_rows(8, 1))
    moved = [np.abs(e.predict_each(X)[:, 0] - start[:, 0]).mean() for e in (usual, fast)]
    assert moved[1] > 2 * moved[0]

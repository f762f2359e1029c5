"""An ensemble is one learner: what holds for each of its members holds for the whole."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.ensemble import REFIT_ROWS, Ensemble
from models.fading import FADE_VERSIONS, forest_logit
from models.learner import Context, Learner, Space, Stamp, StateMismatch
from models.learner_torch import NetworkLearner
from models.plan import Challenger, Member, Plan, PlanMismatch, challenger_of, member_of
from models.taught import Taught
from models.weights import Weights, decode_verified, encode
from tests.builders_learn import DIGEST, FEATURES
from tests.fakes_learner import SPACE, a_plan, make_in_memory
from tests.signers import SIGNER

FLOATS = NDArray[np.float32]
EVERY_KIND = {
    "lanes": {
        "feedback": {"slow": Member("linear")},
        "delayed": {"slow": Member("linear"), "boosted": Member("forest")},
    },
    "challengers": {"quick": Challenger("delayed", "linear", {"rate": 0.9})},
}


def an_ensemble(**changed: object) -> Ensemble:
    return Ensemble(SPACE, a_plan(**(EVERY_KIND | changed)), 1, make_in_memory)


def a_stamp(version: int = 1) -> Stamp:
    return Stamp(
        version=version,
        parent_sha256="",
        offsets={},
        learned_until_ms=0,
        labels_learned=0,
        created_at_ms=0,
        metrics={},
        code_version="test",
    )


def some_rows(count: int, seed: int, first_id: int = 0) -> Taught:
    """Frauds have a large first feature; a tenth of all values is missing."""
    draws = np.random.default_rng(seed)
    X = draws.lognormal(0, 1, (count, FEATURES)).astype(np.float32)
    y = (X[:, 0] > 2.0).astype(np.uint8)
    X[draws.random(X.shape) < 0.1] = np.nan
    ids = np.arange(first_id, first_id + count).astype(np.uint64)
    return Taught(X, y, np.ones(count, np.float32), ids, ids.astype(np.int64))


def logit_by_hand(weights: Weights, X: FLOATS) -> NDArray[np.float64]:
    """The published formula, written down again for linear members and trees."""
    arrays = weights.arrays
    z = (np.sign(X) * np.log1p(np.abs(X)) - arrays["scaler.mean"]) / arrays["scaler.scale"]
    z = np.clip(np.nan_to_num(z, nan=0.0), -8, 8)
    total = np.zeros(len(X))
    for lane in weights.lanes:
        answer = np.zeros(len(X))
        for member in weights.members:
            if member.lane != lane.name:
                continue
            own = {
                n: arrays[member.prefix + n]
                for n in ("linear", "bias", "value", "threshold")
                if member.prefix + n in arrays
            }
            if member.kind == "linear":
                logit = z @ own["linear"] + own["bias"][0]
            else:  # one split on the first feature, missing goes right
                left = X[:, 0] <= own["threshold"][0, 0]
                logit = np.where(left, own["value"][0, 1], own["value"][0, 2])
            answer += member.weight * (logit + np.log(member.beta))
        total += lane.weight * (lane.a * answer + lane.b)
    return total


Act = tuple[str, int]
ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["observe", "learn", "learn late", "forget", "judge", "version", "advance"]
        ),
        st.integers(0, 30),
    ),
    max_size=14,
)


def play(ensemble: Ensemble, acts: list[Act], begin: int = 0) -> list[bytes]:
    """Do what the acts say; return the versions that were cut."""
    versions = []
    for number, (act, size) in enumerate(acts, start=begin):
        rows = some_rows(size, number, number * 1000)
        lane = "delayed" if act == "learn late" else "feedback"
        if act == "observe":
            ensemble.observe_many(rows.X, np.linspace(0, 1, size))
        elif act.startswith("learn"):
            ensemble.learn_many(lane, rows)
        elif act == "forget" and number:
            ensemble.forget_many(lane, some_rows(size, number - 1, (number - 1) * 1000))
        elif act == "judge":
            beliefs = ensemble.predict_each(rows.X)
            ensemble.judge_many(beliefs, rows.y, rows.w, rows.ids, rows.at_ms)
        elif act == "version":
            versions.append(encode(ensemble.snapshot(a_stamp(number + 1)), SIGNER))
        elif act == "advance":
            ensemble.advance(number * 500)
    return versions


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


def teach(ensemble: Ensemble, count: int = 400, seed: int = 0) -> Taught:
    rows = some_rows(count, seed)
    ensemble.observe_many(rows.X, np.full(count, np.nan))
    ensemble.learn_many("feedback", rows)
    ensemble.learn_many("delayed", rows)
    ensemble.advance(2_000)
    return rows


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


def test_a_lane_answers_once_it_has_learned_enough_of_both() -> None:
    ensemble = an_ensemble(lane_frauds_min=10)
    shares = lambda: {lane.name: lane.weight for lane in ensemble.snapshot(a_stamp()).lanes}  # noqa: E731
    assert sum(shares().values()) == 1
    rows = some_rows(200, 1)
    frauds, legits = rows.part(rows.y == 1), rows.part(rows.y == 0)
    ensemble.learn_many("feedback", frauds.part(slice(0, 9)))
    ensemble.learn_many("feedback", legits.part(slice(0, 20)))
    ensemble.learn_many("delayed", frauds)  # and nothing that was legit
    assert shares() == {"feedback": 1, "delayed": 0}
    ensemble.learn_many("delayed", legits)
    assert shares() == {"feedback": 0, "delayed": 1}
    ensemble.learn_many("feedback", frauds.part(slice(9, 10)))
    assert shares() == {"feedback": 0.5, "delayed": 0.5}
    ensemble.forget_many("feedback", frauds.part(slice(0, 1)))
    assert shares() == {"feedback": 0, "delayed": 1}


def test_members_are_weighed_by_what_they_believed_when_events_were_decided() -> None:
    """Not by what they believe now: the better member of old beliefs wins, whatever it learned."""
    ensemble = an_ensemble()
    rows = some_rows(4_000, 2)
    good = np.where(rows.y == 1, 2.0, -2.0)
    beliefs = np.zeros((4_000, len(ensemble.predictors)), np.float32)
    slow, boosted = (ensemble.predictors.index(f"delayed.{n}") for n in ("slow", "boosted"))
    beliefs[:, boosted] = good
    beliefs[:, slow] = -good
    before = ensemble.predict_each(rows.X)
    ensemble.judge_many(beliefs, rows.y, rows.w, rows.ids, rows.at_ms)
    weights = {
        m.name: m.weight for m in ensemble.snapshot(a_stamp()).members if m.lane == "delayed"
    }
    assert weights["slow"] < 0.01
    assert sum(weights.values()) == pytest.approx(1)
    assert (ensemble.predict_each(rows.X) == before).all(), "judging teaches no member"


def test_calibration_makes_shifted_beliefs_probable() -> None:
    """Members that see fifty times too many frauds are brought down to what happens."""
    ensemble = an_ensemble()
    draws = np.random.default_rng(4)
    count = 4 * REFIT_ROWS
    truth = draws.normal(-4, 1.5, count)
    y = (draws.random(count) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    shifted = np.repeat((truth + 4)[:, None], len(ensemble.predictors), axis=1).astype(np.float32)
    ids = np.arange(count).astype(np.uint64)
    for start in range(0, count, 500):
        part = slice(start, start + 500)
        w = np.ones(len(y[part]), np.float32)
        ensemble.judge_many(shifted[part], y[part], w, ids[part], ids[part].astype(np.int64))
    weights = ensemble.snapshot(a_stamp())
    for lane in weights.lanes:
        assert lane.a == pytest.approx(1, abs=0.25)
        assert lane.b == pytest.approx(-4, abs=0.6)


def test_a_forest_that_was_grown_anew_is_faded_in() -> None:
    ensemble = an_ensemble(lane_frauds_min=1, lanes={"delayed": {"boosted": Member("forest")}})
    teach(ensemble)
    X = some_rows(100, 8).X
    ensemble.snapshot(a_stamp())
    before = ensemble.predict_each(X)[:, 0].astype(np.float64)
    ensemble.learn_many("delayed", some_rows(400, 5, 5_000))
    ensemble.advance(10_000)
    after = ensemble.predict_each(X)[:, 0].astype(np.float64)
    jump = np.abs(after - before).max()
    assert jump > 0.1
    standing = before
    for version in range(2, FADE_VERSIONS + 2):
        weights = ensemble.snapshot(a_stamp(version))
        logit = logit_by_hand(weights, X)
        assert np.abs(logit - standing).max() <= jump / FADE_VERSIONS * 1.01
        standing = logit
        assert sum(m.weight for m in weights.members) == pytest.approx(1)
    assert standing == pytest.approx(after, abs=1e-5)
    assert [m.name for m in weights.members] == ["boosted.2"]


def test_trees_answer_as_a_walk_from_the_root_does() -> None:
    draws = np.random.default_rng(5)
    arrays = {
        "feature": draws.integers(0, FEATURES, (4, 7)).astype(np.int32),
        "threshold": draws.normal(1, 1, (4, 7)).astype(np.float32),
        "left": np.tile(np.array([1, 3, 5, 3, 4, 5, 6], np.int32), (4, 1)),
        "right": np.tile(np.array([2, 4, 6, 3, 4, 5, 6], np.int32), (4, 1)),
        "missing_left": draws.integers(0, 2, (4, 7)).astype(np.int32),
        "value": draws.normal(0, 1, (4, 7)).astype(np.float32),
        "bias": np.array([0.3], np.float32),
        "depth": np.array([2], np.int32),
        "link": np.array([0], np.int32),
    }
    X = some_rows(50, 6).X

    def walk(x: FLOATS) -> float:
        total = 0.3
        for tree in range(4):
            node = 0
            while arrays["left"][tree, node] != node:
                value = x[arrays["feature"][tree, node]]
                goes_left = (
                    arrays["missing_left"][tree, node] == 1
                    if np.isnan(value)
                    else value <= arrays["threshold"][tree, node]
                )
                node = int(arrays["left" if goes_left else "right"][tree, node])
            total += float(arrays["value"][tree, node])
        return total

    assert forest_logit(arrays, X) == pytest.approx([walk(x) for x in X], abs=1e-5)
    chances = arrays | {"link": np.array([1], np.int32), "bias": np.array([0.0], np.float32)}
    p = np.clip([walk(x) - 0.3 for x in X], 1e-6, 1 - 1e-6)
    assert forest_logit(chances, X) == pytest.approx(np.log(p / (1 - p)), abs=1e-3)


def test_what_still_waits_for_a_full_step_is_forgotten_without_a_trace() -> None:
    lied, never = an_ensemble(), an_ensemble()
    rows, lie = some_rows(35, 1), some_rows(3, 2, 900)
    for ensemble in (lied, never):
        ensemble.learn_many("delayed", rows)
    lied.learn_many("delayed", lie)
    lied.forget_many("delayed", lie)
    assert encode(lied.snapshot(a_stamp()), SIGNER) == encode(never.snapshot(a_stamp()), SIGNER)


def make_network(name: str, context: Context) -> Learner:
    return NetworkLearner(context)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_turned_label_is_undone_as_far_as_we_say(seed: int) -> None:
    """As docs/learning.md says: a part of the pull at once, more as later rows wear it off."""
    options: dict[str, float | int | str] = {"hidden_0": 16, "hidden_1": 8, "learning_rate": 3e-3}
    plan = a_plan(
        lanes={"delayed": {"network": Member("network", options)}}, step_rows=32, keep_rows=4_096
    )
    rows = some_rows(6_000, seed)
    told = rows.part(rows.y == 0).part(slice(0, 320))
    lie = told._replace(y=np.ones(320, np.uint8))
    rest = rows.part(~np.isin(rows.ids, told.ids))

    def learn(parts: list[Taught], *ensembles: Ensemble) -> None:
        for ensemble in ensembles:
            for part in parts:
                ensemble.learn_many("delayed", part)
                ensemble.flush()

    undone, kept, never = (Ensemble(SPACE, plan, seed, make_network) for _ in range(3))
    for ensemble in (undone, kept, never):
        ensemble.observe_many(rows.X, np.full(len(rows.X), np.nan))
    learn([rest.part(slice(0, 3_000))], undone, kept, never)
    learn([lie], undone, kept)
    learn([rest.part(slice(3_000, 3_640))], undone, kept, never)

    def pull(ensemble: Ensemble) -> float:
        alike = told.X * np.float32(1.02)
        return float((logit_of(ensemble, alike) - logit_of(never, alike)).mean())

    lied = pull(undone)
    assert lied > 0.5
    undone.forget_many("delayed", lie)
    assert abs(pull(undone)) < 0.75 * lied
    learn([told, rest.part(slice(3_640, 5_000))], undone, kept, never)
    assert abs(pull(undone)) < 0.5 * pull(kept)
    assert abs(pull(undone)) < 0.35


def logit_of(ensemble: Ensemble, X: FLOATS) -> NDArray[np.float64]:
    return ensemble.predict_each(X)[:, 0].astype(np.float64)


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

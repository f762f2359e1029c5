"""Ensembles, and what is done to them."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.ensemble import Ensemble
from models.learner import Context, Learner, Stamp
from models.learner_torch import NetworkLearner
from models.plan import Challenger, Member
from models.taught import Taught
from models.weights import Weights, encode
from tests.builders_learn import FEATURES
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


def teach(ensemble: Ensemble, count: int = 400, seed: int = 0) -> Taught:
    rows = some_rows(count, seed)
    ensemble.observe_many(rows.X, np.full(count, np.nan))
    ensemble.learn_many("feedback", rows)
    ensemble.learn_many("delayed", rows)
    ensemble.advance(2_000)
    return rows


def make_network(name: str, context: Context) -> Learner:
    return NetworkLearner(context)


def logit_of(ensemble: Ensemble, X: FLOATS) -> NDArray[np.float64]:
    return ensemble.predict_each(X)[:, 0].astype(np.float64)

"""What every learner promises, whatever it is made of."""

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from models.evaluation import roc_auc
from models.learner import Learner, Stamp, StateMismatch
from models.learner_torch import TorchLearner
from models.member_torch import Recipe
from models.scorer_torch import TorchScorer
from models.signing import Signer
from models.weights import Weights, decode_verified, encode

N = 5
DIGEST = "e" * 64
SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
STAMP = Stamp(
    version=1,
    parent_sha256="",
    offsets={},
    learned_until_ms=0,
    labels_learned=0,
    created_at_ms=0,
    metrics={},
    code_version="test",
)
Make = Callable[..., Learner]
Rows = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint64]]


def torch_learner(seed: int = 1, n: int = N, digest: str = DIGEST, members: int = 1) -> Learner:
    recipe = Recipe(
        seed=seed,
        beta=0.5,
        new_rows=16,
        keep_rows=512,
        keep_frauds=256,
        members=members,
        learning_rate=3e-3,
    )
    return TorchLearner(n, digest, recipe)


@pytest.fixture(params=[torch_learner], ids=["torch"])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


def some_rows(count: int, seed: int) -> Rows:
    """Frauds have a large first feature; a tenth of all values is missing."""
    draws = np.random.default_rng(seed)
    X = draws.lognormal(3, 1, (count, N)).astype(np.float32)
    y = (X[:, 0] > 60).astype(np.uint8)
    X[draws.random(X.shape) < 0.1] = np.nan
    return X, y, draws.integers(0, 2**63, count).astype(np.uint64)


def teach(learner: Learner, count: int = 2000, seed: int = 0, size: int = 50) -> None:
    X, y, ids = some_rows(count, seed)
    for start in range(0, count, size):
        part = slice(start, start + size)
        learner.observe_many(X[part], learner.predict_many(X[part]))
        learner.learn_many(X[part], y[part], ids[part])
    learner.flush()


def bytes_of(learner: Learner) -> bytes:
    return encode(learner.snapshot(STAMP), SIGNER)


def scores_of(weights: Weights, X: NDArray[np.float32]) -> NDArray[np.float64]:
    scorer = TorchScorer(DIGEST, N, "test", "cpu")
    scorer.load(weights, "0" * 64)
    with scorer.snapshot() as snapshot:
        return snapshot.score_many(X).p


def test_it_begins_with_the_prior(make: Make) -> None:
    X, _, _ = some_rows(100, 5)
    assert make().predict_many(X) == pytest.approx(0.01, abs=1e-6)


def test_it_learns(make: Make) -> None:
    learner = make()
    teach(learner)
    X, y, _ = some_rows(2000, 9)
    p = learner.predict_many(X)
    assert roc_auc(y, p) > 0.9
    assert p.mean() == pytest.approx(y.mean(), rel=0.35)  # thinned by half, and corrected for it


def test_predicting_changes_nothing(make: Make) -> None:
    quiet, asked = make(), make()
    X, _, _ = some_rows(300, 5)
    for learner in (quiet, asked):
        teach(learner, 500)
    for _ in range(3):
        asked.predict_many(X)
        asked.snapshot(STAMP)
    for learner in (quiet, asked):
        teach(learner, 500, seed=1)
    assert bytes_of(asked) == bytes_of(quiet)
    assert asked.state_changes() == quiet.state_changes()


def test_the_same_seed_and_order_give_the_same_weights(make: Make) -> None:
    learners = [make(seed=1), make(seed=1), make(seed=2)]
    for learner in learners:
        teach(learner)
    first, same, other = (bytes_of(learner) for learner in learners)
    assert first == same
    assert first != other


def test_restored_it_goes_on_as_if_never_stopped(make: Make) -> None:
    parts: dict[str, bytes] = {}
    original = make()
    for seed in range(4):
        teach(original, 400, seed)
        parts |= original.state_changes()  # each time only what changed
    restored = make()
    teach(restored, 30, seed=77)  # whatever it was before is gone
    restored.restore(parts)
    assert bytes_of(restored) == bytes_of(original)
    for learner in (original, restored):
        learner.forget_many(some_rows(400, 3)[2][:50])
        teach(learner, 400, seed=5)
    assert bytes_of(restored) == bytes_of(original)
    assert restored.state_changes() == original.state_changes()


def test_restored_from_nothing_it_is_new(make: Make) -> None:
    learner = make()
    teach(learner, 200)
    learner.restore({})
    assert bytes_of(learner) == bytes_of(make())


@pytest.mark.parametrize("other", [{"n": N + 1}, {"digest": "f" * 64}, {"seed": 9}])
def test_anothers_state_is_refused(make: Make, other: dict[str, object]) -> None:
    learner = make()
    teach(learner, 100)
    with pytest.raises(StateMismatch):
        make(**other).restore(learner.state_changes())


def test_snapshot_encode_decode_scores_alike(make: Make) -> None:
    learner = make()
    teach(learner)
    X, _, _ = some_rows(500, 3)
    weights = decode_verified(bytes_of(learner), [SIGNER.public_key], DIGEST)
    assert scores_of(weights, X) == pytest.approx(learner.predict_many(X), rel=1e-5)


def test_several_members_score_alike_too(make: Make) -> None:
    learner = make(members=3)
    teach(learner, 500)
    X, _, _ = some_rows(500, 3)
    weights = learner.snapshot(STAMP)
    assert weights.members == 3
    assert len({weights.arrays[f"m{member}.w0"].tobytes() for member in range(3)}) == 3
    assert scores_of(weights, X) == pytest.approx(learner.predict_many(X), rel=1e-5)


def test_a_snapshot_is_not_changed_by_later_learning(make: Make) -> None:
    learner = make()
    teach(learner, 200)
    weights = learner.snapshot(STAMP)
    before = encode(weights, SIGNER)
    teach(learner, 200, seed=1)
    assert encode(weights, SIGNER) == before
    assert bytes_of(learner) != before


def test_features_may_vanish_and_come_back(make: Make) -> None:
    learner = make()
    X, y, ids = some_rows(300, 1)
    gone = X.copy()
    gone[:, 1:] = np.nan
    nothing = np.full_like(X, np.nan)
    for rows in (X, gone, nothing, X):
        learner.observe_many(rows, np.full(len(rows), np.nan))
        learner.learn_many(rows, y, ids)
        learner.flush()
        assert np.isfinite(learner.predict_many(rows)).all()
    decode_verified(bytes_of(learner), [SIGNER.public_key])


def test_wild_values_do_no_harm(make: Make) -> None:
    learner = make()
    X, y, ids = some_rows(300, 1)
    X[::7, 2] = np.finfo(np.float32).max
    X[::11, 3] = np.finfo(np.float32).min
    learner.observe_many(X, np.full(len(X), 0.5))
    learner.learn_many(X, y, ids)
    learner.flush()
    decode_verified(bytes_of(learner), [SIGNER.public_key])


def test_memory_is_bounded(make: Make) -> None:
    learner = make()
    sizes = []
    parts: dict[str, bytes] = {}
    for seed in range(6):
        teach(learner, 2000, seed, size=500)
        parts |= learner.state_changes()
        sizes.append(sum(len(part) for part in parts.values()))
    assert sizes[-1] <= sizes[1] + 16  # counters grow by a digit


def test_quantiles_follow_the_newest_scores(make: Make) -> None:
    learner = make()
    assert learner.snapshot(STAMP).arrays["quantiles"] == pytest.approx(np.linspace(0, 1, 1001))
    X = np.zeros((20_000, N), np.float32)
    p = np.random.default_rng(4).random(20_000)
    p[5] = np.nan
    learner.observe_many(X, np.full(20_000, 0.999))
    learner.observe_many(X, p)
    found = learner.snapshot(STAMP).arrays["quantiles"]
    held = np.append(p[~np.isnan(p)], 0.999)
    for index in (0, 10, 500, 990, 1000):
        assert np.mean(held < found[index]) == pytest.approx(index / 1000, abs=2e-3)


def test_nothing_to_see_is_nothing_learned(make: Make) -> None:
    learner = make()
    empty = np.zeros((0, N), np.float32)
    learner.observe_many(empty, np.zeros(0))
    learner.learn_many(empty, np.zeros(0, np.uint8), np.zeros(0, np.uint64))
    learner.flush()
    assert bytes_of(learner) == bytes_of(make())


def test_what_is_forgotten_is_not_rehearsed(make: Make) -> None:
    """A withdrawn fraud label leaves no trace in what is learned later."""
    learners = [make(), make()]
    X, _, ids = some_rows(64, 1)
    lies = np.ones(64, np.uint8)
    for learner in learners:
        learner.learn_many(X, lies, ids)
        learner.flush()
    learners[0].forget_many(ids)
    draws = np.random.default_rng(2)
    for _ in range(40):
        fresh = draws.integers(0, 2**63, 64).astype(np.uint64)
        for learner in learners:
            learner.learn_many(X, np.zeros(64, np.uint8), fresh)
            learner.flush()
    forgot, kept = (learner.predict_many(X).mean() for learner in learners)
    assert forgot < kept

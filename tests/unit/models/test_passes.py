"""Passes are recorded once and repeated for other versions: what a captured graph may rely on.

A list of operations stands for a CUDA graph: it repeats each of them on the very tensors, and with
the very Python numbers, of the recording.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models import engine_torch, forward_trees_torch, site, site_torch
from models.engine_torch import CpuEngine, Work, engine_for
from models.forward_half_torch import HALF_TOLERANCE
from models.renew_torch import renew
from models.scorer import BUCKETS, BULK, NoDevice, WeightsRefused
from models.scorer_local import LocalScorer
from models.weights import Weights
from tests.builders_weights import an_ensemble, probed, some_rows, some_weights, with_arrays
from tests.oracle_forward import logit_of

DIGEST = "d" * 64
N = 9
ROWS = some_rows(3, N)


class Recorder(TorchDispatchMode):
    """Writes down every operation that runs, its arguments, and where its result lies."""

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = call(*args, **(kwargs or {}))
        self.acts.append((call, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for call, args, kwargs, found in self.acts:
            again = call(*args, **kwargs)
            if isinstance(found, torch.Tensor) and again.data_ptr() != found.data_ptr():
                found.copy_(again)


class TracedEngine(CpuEngine):
    """Records what runs; host memory is apart from the device's, as on CUDA."""

    captures = True

    def __init__(self) -> None:
        super().__init__()
        self.recorded = 0
        self.staging_now = False

    def host(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(tensor)

    @contextmanager
    def staging(self) -> Iterator[None]:
        assert not self.staging_now, "one lane"
        self.staging_now = True
        try:
            yield
        finally:
            self.staging_now = False

    def record(self, work: Work) -> Work:
        assert self.staging_now
        self.recorded += 1
        with Recorder() as recorder:
            work()
        return recorder.replay


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> TracedEngine:
    found = TracedEngine()
    monkeypatch.setattr(site_torch, "engine_for", lambda device: found)
    monkeypatch.setattr(site, "COMPILED", False)  # so that a processor is asked by tensors
    monkeypatch.setattr(forward_trees_torch, "COMPILED", False)  # as on CUDA: by tensors alone
    return found


def a_scorer(**more: bool) -> LocalScorer:
    return LocalScorer(DIGEST, N, "test", "cpu", **more)


def load_and_check(scorer: LocalScorer, weights: Weights, tolerance: float = 1e-5) -> None:
    scorer.load(weights, "s")
    with scorer.snapshot() as held:
        for X in (ROWS, ROWS[:1], some_rows(600, N)):
            expected = logit_of(weights, X)
            found = held.score_many(X).logit
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("make", [some_weights, an_ensemble])
def test_a_bank_is_recorded_once_and_answers_for_every_version(
    engine: TracedEngine, make: Callable[..., Weights]
) -> None:
    scorer = a_scorer()
    first = make(DIGEST, N)
    for version in range(1, 9):  # three banks, so each is written again
        load_and_check(scorer, scaled_by(first, version))
    assert engine.recorded == 3 * len(BUCKETS)


def scaled_by(weights: Weights, version: int) -> Weights:
    """Other numbers and another calibration in the same shapes; of trees all but their bias."""
    factor = np.float32(1 + version / 20)
    arrays = {
        name: array * factor
        for name, array in weights.arrays.items()
        if name.startswith(("delayed.", "feedback.")) and array.dtype == np.float32
        if not name.endswith("boosted.3.bias")
    }
    lanes = tuple(msgspec.structs.replace(lane, a=1 + version / 9) for lane in weights.lanes)
    changed = with_arrays(weights, **arrays)
    return probed(replace(changed, version=version, lanes=lanes))


def test_what_is_no_number_in_a_tensor_is_recorded_anew(engine: TracedEngine) -> None:
    scorer = a_scorer()
    weights = an_ensemble(DIGEST, N)
    bias = "delayed__boosted__3__bias"
    for version in range(1, 7):
        changed = with_arrays(weights, **{bias: np.array([version / 7], np.float32)})
        load_and_check(scorer, probed(replace(changed, version=version)))
    members = tuple(
        msgspec.structs.replace(
            member, weight=float(member.name == "logistic" or member.lane == "feedback")
        )
        for member in weights.members
    )
    for version in (7, 8, 9):
        load_and_check(scorer, probed(replace(weights, version=version, members=members)))


def test_addresses_stay(engine: TracedEngine) -> None:
    scorer = a_scorer()
    seen = []
    for version in range(1, 10):
        scorer.load(an_ensemble(DIGEST, N, version=version, seed=1), "s")
        bank = scorer._slots.current("active")
        seen.append({tensor.data_ptr() for tensor in bank._tensors.values()})
    assert seen[0] == seen[3] == seen[6]
    assert len({frozenset(one) for one in seen}) == 3


def test_a_large_array_is_copied_without_memory_of_its_own(
    engine: TracedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.bank_torch.STAGED_MAX_BYTES", 100)
    scorer = a_scorer()
    for version in (1, 2, 3, 4):
        load_and_check(scorer, an_ensemble(DIGEST, N, version=version))


@pytest.mark.parametrize("captured", [False, True])
def test_a_bulk_bucket_is_made_when_it_is_asked_for(
    captured: bool, request: pytest.FixtureRequest
) -> None:
    if captured:
        request.getfixturevalue("engine")
    scorer = a_scorer()
    scorer.load(some_weights(DIGEST, N), "s")
    X = some_rows(5_000, N)
    with scorer.snapshot() as held:
        scores = held.score_many(X, BULK)
        with pytest.raises(AssertionError):
            held.score_many(X, 77)
    assert set(scores.bucket.tolist()) == {BULK}
    expected = logit_of(some_weights(DIGEST, N), X)
    np.testing.assert_allclose(scores.logit, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("make", [some_weights, an_ensemble])
def test_bfloat16_keeps_within_its_bound(
    captured: bool, make: Callable[..., Weights], request: pytest.FixtureRequest
) -> None:
    if captured:
        request.getfixturevalue("engine")
    scorer, exact = a_scorer(half=True), a_scorer()
    assert scorer.device.endswith(" bfloat16")
    worst = 0.0
    X = np.random.default_rng(1).lognormal(0, 2, (2_000, N)).astype(np.float32)
    for version in range(1, 6):
        weights = make(DIGEST, N, version=version)
        for one in (scorer, exact):
            one.load(weights, "s")
        with scorer.snapshot() as held, exact.snapshot() as other:
            found, expected = held.score_many(X).logit, other.score_many(X).logit
            parts = held.explain_many(X[:4]).sum(1) + held.baseline
        apart = np.abs(found - expected) / np.maximum(1, np.abs(expected))
        worst = max(worst, float(apart.max()))
        np.testing.assert_allclose(parts, expected[:4], rtol=1e-4, atol=1e-4)
    assert 1e-4 < worst <= HALF_TOLERANCE
    wrong = with_arrays(weights, probe__logit=weights.arrays["probe.logit"] + np.float32(0.5))
    with pytest.raises(WeightsRefused):
        scorer.load(wrong, "s")


def test_a_bfloat16_network_without_rows_has_no_answers() -> None:
    scorer = a_scorer(half=True)
    scorer.load(with_arrays(some_weights(DIGEST, N), probe__x=np.zeros((0, N), np.float32),
                            probe__logit=np.zeros(0, np.float32)), "s")  # fmt: skip


def test_what_differs_in_more_than_numbers_cannot_be_renewed() -> None:
    one, other = torch.zeros(2), torch.ones(2)
    assert renew((one, {"a": 1}), (other, {"a": 1}))
    assert one.tolist() == [1, 1]
    for worse in ((torch.zeros(3), {"a": 1}), (other, {"a": 2}), (other, {"b": 1}), [other], 7):
        one.zero_()
        assert not renew((one, {"a": 1}), worse)
        assert one.tolist() == [0, 0]


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert engine_for("auto").name == engine_for("cpu").name
    with pytest.raises(NoDevice, match="device cuda"):
        engine_for("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engine_torch, "CudaEngine", TracedEngine)
    assert engine_for("auto").captures

"""What must hold of passes on every device. Needs torch, numpy, numba and safetensors alone:

    python -m tests.gpu.checks      # a GPU, and none of the project's other libraries

`test_passes_everywhere.py` runs them under pytest, on the processor and on a GPU if there is one.
"""

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from models.bank_torch import TorchBank
from models.engine_torch import CpuEngine, Engine, engine_for
from models.forward_half_torch import HALF_TOLERANCE
from models.scorer import BUCKETS, BULK
from models.slots import Slots

N = 40
CATEGORIES = 9
Version = Any
Check = Callable[[Engine], None]


def a_version(seed: int, *, trees: bool = True) -> Version:
    """As much of a version as a bank looks at: every kind of member, and a category."""
    rng = np.random.default_rng(seed)

    def some(*shape: int, size: float = 0.3) -> NDArray[np.float32]:
        return (rng.normal(size=shape) * size).astype(np.float32)

    wide = N + 3
    arrays = {
        "scaler.mean": some(N),
        "scaler.scale": rng.uniform(0.5, 2, N).astype(np.float32),
        "quantiles": np.linspace(0, 1, 1001, dtype=np.float32),
        "probe.x": some(4, N, size=10),
        "d.network.w0": some(2, 64, wide),
        "d.network.b0": some(2, 64),
        "d.network.w1": some(2, 32, 64),
        "d.network.b1": some(2, 32),
        "d.network.w2": some(2, 32),
        "d.network.b2": some(2),
        "d.network.linear": some(2, N, size=0.1),
        "d.network.embed.5": some(CATEGORIES, 3),
        "d.slow.linear": some(N),
        "d.slow.bias": some(1),
    }
    members = [("d", "network", "network", 0.5), ("d", "slow", "linear", 0.2)]
    if trees:
        arrays |= {f"d.boosted.{name}": array for name, array in _trees(rng).items()}
        members.append(("d", "boosted", "trees", 0.3))
    return SimpleNamespace(
        version=seed,
        n_features=N,
        arrays=arrays,
        lanes=[SimpleNamespace(name="d", weight=1.0, a=0.8 + 0.01 * seed, b=0.1 * seed)],
        members=[
            SimpleNamespace(
                lane=lane, name=name, kind=kind, weight=weight, beta=0.5, prefix=f"{lane}.{name}."
            )
            for lane, name, kind, weight in members
        ],
    )


def _trees(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    count, depth = 20, 4
    nodes = 2 ** (depth + 1) - 1
    index = np.arange(nodes)
    inner = index < nodes // 2
    left, right = (np.where(inner, 2 * index + side, index) for side in (1, 2))
    return {
        "feature": rng.integers(0, N, (count, nodes)).astype(np.int32),
        "threshold": (rng.normal(size=(count, nodes)) * 5).astype(np.float32),
        "left": np.tile(left, (count, 1)).astype(np.int32),
        "right": np.tile(right, (count, 1)).astype(np.int32),
        "missing_left": rng.integers(0, 2, (count, nodes)).astype(np.int32),
        "value": (rng.normal(size=(count, nodes)) * 0.1).astype(np.float32),
        "bias": np.array([0.3], np.float32),
        "depth": np.array([depth], np.int32),
        "link": np.zeros(1, np.int32),
    }


def some_rows(count: int, seed: int = 1) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(count, N)) * 10).astype(np.float32)
    X[:, 5] = rng.integers(0, CATEGORIES, count)
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    return X


def a_bank(engine: Engine, version: Version, *, half: bool = False) -> TorchBank:
    bank = TorchBank(version, engine, half=half)
    write(engine, bank, version)
    return bank


def write(engine: Engine, bank: TorchBank, version: Version) -> None:
    with engine.staging():
        bank.write(version)
    bank.open(version, "s")


def close(found: NDArray[Any], expected: NDArray[Any], tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def log_odds_are_those_of_the_processor(engine: Engine) -> None:
    version = a_version(1)
    expected = a_bank(CpuEngine(), version)
    bank = a_bank(engine, version)
    for rows in (1, 2, 3, 100, 700):
        X = some_rows(rows)
        close(bank.score_many(X).logit, expected.score_many(X).logit)
        close(bank.logit_apart(X), expected.score_many(X).logit)


def a_rows_bits_depend_on_the_row_and_the_bucket_alone(engine: Engine) -> None:
    bank = a_bank(engine, a_version(1))
    rng = np.random.default_rng(3)
    for bucket in BUCKETS:
        X = some_rows(bucket)
        first = bank.score_many(X, bucket).logit
        for _ in range(4):
            order = rng.permutation(bucket)
            assert bank.score_many(X[order], bucket).logit.tobytes() == first[order].tobytes()
        alone = bank.score_many(X[:1], bucket).logit
        assert alone.tobytes() == first[:1].tobytes(), bucket


def what_was_recorded_answers_for_every_version(engine: Engine) -> None:
    bank = a_bank(engine, a_version(1))
    X = some_rows(50)
    for seed in range(2, 8):
        version = a_version(seed)
        write(engine, bank, version)
        close(bank.score_many(X).logit, a_bank(CpuEngine(), version).score_many(X).logit)
        for bucket in (64, 512):
            close(bank.score_many(X, bucket).logit, bank.score_many(X).logit)


def two_banks_of_one_version_give_equal_bits(engine: Engine) -> None:
    version = a_version(4)
    one = a_bank(engine, version)
    other = a_bank(engine, a_version(5))
    write(engine, other, version)
    for rows in (1, 7, 300):
        X = some_rows(rows)
        assert one.score_many(X).logit.tobytes() == other.score_many(X).logit.tobytes()


def bulk_equals_the_small_buckets(engine: Engine) -> None:
    bank = a_bank(engine, a_version(1))
    X = some_rows(BULK + 100)
    close(bank.score_many(X, BULK).logit, bank.score_many(X).logit)


def bfloat16_keeps_within_its_bound(engine: Engine) -> None:
    X = some_rows(2_000)
    for seed in range(1, 4):
        version = a_version(seed, trees=False)
        exact = a_bank(CpuEngine(), version).score_many(X).logit
        found = a_bank(engine, version, half=True).score_many(X).logit
        apart = np.abs(found - exact) / np.maximum(1, np.abs(exact))
        assert 1e-5 < apart.max() <= HALF_TOLERANCE, apart.max()


def a_version_is_written_while_another_answers(engine: Engine) -> None:
    versions = {seed: a_version(seed) for seed in range(1, 5)}
    X = some_rows(20)
    expected = {s: a_bank(CpuEngine(), v).score_many(X).logit for s, v in versions.items()}
    slots = Slots(lambda weights: TorchBank(weights, engine))

    def load(seed: int) -> None:
        with slots.changing, torch.inference_mode(), engine.staging():
            bank = slots.idle_for(versions[seed], "active")
            bank.write(versions[seed])
            bank.open(versions[seed], "s")
        slots.show("active", bank)

    load(1)
    done = threading.Event()

    def change() -> None:
        for turn in range(60):
            load(1 + turn % 4)
        done.set()

    changing = threading.Thread(target=change)
    changing.start()
    asked = 0
    while not done.is_set() or not asked:
        bank = slots.current("active")
        content = bank.content
        if content is None or not bank.hold(content[0]):
            continue
        close(bank.score_many(X).logit, expected[content[0].version])
        bank.let_go()
        asked += 1
    changing.join()


def arrays_travel_as_safetensors(engine: Engine) -> None:
    version = a_version(3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "version.safetensors"
        save_file(version.arrays, path)
        read = SimpleNamespace(**{**vars(version), "arrays": load_file(path)})
    X = some_rows(9)
    found = a_bank(engine, read).score_many(X).logit
    assert found.tobytes() == a_bank(engine, version).score_many(X).logit.tobytes()


CHECKS: list[Check] = [
    log_odds_are_those_of_the_processor,
    a_rows_bits_depend_on_the_row_and_the_bucket_alone,
    what_was_recorded_answers_for_every_version,
    two_banks_of_one_version_give_equal_bits,
    bulk_equals_the_small_buckets,
    bfloat16_keeps_within_its_bound,
    a_version_is_written_while_another_answers,
    arrays_travel_as_safetensors,
]


def main() -> int:
    """Run every check on the GPU; 1 when one fails, 2 when there is none."""
    if not torch.cuda.is_available():
        sys.stdout.write("not run: no CUDA device\n")
        return 2
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    engine = engine_for("cuda")
    failed = 0
    for check in CHECKS:
        try:
            check(engine)
            sys.stdout.write(f"passed: {check.__name__}\n")
        except Exception as error:
            failed += 1
            sys.stdout.write(f"FAILED: {check.__name__}: {type(error).__name__}: {error}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m load_tests.gpu`: one vector through the captured graph, and many at once.

Needs torch, numpy and numba alone, so that it runs on a bare machine with a GPU. Without one it
says so, row by row. A network of 64-128-64-1 is the peers' model; its vectors come from the
processor's memory and its answers go back there, but for the rows that say otherwise.
"""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from load_tests.report import Row, main
from models.bank_torch import TorchBank
from models.engine_torch import Engine, engine_for
from models.scorer import BULK

N, HIDDEN = 64, (128, 64)
ROUNDS = 2_000
NOT_RUN = "not run: no CUDA device"
SINGLE = "one vector through the captured graph, p50"
TAIL = "one vector through the captured graph, p99"
BULK_ROWS = f"rows a second at batch {BULK}"
INSIDE = f"rows a second at batch {BULK}, vectors and answers on the device"
WRITE = "write and check a version on the side stream, p50"


def a_version(seed: int) -> Any:
    """Return as much of a version as a bank looks at: one network."""
    rng = np.random.default_rng(seed)
    shapes = {
        "w0": (1, HIDDEN[0], N),
        "b0": (1, HIDDEN[0]),
        "w1": (1, HIDDEN[1], HIDDEN[0]),
        "b1": (1, HIDDEN[1]),
        "w2": (1, HIDDEN[1]),
        "b2": (1,),
        "linear": (1, N),
    }
    arrays = {
        f"d.network.{name}": (rng.normal(size=shape) * 0.1).astype(np.float32)
        for name, shape in shapes.items()
    }
    arrays["scaler.mean"] = np.zeros(N, np.float32)
    arrays["scaler.scale"] = np.ones(N, np.float32)
    arrays["quantiles"] = np.linspace(0, 1, 1001, dtype=np.float32)
    member = {"lane": "d", "name": "network", "kind": "network", "prefix": "d.network."}
    return SimpleNamespace(
        version=seed,
        n_features=N,
        arrays=arrays,
        lanes=[SimpleNamespace(name="d", weight=1.0, a=1.0, b=0.0)],
        members=[SimpleNamespace(**member, weight=1.0, beta=1.0)],
    )


def times_s(call: Callable[[], object], rounds: int) -> np.ndarray:
    """Return seconds of each call, after a tenth as many to warm up."""
    for _ in range(rounds // 10):
        call()
    found = np.empty(rounds)
    for i in range(rounds):
        began = time.perf_counter()
        call()
        found[i] = time.perf_counter() - began
    return found


def measure(quick: bool) -> list[Row]:
    """Return all rows."""
    if not torch.cuda.is_available():
        return [
            Row(SINGLE, None, "µs", 200, 100, "lower", NOT_RUN),
            Row(TAIL, None, "µs", better="lower", note=NOT_RUN),
            Row(BULK_ROWS, None, "rows/s", 20e6, 100e6, note=NOT_RUN),
            Row(INSIDE, None, "rows/s", note=NOT_RUN),
            Row(WRITE, None, "ms", better="lower", note=NOT_RUN),
        ]
    rounds = ROUNDS // 10 if quick else ROUNDS
    return [row for half in (False, True) for row in measure_on(engine_for("cuda"), half, rounds)]


def measure_on(engine: Engine, half: bool, rounds: int) -> list[Row]:
    """Measure a bank on one device."""
    versions = [a_version(seed) for seed in (1, 2)]
    bank = TorchBank(versions[0], engine, half=half)

    def write(turn: int = 0) -> None:
        with engine.staging():
            bank.write(versions[turn % 2])

    write()
    rng = np.random.default_rng(3)
    X = rng.lognormal(0, 2, (BULK, N)).astype(np.float32)
    one = times_s(lambda: bank.score_many(X[:1]), rounds) * 1e6
    many = times_s(lambda: bank.score_many(X, BULK), max(10, rounds // 10))
    x = torch.from_numpy(X).to(engine.device)

    def pass_through() -> None:
        bank.answer(x)
        engine.finish()

    inside = times_s(pass_through, max(10, rounds // 10))
    turns = iter(range(10**9))
    writes = times_s(lambda: write(next(turns)), max(10, rounds // 20)) * 1e3
    note = f"{engine.name}, {'bfloat16' if half else 'float32'}"
    return [
        Row(SINGLE, float(np.median(one)), "µs", 200, 100, "lower", note),
        Row(TAIL, float(np.quantile(one, 0.99)), "µs", better="lower", note=note),
        Row(BULK_ROWS, BULK / float(np.median(many)), "rows/s", 20e6, 100e6, note=note),
        Row(INSIDE, BULK / float(np.median(inside)), "rows/s", note=f"{note}; eager"),
        Row(WRITE, float(np.median(writes)), "ms", better="lower", note=note),
    ]


if __name__ == "__main__":
    main("gpu", measure)

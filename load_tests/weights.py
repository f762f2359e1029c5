"""`python -m load_tests.weights`: a version's forward pass, and what it takes to publish the next.

No network: vectors in, log-odds out; a version in, bytes out and back. CPU time of one thread, the
best of several rounds: what the machine does when nothing else asks for it.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from load_tests.report import Row, main
from models.scorer_local import LocalScorer
from models.signing import Signer
from models.weights import LaneRef, MemberRef, Weights, decode_verified, encode
from models.weights_delta import apply_delta, encode_delta
from models.weights_kinds import Array, network_shapes, shared_shapes

DIGEST = "a" * 64
FEATURES = 105
HIDDEN = (64, 32)
TREES, DEPTH = 200, 6
BATCHES = (1, 16, 256)
WIDTH = 16
"""Numbers in a row of the embedding table."""
SIZES = {"10 k": 10_000, "1 M": 1_000_000, "50 M": 50_000_000}
CHANGED_ROWS = 1_000
TABLE = "delayed.network.embed.0"

Arrays = dict[str, Array]


def cpu_us(call: Callable[[], object], rounds: int, repeats: int = 1) -> float:
    """Return CPU microseconds of this thread for one call, in the best of the rounds."""
    best = math.inf
    for _ in range(rounds):
        begun = time.thread_time()
        for _ in range(repeats):
            call()
        best = min(best, (time.thread_time() - begun) / repeats)
    return best * 1e6


def a_network(n: int, table_rows: int, rng: np.random.Generator) -> Arrays:
    """Return the arrays of one network, with a table of categories where rows are asked for."""
    embedded = {0: (table_rows, WIDTH)} if table_rows else {}
    return {
        name: (rng.standard_normal(shape, np.float32) * np.float32(0.1))
        for name, (_, shape) in network_shapes(n, HIDDEN, 1, embedded).items()
    }


def balanced_trees(n: int, rng: np.random.Generator) -> Arrays:
    """Return a forest of full trees over random features: the worst case of its size."""
    nodes = 2 ** (DEPTH + 1) - 1
    index = np.arange(nodes)
    inner = index < nodes // 2
    children = [np.where(inner, 2 * index + side, index) for side in (1, 2)]
    left, right = (np.tile(child, (TREES, 1)).astype(np.int32) for child in children)
    return {
        "feature": rng.integers(0, n, (TREES, nodes)).astype(np.int32),
        "threshold": rng.standard_normal((TREES, nodes), np.float32),
        "left": left,
        "right": right,
        "missing_left": rng.integers(0, 2, (TREES, nodes)).astype(np.int32),
        "value": rng.standard_normal((TREES, nodes), np.float32) * np.float32(0.05),
        "bias": np.zeros(1, np.float32),
        "depth": np.array([DEPTH], np.int32),
        "link": np.zeros(1, np.int32),
    }


def a_version(members: dict[str, tuple[str, Arrays]], n: int) -> Weights:
    """Return a version of one lane; it has no golden batch, so no forward pass is needed yet."""
    arrays: Arrays = {
        name: np.zeros(shape, np.float32) for name, (_, shape) in shared_shapes(n, 0).items()
    }
    arrays["scaler.scale"] = np.ones(n, np.float32)
    arrays["quantiles"] = np.linspace(0, 1, 1001, dtype=np.float32)
    for name, (_, parts) in members.items():
        arrays |= {f"delayed.{name}.{part}": array for part, array in parts.items()}
    refs = [
        MemberRef(lane="delayed", name=name, kind=kind, weight=1 / len(members))
        for name, (kind, _) in members.items()
    ]
    return Weights(
        model="champion",
        version=1,
        schema_digest=DIGEST,
        parent_sha256="",
        offsets={},
        learned_until_ms=0,
        labels_learned=0,
        created_at_ms=0,
        metrics={},
        code_version="load",
        lanes=(LaneRef(name="delayed", weight=1.0),),
        members=tuple(refs),
        arrays=arrays,
    )


def measure_forward(rounds: int) -> list[Row]:
    """Score batches with a network, with trees, with both; explain one row by both."""
    rng = np.random.default_rng(1)
    kinds = {
        "network": ("network", a_network(FEATURES, 0, rng)),
        "boosted": ("trees", balanced_trees(FEATURES, rng)),
    }
    versions = {f"{name} only": {name: kinds[name]} for name in kinds} | {"both": kinds}
    rows = []
    for what, members in versions.items():
        scorer = LocalScorer(DIGEST, FEATURES, "load", "cpu")
        scorer.load(a_version(members, FEATURES), "0" * 64)
        with scorer.snapshot() as snapshot:
            for size in BATCHES:
                X = rng.standard_normal((size, FEATURES), np.float32)
                X[rng.uniform(size=X.shape) < 0.1] = np.nan
                cost = cpu_us(partial(snapshot.score_many, X), rounds, max(1, 64 // size))
                note = f"{cost / size:.2f} µs/row; {scorer.device}"
                rows.append(Row(f"score a batch of {size}, {what}", cost, "µs", None, None,
                                "lower", note))  # fmt: skip
            X = rng.standard_normal((1, FEATURES), np.float32)
            cost = cpu_us(partial(snapshot.explain_many, X), rounds, 8)
            rows.append(Row(f"explain one row, {what}", cost, "µs", None, None, "lower",
                            "exact path integral"))  # fmt: skip
    return rows


def measure_publishing(name: str, parameters: int, rounds: int) -> list[Row]:
    """Publish a version whose embedding table changed in a few rows: whole, and as a delta."""
    rng = np.random.default_rng(1)
    n = 30
    network = a_network(n, 1, rng)
    others = sum(array.size for array in network.values()) - WIDTH
    table_rows = (parameters - others) // WIDTH
    parent = a_version({"network": ("network", a_network(n, table_rows, rng))}, n)
    changed = rng.choice(table_rows, min(CHANGED_ROWS, table_rows // 4), replace=False)
    table = parent.arrays[TABLE].copy()
    table[changed] += np.float32(0.01)
    dense = {f"delayed.network.{part}": array for part, array in network.items()}
    dense = {part: array for part, array in dense.items() if part != TABLE}
    arrays = {**parent.arrays, **dense, TABLE: table}
    current = replace(parent, version=2, parent_sha256="b" * 64, arrays=arrays)
    signer = Signer(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
    keys = [signer.public_key]
    told = {TABLE: changed.astype(np.int64)}
    full, delta = encode(current, signer), encode_delta(parent, current, signer, told)
    found = apply_delta(parent, delta, keys)
    assert found.arrays[TABLE].tobytes() == decode_verified(full, keys).arrays[TABLE].tobytes()
    scorer = LocalScorer(DIGEST, n, "load", "cpu")
    # two banks take turns: by this order the table of each is another one at each load
    again = itertools.cycle([found, current, current, found])
    for _ in range(2):
        scorer.load(next(again), "0" * 64)
    loads: dict[str, Callable[[], object]] = {
        "encode a full version": lambda: encode(current, signer),
        "verify and decode a full version": lambda: decode_verified(full, keys),
        "encode a delta, changed rows told": lambda: encode_delta(parent, current, signer, told),
        "encode a delta, tables compared": lambda: encode_delta(parent, current, signer),
        "verify and apply a delta": lambda: apply_delta(parent, delta, keys),
        "write the scorer's bank": lambda: scorer.load(next(again), "0" * 64),
    }
    what = f"{name} parameters"
    note = f"{len(changed)} of {table_rows} rows of {WIDTH}, and all of a {n}-64-32 network"
    costs = [
        Row(f"{what}: {act}", cpu_us(call, rounds) / 1000, "ms", None, None, "lower")
        for act, call in loads.items()
    ]
    return [
        Row(f"{what}: bytes of a full version", len(full), "bytes", None, None, "lower"),
        Row(f"{what}: bytes of a delta", len(delta), "bytes", None, None, "lower", note),
        *costs,
    ]


def measure(quick: bool) -> list[Row]:
    """Return all rows; `quick` leaves the largest size out."""
    rows = measure_forward(20 if quick else 100)
    for name, parameters in SIZES.items():
        if quick and parameters > 1_000_000:
            rows.append(Row(f"{name} parameters", None, "ms", note="left out by --quick"))
        else:
            rows += measure_publishing(name, parameters, 20 if parameters < 10_000_000 else 4)
    return rows


if __name__ == "__main__":
    main("weights", measure)

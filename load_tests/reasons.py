"""`python -m load_tests.reasons`: what it costs to say why, and how far shortcuts are from exact.

No network: vectors in, contributions and reasons out, by a version of the size that the shipped
plan learns: two stacks of three networks and a forest. CPU time of one thread, best of rounds. The
reference is the definition of integrated gradients with 4096 points, in double precision.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from features.event import Amount, Event, from_ms
from features.spec import Spec
from load_tests.report import ROOT, Row, main
from load_tests.weights import a_version, balanced_trees, cpu_us
from models.reasons import Explaining
from models.scorer_local import LocalScorer
from models.walk import Walk
from models.weights import Weights
from models.weights_kinds import Array, network_shapes

HIDDEN, STACK = (96, 64), 3
REFERENCE_POINTS = 4_096
POINTS = (8, 32, 256)
BATCHES = (1, 8, 32)
JUDGED_ROWS = 32
AT_MOST = 5

Arrays = Mapping[str, Array]
Doubles = NDArray[np.float64]


def a_stack(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Return a stack whose units are cut on and off all along the way, as learned ones are."""
    width = {"w0": n, "w1": HIDDEN[0], "w2": HIDDEN[1]}
    return {
        name: rng.normal(0, 1 / np.sqrt(width.get(name, 10)), shape).astype(np.float32)
        for name, (_, shape) in network_shapes(n, HIDDEN, STACK, {}).items()
    }


def by_points(arrays: Arrays, z: Doubles, points: int) -> Doubles:
    """Return integrated gradients of a stack from 0 to z, shape (n,), by the midpoint rule."""
    w = {name: array.astype(np.float64) for name, array in arrays.items()}
    at = (np.arange(points)[:, None] + 0.5) / points * z
    slope = np.zeros_like(z)
    for k in range(STACK):
        first = at @ w["w0"][k].T + w["b0"][k]
        second = np.maximum(first, 0) @ w["w1"][k].T + w["b1"][k]
        back = ((second > 0) * w["w2"][k]) @ w["w1"][k]
        slope += ((first > 0) * back).mean(0) @ w["w0"][k] + w["linear"][k]
    return np.asarray(z * slope / STACK)


def measure_quality(n: int, rng: np.random.Generator) -> list[Row]:
    """Hold the closed form and point rules against the reference."""
    stack = a_stack(n, rng)
    weights = a_version({"network": ("network", stack)}, n)
    X = np.expm1(np.abs(rng.normal(0, 1, (JUDGED_ROWS, n)))).astype(np.float32)
    z = np.log1p(X.astype(np.float64))
    reference = np.array([by_points(stack, row, REFERENCE_POINTS) for row in z])
    found: dict[str, Doubles] = {
        "closed form": Walk(weights).explain_many(X).astype(np.float64),
        **{f"{p} points": np.array([by_points(stack, row, p) for row in z]) for p in POINTS},
    }
    rows = []
    for what, parts in found.items():
        rows.append(
            Row(
                f"{what}: largest error of a contribution",
                float(np.abs(parts - reference).max()),
                "log-odds",
                1e-3 if what == "closed form" else None,
                1e-4 if what == "closed form" else None,
                "lower",
                f"reference: {REFERENCE_POINTS} points",
            )
        )
        agree = np.mean(
            [set(_top(a)) == set(_top(b)) for a, b in zip(parts, reference, strict=True)]
        )
        rows.append(Row(f"{what}: rows with the same five", float(agree), "share"))
    return rows


def _top(parts: Doubles) -> list[int]:
    chosen: list[int] = np.argsort(-np.abs(parts), kind="stable")[:AT_MOST].tolist()
    return chosen


def the_shipped_shape(spec: Spec, rng: np.random.Generator) -> Weights:
    """Return a version of the shipped plan's members."""
    n = spec.n_features
    members = {
        "network": ("network", a_stack(n, rng)),
        "other": ("network", a_stack(n, rng)),
        "boosted": ("trees", balanced_trees(n, rng)),
    }
    version = a_version(members, n)
    return type(version)(
        **{f: getattr(version, f) for f in version.__dataclass_fields__}
        | {"schema_digest": spec.digest}
    )


def measure_cost(spec: Spec, rng: np.random.Generator, rounds: int) -> list[Row]:
    """Score, explain, and say why, in small batches."""
    weights = the_shipped_shape(spec, rng)
    scorer = LocalScorer(spec.digest, spec.n_features, "load", "cpu")
    scorer.load(weights, "0" * 64)
    explaining = Explaining(spec)
    event = Event(
        event_type=next(iter(spec.event_rules.event_types)),
        event_id="e",
        event_time=from_ms(1_772_366_400_000),
        entities={"card": "c"},
        amount=Amount(100, spec.base_currency),
    )
    rows = []
    with scorer.snapshot() as snapshot:
        for size in BATCHES:
            X = np.expm1(np.abs(rng.normal(0, 1, (size, spec.n_features)))).astype(np.float32)
            X[rng.uniform(size=X.shape) < 0.1] = np.nan
            events, repeats = [event] * size, max(1, 64 // size)
            calls: dict[str, Callable[[], object]] = {
                "score": partial(snapshot.score_many, X),
                "contributions": partial(snapshot.explain_many, X),
                "reasons in words": partial(explaining.explain_many, snapshot, X, events, AT_MOST),
            }
            for what, call in calls.items():
                cost = cpu_us(call, rounds, repeats) / size
                last = what == "reasons in words"
                must, aim = (50.0, 25.0) if last else (None, None)
                note = f"two stacks of {STACK} networks of {HIDDEN}, 200 trees; {AT_MOST} reasons"
                rows.append(
                    Row(f"{what}, batch of {size}, a row", cost, "µs", must, aim, "lower", note)
                )
    laid = cpu_us(lambda: Walk(weights), rounds)
    rows.append(Row("lay a new version out", laid, "µs", None, None, "lower"))
    return rows


def measure(quick: bool) -> list[Row]:
    """Return all rows."""
    rng = np.random.default_rng(7)
    spec = Spec.load(ROOT / "features.yaml")
    return measure_quality(spec.n_features, rng) + measure_cost(spec, rng, 10 if quick else 40)


if __name__ == "__main__":
    main("reasons", measure)

"""A learner on its lane, with a clock: what the ensemble does, and no more."""

import gc
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.learner import Context, Learner, Part, Rows
from models.learners import make
from models.memory import Memory
from models.weights import LaneRef, MemberRef, Weights, decode_verified, encode
from tests.builders_rows import LaneOf, N, normalised, some_rows
from tests.builders_weights import KEYS, SIGNER, some_weights

HOUR_MS = 3_600_000
Options = dict[str, float | int | str]

TREES: Options = {"grace_period": 40, "max_leaves": 16, "refresh_rows": 100, "beta": 0.5}
BOOSTED: Options = {
    "refresh_s": 2 * 3600.0,
    "adopt_after_s": 0.0,
    "trees": 20,
    "learning_rate": 0.25,
    "num_leaves": 8,
    "legit_share": 0.5,
    "keep_rows": 512,
    "frauds_min": 5,
}
LEARNERS: dict[str, tuple[str, Options]] = {  # to join the suite: one line
    "network": (
        "network",
        {"hidden_0": 8, "hidden_1": 4, "beta": 0.5, "averaging": 10, "learning_rate": 0.02},
    ),
    "logistic": ("logistic", {"beta": 0.5}),
    "logistic by adam": ("logistic", {"optimizer": "adam", "rate": 0.01, "beta": 0.5}),
    "hoeffding": ("hoeffding", TREES),
    "forest": ("forest", TREES | {"trees": 3, "grace_period": 30}),
    "boosted": ("boosted", BOOSTED),
    "boosted, adopted later": ("boosted", BOOSTED | {"adopt_after_s": 1.5 * 3600.0}),
    "boosted, growing": ("boosted", BOOSTED | {"mode": "grow", "grow_trees": 2, "grow_share": 0.9}),
}


@dataclass
class Stage:
    """One learner, taught in batches; each batch is an hour."""

    name: str
    options: Options
    seed: int = 1
    n: int = N
    lane: str = "delayed"
    digest: str = "e" * 64
    clock_ms: int = 0
    learner: Learner = field(init=False)

    def __post_init__(self) -> None:
        self.about = LaneOf(
            n=self.n, seed=self.seed, lane=self.lane, digest=self.digest, options=self.options
        )
        self.learner = make(self.name, self.about.context)

    def teach(self, batches: int = 8, seed: int = 0, size: int = 100) -> None:
        for batch in range(batches):
            self.take(some_rows(size, 1000 * seed + batch, self.n, self.clock_ms))

    def take(self, rows: Rows) -> None:
        self.learner.learn_many(rows)
        self.about.remember(rows)
        self.clock_ms += HOUR_MS
        self.learner.advance(self.clock_ms)

    def forget(self, rows: Rows) -> None:
        self.about.memory.forget(rows.ids)
        self.learner.forget_many(rows)

    def believe(self, rows: Rows) -> NDArray[np.float32]:
        return self.learner.predict_many(rows.X, rows.z)

    def restarted(self, parts: Mapping[str, bytes]) -> "Stage":
        """Another process with the same lane and what was kept of the learner."""
        other = replace(self)
        other.about.memory = copy_of(self.about.memory, self.n)
        other.learner = make(other.name, other.about.context)
        other.learner.restore(parts)
        return other


def copy_of(memory: Memory, n: int) -> Memory:
    held = Memory(n, 2048, 512)
    for mine, theirs in ((held.rows, memory.rows), (held.frauds, memory.frauds)):
        rows = theirs.held(theirs.slots(0, theirs.total))
        mine.append(rows["x"], rows["y"], rows["id"], rows["w"], rows["at_ms"])
        mine.forget(rows["id"][rows["live"] == 0])
    assert memory.rows.total <= memory.rows.size, "this copy keeps no numbers of rows that left"
    return held


def bytes_of(part: Part) -> tuple[Any, ...]:
    arrays = {name: (x.dtype.str, x.shape, x.tobytes()) for name, x in part.arrays.items()}
    return part.kind, part.beta, part.steady, arrays


def published(part: Part, n: int = N) -> Weights:
    """A version with this member alone, encoded, verified and decoded."""
    about = some_weights("e" * 64, n)
    shared = {name: x for name, x in about.arrays.items() if not name.startswith("delayed.")}
    shared |= {"scaler.mean": np.full(n, 3, np.float32), "scaler.scale": np.ones(n, np.float32)}
    member = MemberRef(lane="delayed", name="one", kind=part.kind, weight=1.0, beta=part.beta)
    alone = replace(
        about,
        lanes=(LaneRef(name="delayed", weight=1.0, a=1.0, b=0.0),),
        members=(member,),
        arrays=shared | {f"delayed.one.{name}": x for name, x in part.arrays.items()},
    )
    return decode_verified(encode(alone, SIGNER), KEYS, "e" * 64)


def bytes_held(learner: Learner) -> int:
    """Bytes of everything that the learner refers to, but for its lane and its code."""
    seen: set[int] = set()
    total, waiting = 0, [learner]
    while waiting:
        thing: Any = waiting.pop()
        shared = (Context, Memory, type, ModuleType, FunctionType, MethodType, ThreadPoolExecutor)
        if id(thing) in seen or isinstance(thing, shared):
            continue
        seen.add(id(thing))
        total += sys.getsizeof(thing)
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage()  # views share it
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                total += storage.nbytes()
        elif isinstance(thing, np.ndarray) and thing.base is not None:
            waiting.append(thing.base)
        waiting += gc.get_referents(thing)
    return total


def rows_like(rows: Rows, **changes: Any) -> Rows:
    """The same rows with other vectors, labels or weights."""
    changed = replace(rows, **changes)
    return replace(changed, z=normalised(changed.X))

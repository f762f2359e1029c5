"""Integrated gradients of a network by their definition: many points, in double precision."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.oracle_forward import index_of, z_of

Arrays = Mapping[str, NDArray[Any]]
Doubles = NDArray[np.float64]


def integrated(arrays: Arrays, x: Doubles, mean: Doubles, scale: Doubles, steps: int) -> Doubles:
    """What each feature moves one network stack by, by the midpoint rule."""
    w = {name: array.astype(np.float64) for name, array in arrays.items()}
    z = np.array([z_of(*at) for at in zip(x, mean, scale, strict=True)])
    columns = sorted(int(name[6:]) for name in arrays if name.startswith("embed."))
    tables = [w[f"embed.{column}"] for column in columns]
    rows = [t[index_of(x[c], len(t))] for c, t in zip(columns, tables, strict=True)]
    begin = np.concatenate([np.zeros(len(z)), *(table[0] for table in tables)])
    way = np.concatenate([z, *rows]) - begin
    owner = np.concatenate(
        [np.arange(len(z)), *(np.full(t.shape[1], c) for c, t in zip(columns, tables, strict=True))]
    ).astype(int)
    points = begin + (np.arange(steps)[:, None] + 0.5) / steps * way
    slope = np.zeros_like(way)
    for k in range(len(w["b2"])):
        first = points @ w["w0"][k].T + w["b0"][k]
        second = np.maximum(first, 0) @ w["w1"][k].T + w["b1"][k]
        back = ((second > 0) * w["w2"][k]) @ w["w1"][k]
        slope += (((first > 0) * back) @ w["w0"][k]).mean(0)
        slope[: len(z)] += w["linear"][k]
    parts = np.zeros(len(z))
    np.add.at(parts, owner, way * slope / len(w["b2"]))
    return parts

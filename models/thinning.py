"""identities → which legit rows are learned from: a hash decides, so a replay decides alike."""

import numpy as np
from numpy.typing import NDArray


def survives(ids: NDArray[np.uint64], share: float, seed: int) -> NDArray[np.bool_]:
    """Return, for each identity, whether it is among the share that is kept.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014), over identity and seed.
    """
    if share >= 1.0:
        return np.ones(len(ids), np.bool_)
    mixed = ids + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray(mixed < np.uint64(int(share * 2**64)))

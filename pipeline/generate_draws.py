"""(seed, stream, index) → draw: chance that does not depend on who asks first.

Every random quantity of the generator is a hash of its name (the stream) and of the thing it
belongs to (the index), so a log is the same however it is cut into chunks, and a customer's home
country needs no table.
"""

from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_TO_UNIT = 2.0**-53


@dataclass(frozen=True, slots=True)
class Draws:
    """All the chance of one seed.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014), one step of the generator per
    index from an origin that hashes (seed, stream).
    """

    seed: int

    def bits(self, stream: str, index: Ints) -> NDArray[np.uint64]:
        """Return 64 even bits per index."""
        origin = xxhash.xxh3_64_intdigest(stream.encode(), seed=self.seed & _MASK)
        x = index.astype(np.uint64)
        x *= np.uint64(_GOLDEN)
        x += np.uint64(origin)
        x ^= x >> np.uint64(30)
        x *= _MIX_1
        x ^= x >> np.uint64(27)
        x *= _MIX_2
        x ^= x >> np.uint64(31)
        return x

    def uniform(self, stream: str, index: Ints) -> Floats:
        """Return one number of [0, 1) per index."""
        return (self.bits(stream, index) >> np.uint64(11)).astype(np.float64) * _TO_UNIT

    def below(self, stream: str, index: Ints, limit: int) -> Ints:
        """Return one integer of [0, limit) per index."""
        return (self.uniform(stream, index) * limit).astype(np.int64)

    def normal(self, stream: str, index: Ints) -> Floats:
        """Return one standard normal number per index (Box and Muller)."""
        bits = self.bits(stream, index)
        radius = (bits >> np.uint64(32)).astype(np.float64) + 1.0
        angle = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2.0 * np.pi * 2.0**-32)
        normal: Floats = np.sqrt(-2.0 * np.log(radius * 2.0**-32)) * np.cos(angle)
        return normal

    def lognormal(self, stream: str, index: Ints, median: float, sigma: float) -> Floats:
        """Return one lognormal number per index."""
        return median * np.exp(sigma * self.normal(stream, index))

    def one(self, stream: str) -> float:
        """Return one number of [0, 1) for the whole log."""
        return float(self.uniform(stream, np.zeros(1, dtype=np.int64))[0])


def pair(first: Ints, second: Ints | int) -> Ints:
    """Return one index for two, as in (customer, which of its cards)."""
    return np.asarray(first * np.int64(1_000_003) + second)

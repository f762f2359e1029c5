"""keys → partitions, as every Kafka client places them: many at once, compiled.

In Python a key of a decision takes 20 µs to place, more than all else that is done to send it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.window_jit import entered

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_WORD = 0xFFFFFFFF


@entered
def murmur2_many(
    data: NDArray[np.uint8], ends: NDArray[np.int64], hashes: NDArray[np.int64]
) -> None:
    """Write each key's hash, without its sign.

    Source: Apache Kafka, `org.apache.kafka.common.utils.Utils.murmur2`.

    Args:
        data: The keys end to end.
        ends: Where each ends, shape (m,).
        hashes: Shape (m,); written.
    """
    at = np.int64(0)
    for i in range(ends.shape[0]):
        length = ends[i] - at
        found: Any = np.int64(_SEED) ^ length
        for _ in range(length // 4):
            word: Any = np.int64(data[at])
            word |= np.int64(data[at + 1]) << 8
            word |= np.int64(data[at + 2]) << 16
            word |= np.int64(data[at + 3]) << 24
            word = word * _MIX & _WORD
            word ^= word >> 24
            word = word * _MIX & _WORD
            found = (found * _MIX & _WORD) ^ word
            at += 4
        rest = length % 4
        for byte in range(rest):
            found ^= np.int64(data[at + byte]) << (8 * byte)
        if rest:
            found = found * _MIX & _WORD
        found ^= found >> 13
        found = found * _MIX & _WORD
        found ^= found >> 15
        hashes[i] = found & 0x7FFFFFFF
        at = ends[i]


def hashes_of(keys: Sequence[bytes]) -> NDArray[np.int64]:
    """Return hashes, int64, shape (m,): modulo a count of partitions they are places."""
    hashes = np.empty(len(keys), dtype=np.int64)
    ends = np.cumsum(np.fromiter(map(len, keys), dtype=np.int64, count=len(keys)))
    murmur2_many(np.frombuffer(b"".join(keys), dtype=np.uint8), ends, hashes)
    return hashes


def warm_up() -> None:
    """Compile, or load from numba's disk cache, so that no caller waits later."""
    hashes_of([b"key"])

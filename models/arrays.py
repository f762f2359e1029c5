"""named arrays ↔ bytes, for a learner's checkpoint; what is published is in `models.weights`."""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32] | NDArray[np.int32]


def encode_arrays(arrays: Mapping[str, Array]) -> bytes:
    """Return arrays as bytes; the same arrays in the same order give the same bytes."""
    return msgspec.msgpack.encode(
        [(name, x.dtype.str, x.shape, x.tobytes()) for name, x in arrays.items()]
    )


def decode_arrays(data: bytes) -> dict[str, Array]:
    """Return what `encode_arrays` was given."""
    rows = msgspec.msgpack.decode(data, type=list[tuple[str, str, tuple[int, ...], bytes]])
    return {name: np.frombuffer(x, kind).reshape(shape).copy() for name, kind, shape, x in rows}

"""function → compiled function: the one way in which the window kernel meets its compiler."""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Int: TypeAlias = Any  # a 64-bit integer: `int` or `np.int64`, the kernel does not care which
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


def compiled(function: F) -> F:
    """Compile at first use, keep the machine code on disk; the types stay as written.

    With `NUMBA_DISABLE_JIT=1` the function runs as plain Python, for coverage and debuggers.
    """
    return cast(F, numba.njit(cache=True)(function))

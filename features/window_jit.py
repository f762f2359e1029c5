"""function → compiled function: the one way in which the window kernel meets its compiler."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

_numba: Any = numba  # its types name neither its configuration nor every option
F = TypeVar("F", bound=Callable[..., Any])
Int: TypeAlias = Any  # a 64-bit integer: `int` or `np.int64`, the kernel does not care which
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


def cache_folder(given: str, here: Path, writable: bool, home: Path) -> Path:
    """Return where machine code is kept: a folder of its own for each state of the sources.

    numba asks only whether the file of the *entered* function changed, and would go on running
    old code after an edit or an upgrade of a file that it calls.

    Args:
        given: What the environment asks for (`NUMBA_CACHE_DIR`), or nothing.
        here: The folder of the kernel's sources.
        writable: Whether that folder can be written; else a folder under `home` is taken.
        home: The user's home.
    """
    digest = hashlib.sha256()
    for source in sorted([*here.glob("window_*.py"), *here.glob("spec*.py")]):
        digest.update(source.read_bytes())
    base = here / "__pycache__" if writable else home / ".cache" / "riskbeat"
    return (Path(given) if given else base) / f"kernel-{digest.hexdigest()[:16]}"


_FREE: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},  # NaN and infinity mean what they mean
    "error_model": "numpy",  # a check for a zero divisor would keep loops from being vectors
}
_HERE = Path(__file__).parent
_FOLDER = cache_folder(
    _numba.config.CACHE_DIR, _HERE, os.access(_HERE, os.W_OK), Path(os.path.expanduser("~"))
)


def compiled(function: F) -> F:
    """Compile at first use, keep the machine code on disk; the types stay as written.

    Only other compiled functions may call it: it takes no arguments from Python, which spares
    a fifth of the compilation. With `NUMBA_DISABLE_JIT=1` it runs as plain Python, for coverage.
    """
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def entered(function: F) -> F:
    """Compile as `compiled` does, to be called from Python; the call lets go of Python's lock."""
    return _compiled(function, nogil=True, no_cfunc_wrapper=True)


def compiled_free(function: F) -> F:
    """Compile as `compiled` does, with sums of floats taken in any order that is quick.

    Equal input gives equal bits on one build and one kind of CPU; elsewhere equal but for rounding.
    """
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_FREE)


def entered_free(function: F) -> F:
    """Compile as `compiled_free` does, to be called from Python, as `entered` is."""
    return _compiled(function, nogil=True, no_cfunc_wrapper=True, **_FREE)


def _compiled(function: F, **options: Any) -> F:
    """Return the function compiled; it neither makes nor keeps arrays (ADR 0007)."""
    if _numba.config.DISABLE_JIT:
        return function
    before = _numba.config.CACHE_DIR
    _numba.config.CACHE_DIR = str(_FOLDER)
    try:
        return cast(F, _numba.njit(cache=True, _nrt=False, **options)(function))
    finally:
        _numba.config.CACHE_DIR = before

"""device → where versions are held and passes run: the one place that chooses.

On a processor compiled kernels answer, and torch is not even imported: it takes 5 s and 500 MB.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import llvmlite
import numba
from llvmlite import binding

from models.bank import Bank
from models.bank_walk import WalkBank
from models.scorer import GOLDEN_TOLERANCE
from models.trees_walk import COMPILED

if TYPE_CHECKING:
    from models.weights import Weights

GPU_SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
"""One of these is there where a driver for NVIDIA's devices is (the last one: under WSL)."""


class Site(NamedTuple):
    """Where a scorer computes.

    Attributes:
        make: Returns a bank for versions of the given one's shapes.
        device: Name of the hardware, as decisions give it.
        libraries: Name of what a pass depends on beside our own code.
        tolerance: Largest difference in log-odds from the learner's golden batch.
        staging: Enters a lane beside the one that answers; in it versions are written and tried.
    """

    make: "Callable[[Weights], Bank]"
    device: str
    libraries: str
    tolerance: float
    staging: Callable[[], AbstractContextManager[None]]


def site_for(device: str, *, half: bool = False) -> Site:
    """Return the site of a device.

    Args:
        device: "cpu", "cuda", or "auto": CUDA where there is one.
        half: Whether networks compute in bfloat16, within `HALF_TOLERANCE` of float32.

    Raises:
        NoDevice: The device is not there.
    """
    may_be_gpu = device == "cuda" or (device == "auto" and any(map(_is_there, GPU_SIGNS)))
    if not may_be_gpu and COMPILED and not half:
        return walk_site()
    torch_site: Callable[..., Site | None] = import_module("models.site_torch").torch_site
    return torch_site(device, half=half) or walk_site()


def walk_site() -> Site:
    """Return the site of compiled kernels on this processor."""
    return Site(
        make=lambda weights: WalkBank(),
        device=f"cpu-{binding.get_host_cpu_name()}",
        libraries=f"numba-{numba.__version__} llvm-{llvmlite.__version__}",
        tolerance=GOLDEN_TOLERANCE,
        staging=nullcontext,
    )


def _is_there(path: str) -> bool:
    return Path(path).exists()

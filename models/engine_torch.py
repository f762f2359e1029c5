"""device → how tensors' passes run there: as they are written on a CPU, as captured graphs on CUDA.

Whatever runs is written once, as work at fixed addresses: it
reads and writes tensors that stay where they are. A captured graph repeats the very kernels with
the very arguments, so numbers that change from version to version must lie in tensors, too.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch

from models.engine_cuda_torch import CudaEngine
from models.scorer import NoDevice

Work = Callable[[], None]


class Engine(Protocol):
    """Where passes run.

    Attributes:
        device: Of tensors that passes compute with.
        captures: Whether recorded work is tied to its addresses, and to its Python numbers.
    """

    @property
    def device(self) -> torch.device:
        """Of tensors that passes compute with."""

    @property
    def name(self) -> str:
        """Name of the hardware, as decisions give it."""

    @property
    def captures(self) -> bool:
        """Whether recorded work is tied to its addresses and Python numbers."""

    def host(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return memory of the tensor's shape that the device reads or writes while others work.

        The tensor itself where the device works in the processor's memory.
        """

    def staging(self) -> AbstractContextManager[None]:
        """Enter a lane beside the one that answers; when it is left, its work is done."""

    def record(self, work: Work) -> Work:
        """Return what repeats the work; to be called while staging."""

    def finish(self) -> None:
        """Wait until the work of this thread is done."""


class CpuEngine:
    """The processor: one thread, the tensors' own memory, nothing to wait for."""

    captures = False

    def __init__(self) -> None:
        """Name the device."""
        self.device = torch.device("cpu")
        self.name = f"cpu-{torch.backends.cpu.get_cpu_capability()}"

    def host(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor itself."""
        return tensor

    def staging(self) -> AbstractContextManager[None]:
        """Go on in the same lane."""
        return nullcontext()

    def record(self, work: Work) -> Work:
        """Return the work as it is."""
        return work

    def finish(self) -> None:
        """Return at once."""


def engine_for(device: str) -> Engine:
    """Return the engine of a device.

    Args:
        device: "cpu", "cuda", or "auto": CUDA where there is one.

    Raises:
        NoDevice: There is none.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return CpuEngine()
    if not torch.cuda.is_available():
        why = "this torch is built without CUDA" if not torch.version.cuda else "no driver or GPU"
        raise NoDevice(f"device {device}: {why} (torch {torch.__version__})")
    return CudaEngine()

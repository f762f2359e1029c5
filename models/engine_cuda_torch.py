"""passes on one CUDA device: captured graphs, pinned memory, a stream of its own for what comes.

All that only a GPU can run stands here; `models/engine_torch.py` says what each part promises.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARM_UPS = 3
"""Passes before a capture: libraries choose kernels and reserve memory at the first ones."""


class CudaEngine:
    """The first CUDA device that this process sees."""

    captures = True

    def __init__(self) -> None:
        """Open the device, and the stream on which versions are staged."""
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.name = torch.cuda.get_device_name(self.device)
        self._side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def host(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return pinned memory of the tensor's shape: copies from and to it do not wait."""
        return torch.zeros(tensor.shape, dtype=tensor.dtype, pin_memory=True)

    @contextmanager
    def staging(self) -> Iterator[None]:
        """Work on the side stream; answers go on in the stream of their own thread."""
        with torch.cuda.device(self.device), torch.cuda.stream(self._side):
            yield
            self._side.synchronize()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture the work in a graph; one launch repeats all of it, copies included."""
        for _ in range(WARM_UPS):
            work()
        self._side.synchronize()
        graph = torch.cuda.CUDAGraph()
        # other threads go on to allocate and to answer while this one captures
        with torch.cuda.graph(graph, stream=self._side, capture_error_mode="thread_local"):
            work()
        return graph.replay

    def finish(self) -> None:
        """Wait for this thread's stream."""
        torch.cuda.current_stream(self.device).synchronize()

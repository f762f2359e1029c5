"""device → the site of tensors: CUDA, or a processor for what the compiled kernels do not do."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.bank_torch import TorchBank
from models.engine_torch import engine_for
from models.forward_half_torch import HALF_TOLERANCE
from models.scorer import GOLDEN_TOLERANCE
from models.site import Site
from models.trees_walk import COMPILED


def torch_site(device: str, *, half: bool) -> Site | None:
    """Return the site of a device; None where the compiled kernels answer better.

    Raises:
        NoDevice: The device is not there.
    """
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    engine = engine_for(device)
    if COMPILED and not half and not engine.captures:
        return None

    @contextmanager
    def staging() -> Iterator[None]:
        torch.set_num_threads(1)  # of this thread: the sums of several come out otherwise
        with torch.inference_mode(), engine.staging():
            yield

    return Site(
        make=lambda weights: TorchBank(weights, engine, half=half),
        device=engine.name + (" bfloat16" if half else ""),
        libraries=f"torch-{torch.__version__}",
        tolerance=HALF_TOLERANCE if half else GOLDEN_TOLERANCE,
        staging=staging,
    )

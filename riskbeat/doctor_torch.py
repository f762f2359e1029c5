"""this machine → a line about torch: its version and the device that a scorer would take."""

import torch


def describe_torch() -> str:
    """Return torch's version and the device of `RISKBEAT_DEVICE=auto`."""
    if not torch.cuda.is_available():
        return f"{torch.__version__} on the CPU"
    return f"{torch.__version__} on {torch.cuda.get_device_name()}"

"""A processor is answered by compiled kernels, and without torch; CUDA is asked for by name."""

import subprocess
import sys

import pytest

from models import site
from models.bank_torch import TorchBank
from models.bank_walk import WalkBank
from models.scorer import NoDevice
from models.site import site_for
from tests.builders_weights import some_weights

WEIGHTS = some_weights("d" * 64, 5)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_processor_walks(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "GPU_SIGNS", ())
    found = site_for(device)
    assert isinstance(found.make(WEIGHTS), WalkBank)
    assert found.device.startswith("cpu-")
    assert "numba-" in found.libraries


def test_bfloat16_and_what_is_not_compiled_are_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    half = site_for("cpu", half=True)
    assert isinstance(half.make(WEIGHTS), TorchBank)
    assert half.device.endswith(" bfloat16")
    assert "torch-" in half.libraries
    monkeypatch.setattr(site, "COMPILED", False)
    monkeypatch.setattr("models.site_torch.COMPILED", False)
    assert isinstance(site_for("cpu").make(WEIGHTS), TorchBank)


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(NoDevice):
        site_for("cuda")
    monkeypatch.setattr(site, "GPU_SIGNS", ("/",))  # a driver without a device that torch sees
    assert isinstance(site_for("auto").make(WEIGHTS), WalkBank)


def test_a_scorer_on_a_processor_imports_no_torch() -> None:
    code = "import sys, riskbeat.serve, models.site as s; s.GPU_SIGNS = (); s.site_for('auto'); "
    code += "sys.exit('torch is there' if 'torch' in sys.modules else None)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr

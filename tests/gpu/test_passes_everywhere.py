"""The checks of passes, on the processor and on a GPU where there is one; and what they import."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.engine_torch import CpuEngine, engine_for
from tests.gpu.checks import CHECKS, Check

ROOT = Path(__file__).parents[2]
ALLOWED = {"torch", "numpy", "numba", "safetensors"}
FORBIDDEN = ("msgspec", "xxhash", "cryptography", "redis", "aiokafka", "pydantic", "pytest")
WITHOUT = """
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {forbidden!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Bare())
import tests.gpu.checks, load_tests.gpu
"""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_passes(device: str, check: Check) -> None:
    if device == "cpu":
        check(CpuEngine())
    elif not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    else:
        check(engine_for("cuda"))


def test_a_bare_gpu_machine_has_all_that_is_needed() -> None:
    code = WITHOUT.format(forbidden=FORBIDDEN)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

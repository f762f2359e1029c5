"""The model of the bare workload, and its blobs: the same for every server beside ours.

Imported by the peers' scripts from beside them, in their own environments.
"""

import numpy as np
import torch

KEYS = 4
BLOBS = 1_000
BLOB_BYTES = 512
FLOATS_OF_BLOB = 16


def make_model() -> torch.nn.Module:
    """Return the MLP 64-128-64-1, with seeded weights."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 1),
        torch.nn.Sigmoid(),
    ).eval()


def fill_blobs(client: object) -> None:
    """Write the blobs that are asked for."""
    random = np.random.default_rng(1)
    for index in range(BLOBS):
        data = random.standard_normal(BLOB_BYTES // 4).astype(np.float32).tobytes()
        client.set(f"blob:{index}", data)  # type: ignore[attr-defined]


def row_of(blobs: list) -> np.ndarray:  # type: ignore[type-arg]
    """Return the model's input of one request."""
    floats = np.frombuffer(b"".join(blobs), np.float32).reshape(KEYS, -1)
    return floats[:, :FLOATS_OF_BLOB].reshape(-1)

"""The bare workload behind our door scores by the same network as the servers beside it."""

import numpy as np
import torch

from load_tests.peers.scoring_model import make_model
from load_tests.scoring_bare import arrays_of, scores_of
from models.walk_members import Network


def test_the_network_is_the_peers() -> None:
    model = make_model()
    x = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(x))[:, 0].numpy()
    found = scores_of(Network.of(arrays_of(model)), x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)

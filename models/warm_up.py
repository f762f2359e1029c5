"""an ensemble → nothing: a first step and a first version are gone through, and thrown away.

What takes long once (members' libraries, machine code, the first step of an optimiser) is done
before a learner takes its place, so that a standby goes on at once where another one ended.
"""

import numpy as np

from models.ensemble import Ensemble
from models.learner import Stamp
from models.plan import LANES
from models.signing import Signer
from models.taught import Taught
from models.weights import encode

ROWS = 64
SEED = 20_240_229


def warm_up(ensemble: Ensemble, n_features: int, signer: Signer) -> int:
    """Teach some rows to an ensemble of nobody's, and make a version of it.

    Returns:
        The version's bytes.
    """
    draw = np.random.default_rng(SEED)
    X = draw.random((ROWS, n_features), np.float32)
    y = (np.arange(ROWS) % 2).astype(np.uint8)
    ids, at_ms = np.arange(ROWS, dtype=np.uint64), np.arange(ROWS, dtype=np.int64)
    weight = np.ones(ROWS, np.float32)
    rows = Taught(X, y, weight, ids, at_ms)
    ensemble.observe_many(X, np.full(ROWS, 0.5))
    beliefs = ensemble.predict_each(X)
    for lane in LANES:
        ensemble.learn_many(lane, rows)
    ensemble.flush()
    ensemble.judge_many(beliefs, y, weight, ids, at_ms)
    stamp = Stamp(
        version=1,
        parent_sha256="",
        offsets={},
        learned_until_ms=0,
        labels_learned=ROWS,
        created_at_ms=0,
        metrics={},
        code_version="warm-up",
    )
    return len(encode(ensemble.snapshot(stamp), signer))

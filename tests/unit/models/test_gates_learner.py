"""What a learner publishes, its steps bounded or not, passes the gates of scorers."""

import msgspec
import numpy as np

from models.formula_torch import TorchFormula
from models.scorer_local import LocalScorer
from models.slew import ALPHA, StepBounds, answered, bounded
from models.weights import Weights, decode_verified, encode, sha256_of
from tests.builders_ensemble import a_stamp, an_ensemble, some_rows
from tests.signers import SIGNER

VERSIONS, FREE_UNTIL = 12, 6
ROWS = 300


def test_versions_of_an_ensemble_are_taken_one_after_the_other() -> None:
    ensemble, formula = an_ensemble(), TorchFormula()
    scorer: LocalScorer | None = None
    previous: Weights | None = None
    parent, shares = "", []
    for number in range(1, VERSIONS + 1):
        rows = some_rows(ROWS, number, number * 1_000)
        ensemble.observe_many(rows.X, np.full(ROWS, np.nan))
        for lane in ("feedback", "delayed"):
            ensemble.learn_many(lane, rows)
        ensemble.advance(number * 2_000)
        learned = ROWS * number + (10_000 if number > FREE_UNTIL else 0)
        stamp = msgspec.structs.replace(
            a_stamp(number), parent_sha256=parent, labels_learned=learned
        )
        candidate = answered(ensemble.snapshot(stamp), formula)
        previous = bounded(previous, candidate, StepBounds(), formula)
        data = encode(previous, SIGNER)
        parent = sha256_of(data)
        if scorer is None:
            scorer = LocalScorer(previous.schema_digest, previous.n_features, "test", "cpu")
        scorer.load(decode_verified(data, [SIGNER.public_key]), parent)
        with scorer.snapshot() as held:
            for row in rows.X[:40]:
                held.score_many(row[None])
        shares.append(previous.metrics[ALPHA])
    assert scorer is not None
    assert scorer.versions() == {"active": VERSIONS}
    assert min(shares[FREE_UNTIL:]) < 1, "steps were bounded on the way"

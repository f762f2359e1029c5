"""answers, the log of decisions → how many are not what the version that they name gives.

Every answer is computed again, bit for bit, from the vector and the bucket that the log holds and
the version that the answer names; its neighbours are asked, too, so that a check which could not
tell versions apart would show.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from load_tests.swaps_load import Answer
from load_tests.swaps_versions import Line
from models.decision import DecisionRecord
from models.decision_codec import decode_vector
from models.scorer_local import LocalScorer

Group = tuple[int, int]


@dataclass
class Verdict:
    """What the check found.

    Attributes:
        checked: Answers that were computed again.
        unrecorded: Answers that the log does not hold.
        mixed: Answers whose score is not, bit for bit, what their version gives.
        misnamed: Answers that name other bytes than were published under that number.
        elsewhere: Answers of another device or build, which cannot be compared by bits.
        unscored: Answers without a score.
        least_move: Smallest difference of log-odds between the version that an answer names and
            the ones beside it, on the answer's vector.
        examples: The first few that are wrong, in words.
    """

    checked: int = 0
    unrecorded: int = 0
    mixed: int = 0
    misnamed: int = 0
    elsewhere: int = 0
    unscored: int = 0
    least_move: float = float("inf")
    versions: set[int] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)


def check_answers(
    answers: Iterable[Answer],
    records: Mapping[str, DecisionRecord],
    sha256: Mapping[int, str],
    line: Line,
    scorer: LocalScorer,
) -> Verdict:
    """Compute all answers again.

    Args:
        answers: What clients were told.
        records: Decision id → what the log says.
        sha256: Version → what was published.
        line: Where the versions come from.
        scorer: Of the build and device that answered.
    """
    verdict = Verdict()
    groups: dict[Group, list[tuple[Answer, DecisionRecord]]] = defaultdict(list)
    for answer in answers:
        record = records.get(answer.decision_id)
        if record is None:
            verdict.unrecorded += 1
        elif record.weights is None or record.scored_by is None or answer.p is None:
            verdict.unscored += 1
        elif record.scored_by.device != scorer.device:
            verdict.elsewhere += 1
        elif record.weights.sha256 != sha256.get(answer.version):
            verdict.misnamed += 1
        else:
            groups[answer.version, record.scored_by.bucket].append((answer, record))
    for (version, bucket), members in sorted(groups.items()):
        verdict.versions.add(version)
        _check_group(version, bucket, members, line, scorer, verdict)
    return verdict


def _check_group(
    version: int,
    bucket: int,
    members: Sequence[tuple[Answer, DecisionRecord]],
    line: Line,
    scorer: LocalScorer,
    verdict: Verdict,
) -> None:
    X = np.stack([decode_vector(record.vector) for _, record in members])
    logit, p = _scores(version, bucket, X, line, scorer)
    for other in (version - 1, version + 1):
        if other >= 1:
            beside, _ = _scores(other, bucket, X, line, scorer)
            verdict.least_move = min(verdict.least_move, float(np.abs(beside - logit).min()))
    for i, (answer, record) in enumerate(members):
        verdict.checked += 1
        if np.float32(record.score.logit) != logit[i] or answer.p != p[i]:
            verdict.mixed += 1
            if len(verdict.examples) < 5:
                verdict.examples.append(
                    f"{answer.decision_id}: version {version} gives {logit[i]!r}, "
                    f"the log says {record.score.logit!r}, the answer {answer.p!r}"
                )


def _scores(
    version: int, bucket: int, X: NDArray[np.float32], line: Line, scorer: LocalScorer
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    if not scorer.recall(version):
        scorer.load(line.weights(version), "", willed=True)
    with scorer.snapshot() as held:
        scores = held.score_many(X, bucket)
        return scores.logit, scores.p

"""decisions, the log, versions, policies → the same decisions again, and in what they differ.

Two questions to each. Does the log, at the offsets that the decision names, give the vector that it
says it scored? And do that vector, that version of the weights and that policy give what it says
was answered? On the build and device that answered, all of it must be equal bit for bit; elsewhere
log-odds may differ by `LOGIT_TOLERANCE`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from features.event import Event, EventRejected, identity_of, parse_event
from features.spec import Spec
from models.decision import DecisionRecord, Reason
from models.decision_codec import decode_vector
from models.policy import Ruling
from models.scorer import Scores
from pipeline.skew import as_named, complete_from_ms, same, unfit
from pipeline.skew_index import index_log
from pipeline.skew_log import Placed
from pipeline.skew_recompute import recompute

LOGIT_TOLERANCE: Final = 1e-5
"""Of another build or device (design 4.6); relative beyond 1."""
NAMED_FEATURES: Final = 5


class CannotRemake(LookupError):
    """What a decision rests on is not at hand any more; says what."""


class Remade(NamedTuple):
    """What version and policy answer to a vector, again.

    Attributes:
        sha256: Of the version's bytes, as they are now.
        exact: Whether build and device are those of the decision.
    """

    sha256: str
    scores: Scores
    ruling: Ruling
    reasons: list[Reason]
    exact: bool


class Remaker(Protocol):
    """Answers to vectors with versions and policies of the past.

    Implementation: `riskbeat.recompute.PastAnswers`.
    """

    def remake(self, record: DecisionRecord, x: NDArray[np.float32]) -> Remade:
        """Answer to a recorded vector, shape (n_features,), by all that the record names.

        Raises:
            CannotRemake: The version or the policy is not at hand.
        """


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One decision, held against what follows from all that it names.

    Attributes:
        exact: Whether it was held to bits, being of this build and device.
        differences: In what it is not what it should be; none: it is.
        unknown: What could not be made again, and why.
    """

    decision_id: str
    exact: bool
    differences: tuple[str, ...]
    unknown: tuple[str, ...]


def recompute_many(
    spec: Spec,
    partitions: int,
    log: Sequence[Placed],
    records: Sequence[DecisionRecord],
    remaker: Remaker,
    tell: Callable[[int], None] = lambda _: None,
) -> list[Recomputed]:
    """Make decisions again and compare.

    Args:
        spec: By which vectors are made; decisions of another one are left unknown.
        partitions: Count of updates partitions of the store.
        log: Events and label updates.
        records: What was answered.
        remaker: Versions and policies.
        tell: Hears how many are done.
    """
    vectors, why_not = _vectors(spec, partitions, log, records)
    events = _events(spec, log, {identity_of(record.event) for record in records})
    found: dict[int, Recomputed] = {}
    by_version = sorted(range(len(records)), key=lambda i: _version(records[i]))
    for done, i in enumerate(by_version, 1):
        record, differences, unknown = records[i], list[str](), list[str]()
        logged = decode_vector(record.vector)
        if i in vectors:
            differences += _of_vector(spec, logged, vectors[i])
        else:
            unknown.append(f"vector: {why_not[i]}")
        differences += _of_event(record, events.get(identity_of(record.event)))
        exact, answered = False, None
        if record.spec_digest == spec.digest:
            try:
                answered = remaker.remake(record, logged)
            except CannotRemake as error:
                unknown.append(str(error))
        if answered is not None:
            exact = answered.exact
            differences += _of_answer(record, answered)
        found[i] = Recomputed(record.decision_id, exact, tuple(differences), tuple(unknown))
        tell(done)
    return [found[i] for i in range(len(records))]


def _version(record: DecisionRecord) -> tuple[int, int]:
    return (record.weights.version if record.weights else 0, record.policy.version)


def _vectors(
    spec: Spec, partitions: int, log: Sequence[Placed], records: Sequence[DecisionRecord]
) -> tuple[dict[int, NDArray[np.float32]], dict[int, str]]:
    """Return vectors by the records' places, and why others have none."""
    index = index_log(spec, partitions, log)
    complete_ms = complete_from_ms(spec, index)
    why_not = {
        i: reason
        for i, record in enumerate(records)
        if (reason := unfit(spec, index, record, complete_ms)) is not None
    }
    fit = [i for i in range(len(records)) if i not in why_not]
    questions = [as_named(spec, index, partitions, records[i]) for i in fit]
    return dict(zip(fit, recompute(spec, index, questions), strict=True)), why_not


def _events(spec: Spec, log: Sequence[Placed], wanted: set[str]) -> dict[str, Event]:
    """Return the events of the log by identity; the first of equal ones."""
    found: dict[str, Event] = {}
    for placed in log:
        if placed.topic != "events":
            continue
        try:
            event = parse_event(placed.value, spec.event_rules, placed.timestamp_ms)
        except EventRejected:
            continue
        name = identity_of(event)
        if name in wanted:
            found.setdefault(name, event)
    return found


def _of_event(record: DecisionRecord, logged: Event | None) -> Iterator[str]:
    if logged is None:
        yield "event: the log does not hold it"
        return
    for field in record.event.__struct_fields__:
        mine, theirs = getattr(record.event, field), getattr(logged, field)
        if mine != theirs:
            yield f"event.{field}: recorded {mine!r}, in the log {theirs!r}"


def _of_vector(spec: Spec, logged: NDArray[np.float32], made: NDArray[np.float32]) -> Iterator[str]:
    if logged.shape != made.shape:
        yield f"vector: {len(logged)} numbers recorded, {len(made)} expected"
        return
    unlike = np.flatnonzero(~same(logged, made)).tolist()
    for i in unlike[:NAMED_FEATURES]:
        yield f"vector: {spec.feature_names[i]} recorded {logged[i]:.9g}, made again {made[i]:.9g}"
    if len(unlike) > NAMED_FEATURES:
        yield f"vector: {len(unlike) - NAMED_FEATURES} features more"


def _of_answer(record: DecisionRecord, made: Remade) -> Iterator[str]:
    weights, score = record.weights, record.score
    assert weights is not None
    if weights.sha256 != made.sha256:
        yield f"weights: recorded {weights.sha256[:12]}, the topic holds {made.sha256[:12]}"
    logit = float(made.scores.logit[0])
    if score.logit is None or not _near(score.logit, logit, made.exact):
        yield f"logit: recorded {score.logit}, made again {logit}"
    for field, again in (("value", made.scores.p[0]), ("percentile", made.scores.percentile[0])):
        told, value = getattr(score, field), float(again)
        if math.isnan(value) != (told is None) or (
            told is not None and not _near(told, value, made.exact)
        ):
            yield f"score.{field}: recorded {told}, made again {value}"
    ruling = made.ruling
    for field, said, again_said in (
        ("outcome", record.outcome, ruling.outcome),
        ("propensity", record.propensity, ruling.propensity),
        ("would_be", record.would_be, ruling.would_be),
    ):
        if said != again_said:
            yield f"{field}: recorded {said}, made again {again_said}"
    yield from _of_reasons(record.reasons, made.reasons, made.exact)


def _of_reasons(recorded: Sequence[Reason], made: Sequence[Reason], exact: bool) -> Iterator[str]:
    if len(recorded) != len(made):
        yield f"reasons: {len(recorded)} recorded, {len(made)} made again"
    for place, (one, other) in enumerate(zip(recorded, made, strict=False), 1):
        for field in one.__struct_fields__:
            mine, theirs = getattr(one, field), getattr(other, field)
            numbers = isinstance(mine, float) and isinstance(theirs, float)
            if mine != theirs and not (numbers and _near(mine, theirs, exact)):
                yield f"reason {place}, {field}: recorded {mine}, made again {theirs}"


def _near(one: float, other: float, exact: bool) -> bool:
    if exact:
        return one == other
    return abs(one - other) <= LOGIT_TOLERANCE * max(1.0, abs(one))

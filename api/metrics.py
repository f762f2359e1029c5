"""What the scorer counts. Every metric of the serve process stands here."""

import os
from collections import Counter as TallyOf
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, mmap_dict, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MultiProcessValue

from api.backlog_metrics import BacklogMetrics
from api.breaker import Reason, Stage
from api.policy_metrics import PolicyMetrics
from api.score_metrics import ScoreMetrics
from features.entity_features import EntityFeatures
from models.decision import DecisionRecord

# 0.5 ms to 1 s; 0.1 is the promised limit of an answer, 0.02 the budget at p99.
_ANSWER_EDGES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.08, 0.1, 0.25, 1.0)
# The same, and up to 5 min for a stream door that catches up.
_DECISION_EDGES = (*_ANSWER_EDGES[:-1], 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
# 10 ms to 5 min; 1.5 is the promised age of a label in serving weights.
_AGE_EDGES = (0.01, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 60.0, 300.0)
# 5 ms to 1 min; 0.06 is the promised freshness.
_STALE_EDGES = (0.005, 0.01, 0.025, 0.06, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)

SHARED = "PROMETHEUS_MULTIPROC_DIR"
SHARED_BYTES = 1 << 20
"""Of each file, sparse: one that grew while a request is counted could fail it."""


class Tallied(Histogram):
    """A histogram without labels that counts equal values together: a batch has few different."""

    def observe_many(self, amount: float, count: int) -> None:
        """Observe the same amount several times."""
        self._sum.inc(amount * count)
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            if amount <= bound:
                bucket.inc(count)
                return


class ServeMetrics:
    """The metrics of one serve process, in a registry of their own.

    Attributes:
        observers: Who else counts decisions.
    """

    def __init__(self) -> None:
        """Start every metric at nothing."""
        self.registry = CollectorRegistry()
        self.observers: list[Callable[[Sequence[DecisionRecord]], None]] = []
        self._count_decisions(self.registry)
        self._count_stages(self.registry)
        self._count_weights(self.registry)
        self._count_requests(self.registry)
        self._count_reads(self.registry)
        self.backlog = BacklogMetrics(self.registry)
        self.policy = PolicyMetrics(self.registry)
        self.scores = ScoreMetrics(self.registry)

    def _count_decisions(self, r: CollectorRegistry) -> None:
        self.decisions = Counter(
            "riskbeat_decisions_total",
            "Decisions made, by outcome and by what they rest on.",
            ["outcome", "basis", "door"],
            registry=r,
        )
        self.passed_through = Counter(
            "riskbeat_passed_through_decisions_total",
            "Events let through by chance to learn what becomes of them, by the outcome that they "
            "would have had.",
            ["would_be"],
            registry=r,
        )
        self.degraded = Counter(
            "riskbeat_degraded_decisions_total",
            "Decisions made without a part of what they should rest on.",
            ["part"],
            registry=r,
        )
        self.decision_seconds = Histogram(
            "riskbeat_decision_seconds",
            "Time to a recorded decision: from the request's head over HTTP, from the log's append "
            "of the event on the stream.",
            ["door"],
            buckets=_DECISION_EDGES,
            registry=r,
        )
        self.step_seconds = Histogram(
            "riskbeat_decide_step_seconds",
            "Time to decide one batch: features, model and policy, without the log.",
            ["door"],
            buckets=_ANSWER_EDGES,
            registry=r,
        )
        self.batch_events = Histogram(
            "riskbeat_decide_batch_events",
            "Events decided together.",
            ["door"],
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            registry=r,
        )
        self.staleness_seconds = Tallied(
            "riskbeat_features_staleness_seconds",
            "Age of the oldest feature state that a decision rests on.",
            buckets=_STALE_EDGES,
            registry=r,
        )
        self.weights_age_seconds = Tallied(
            "riskbeat_decision_weights_age_seconds",
            "Age of the weights at the decisions that used them.",
            buckets=_AGE_EDGES,
            registry=r,
        )

    def _count_stages(self, r: CollectorRegistry) -> None:
        self.stage_failures = Counter(
            "riskbeat_stage_failures_total",
            "Batches that a stage failed, or that left it out because its breaker was open.",
            ["stage", "reason"],
            registry=r,
        )
        self.breakers_open = Gauge(
            "riskbeat_breaker_open",
            "1 while a stage is left alone because it failed, else 0.",
            ["stage"],
            registry=r,
        )

    def stage_failed(self, stage: Stage, reason: Reason) -> None:
        """A stage failed, or was not asked; see `api.breaker`."""
        self.stage_failures.labels(stage, reason).inc()

    def stage_opened(self, stage: Stage, is_open: bool) -> None:
        """A breaker opened, or closed again."""
        self.breakers_open.labels(stage).set(float(is_open))

    def _count_weights(self, r: CollectorRegistry) -> None:
        self.weights_version = Gauge(
            "riskbeat_weights_version", "Version of the weights in use; 0 before one.", registry=r
        )
        self.weights_created = Gauge(
            "riskbeat_weights_created_timestamp_seconds",
            "When the weights in use were made, seconds since 1970: the clock less this is their "
            "age. 0 before one.",
            registry=r,
        )
        self.weights_spread = Gauge(
            "riskbeat_weights_spread_versions",
            "Newest version that a scorer of the deployment answers with, less the oldest.",
            registry=r,
        )
        self.weights_scorers = Gauge(
            "riskbeat_weights_scorers", "Scorers of the deployment that reported.", registry=r
        )
        self.weights_swaps = Counter(
            "riskbeat_weights_swaps_total", "Versions that became active here.", registry=r
        )
        self.label_serving_seconds = Histogram(
            "riskbeat_label_serving_seconds",
            "Time from the log's append of a label until weights that learned it serve here; a "
            "sample of at most 64 labels a version.",
            buckets=_AGE_EDGES,
            registry=r,
        )
        self.weights_refused = Counter(
            "riskbeat_weights_refused_total", "Versions that a gate refused.", ["gate"], registry=r
        )

    def _count_requests(self, r: CollectorRegistry) -> None:
        self.repeats = Counter(
            "riskbeat_repeated_requests_total",
            "Requests that had an answer already, or contradicted one.",
            ["kind"],
            registry=r,
        )
        self.requests = Counter(
            "riskbeat_http_requests_total", "HTTP answers.", ["route", "status"], registry=r
        )
        self.refused = Counter(
            "riskbeat_refused_requests_total",
            "HTTP requests that were not let in: by key, scope or rate, before the body was read.",
            ["reason"],
            registry=r,
        )
        self.api_keys = Gauge(
            "riskbeat_api_keys", "API keys that are valid, as last read.", registry=r
        )
        self.rejected = Counter(
            "riskbeat_stream_rejected_events_total",
            "Events that the stream door could not read (their dead letter is the router's).",
            ["code"],
            registry=r,
        )
        self.skipped = Counter(
            "riskbeat_stream_skipped_events_total",
            "Events that HTTP had decided before the stream door saw them.",
            registry=r,
        )

    def _count_reads(self, r: CollectorRegistry) -> None:
        self.entities_read = Counter(
            "riskbeat_entities_read_total",
            "Entities whose features were asked for, by what the store knew of them.",
            ["state"],
            registry=r,
        )
        self.late_questions = Counter(
            "riskbeat_late_questions_total",
            "Features asked for at an instant that the state could not answer in full.",
            registry=r,
        )
        self.features_seconds = Histogram(
            "riskbeat_features_request_seconds",
            "Time to answer a request for features.",
            ["route"],
            buckets=_ANSWER_EDGES,
            registry=r,
        )

    def features_read(self, answers: Sequence[EntityFeatures]) -> None:
        """Count answered questions about features."""
        for answer in answers:
            self.entities_read.labels("stale" if answer.stale else answer.state).inc()
            if answer.late_question:
                self.late_questions.inc()

    def observe_batch(self, records: Sequence[DecisionRecord], door: str, seconds: float) -> None:
        """Count one decided batch."""
        self.step_seconds.labels(door).observe(seconds)
        self.batch_events.labels(door).observe(len(records))
        self.policy.observe(records)
        self.scores.observe(records)
        for observe in self.observers:
            observe(records)
        outcomes: TallyOf[tuple[str, str]] = TallyOf()
        degraded: TallyOf[str] = TallyOf()
        staleness_ms: TallyOf[int] = TallyOf()
        age_ms: TallyOf[int] = TallyOf()
        for record in records:
            basis = "model" if record.weights is not None else "prior"
            outcomes[record.outcome, basis] += 1
            if record.would_be is not None:
                self.passed_through.labels(record.would_be).inc()
            degraded.update(record.degraded)
            if record.features.staleness_ms is not None:
                staleness_ms[record.features.staleness_ms] += 1
            if record.model is not None:
                age_ms[record.model.age_ms] += 1
        for (outcome, basis), count in outcomes.items():
            self.decisions.labels(outcome, basis, door).inc(count)
        for part, count in degraded.items():
            self.degraded.labels(part).inc(count)
        for ms, count in staleness_ms.items():
            self.staleness_seconds.observe_many(ms / 1000, count)
        for ms, count in age_ms.items():
            self.weights_age_seconds.observe_many(ms / 1000, count)

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics page and its type: of all workers, where there are several.

        Exemplars stand only in the OpenMetrics format, and not where several workers share a page:
        the library keeps none of them there.

        Args:
            accept: What the asker reads; the text format if it says nothing.
        """
        encode, kind = choose_encoder(accept)
        folder = os.environ.get(SHARED)
        if folder is None:
            return encode(self.registry), kind
        all_workers = CollectorRegistry()
        MultiProcessCollector(all_workers, folder)  # type: ignore[no-untyped-call]
        return encode(all_workers), kind


def share_metrics(worker: str) -> None:
    """Add this process's figures up with those of other workers on one page; before any is made.

    Counts and histograms are sums over all workers that ever were; a gauge stands for each one that
    lives, told apart by the label `pid`, which is the worker's name. The folder is that of the
    environment's `PROMETHEUS_MULTIPROC_DIR`.

    Args:
        worker: A name that no other process of the folder bears at the same time. The one that
            bears it next goes on with its counts.
    """
    mmap_dict._INITIAL_MMAP_SIZE = SHARED_BYTES
    values.ValueClass = MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]

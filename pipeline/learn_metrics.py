"""What the learner counts and measures, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from models.registry import Freeze
from pipeline.learn_ports import Published
from pipeline.metrics import STEP_BUCKETS_S, BulkHistogram, serve_page
from pipeline.position import StepCounts
from pipeline.tls_files import TlsFiles

# 10 ms … 30 s; 1.5 s is the promised p99 from a label's append to a version that serves it.
PUBLISH_BUCKETS_S = (
    0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 30.0,
)  # fmt: skip
FORMS = ("full", "delta")
CAUSES = ("operator", "checks")


class LearnMetrics:
    """The metrics of the learner; a `learn_ports.LearnWatch`."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Make them in a registry of their own; `now_s` is the wall clock in seconds."""
        self.registry = CollectorRegistry()
        r = self.registry
        self.labels = Counter(
            "riskbeat_labels", "Labels, by what became of them.", ["outcome"], registry=r
        )
        self.decisions = Counter(
            "riskbeat_decisions_joined",
            "Decisions taken into the join store, by what became of them.",
            ["outcome"],
            registry=r,
        )
        self.rejects = Counter(
            "riskbeat_learn_rejects",
            "Records sent to the dead-letter topic, by reason.",
            ["code"],
            registry=r,
        )
        self.steps = Histogram(
            "riskbeat_learn_seconds",
            "Time of one learning step over one batch.",
            buckets=STEP_BUCKETS_S,
            registry=r,
        )
        self.version = Gauge(
            "riskbeat_weights_version", "The newest published version.", registry=r
        )
        self.age = Gauge(
            "riskbeat_weights_age_seconds",
            "Time since the newest published version was made.",
            registry=r,
        )
        self.judgement = Gauge(
            "riskbeat_judgement",
            "What the newest version says of itself: progressive evaluation, lanes, members.",
            ["figure"],
            registry=r,
        )
        self._make_publishing()
        self.freeze_changed(None)
        self._created_s = now_s()
        self.age.set_function(lambda: max(0.0, now_s() - self._created_s))

    def _make_publishing(self) -> None:
        """Make the metrics of versions on their way."""
        r = self.registry
        self.versions = Counter(
            "riskbeat_weights_published",
            "Versions published, full ones and deltas to the version before.",
            ["form"],
            registry=r,
        )
        self.bytes = Counter(
            "riskbeat_weights_published_bytes",
            "Bytes of published versions, by form.",
            ["form"],
            registry=r,
        )
        self.publishing = Histogram(
            "riskbeat_publish_seconds",
            "Time from the beginning of a version's making until scorers can have it.",
            buckets=PUBLISH_BUCKETS_S,
            registry=r,
        )
        self.label_waits = BulkHistogram(
            "riskbeat_label_published_seconds",
            "Time from a label's append to the log until a version that learned it is published.",
            PUBLISH_BUCKETS_S,
            r,
        )
        self.frozen = Gauge(
            "riskbeat_publishing_frozen",
            "1 while no versions are made, by who wants it so.",
            ["cause"],
            registry=r,
        )
        for form in FORMS:
            self.versions.labels(form)
            self.bytes.labels(form)

    def stepped(self, counts: StepCounts, rejects: int, seconds: float) -> None:
        """One batch was taken in."""
        for outcome, count in counts.decisions.items():
            self.decisions.labels(outcome).inc(count)
        for outcome, count in counts.labels.items():
            self.labels.labels(outcome).inc(count)
        for code, count in counts.rejects.items():
            self.rejects.labels(code).inc(count)
        self.steps.observe(seconds)

    def published(self, done: Published) -> None:
        """A version is on the shelf."""
        self.version.set(done.version)
        self._created_s = done.created_at_ms / 1000
        form = "delta" if done.base else "full"
        self.versions.labels(form).inc()
        self.bytes.labels(form).inc(done.size_bytes)
        self.publishing.observe(done.seconds)
        self.label_waits.observe_many(done.label_waits_s)
        for figure, value in done.figures.items():
            self.judgement.labels(figure).set(value)

    def freeze_changed(self, freeze: Freeze | None) -> None:
        """Versions are no longer made, or are made again."""
        for cause in CAUSES:
            self.frozen.labels(cause).set(freeze is not None and freeze.cause == cause)

    def serve(self, port: int, address: str = "127.0.0.1", tls: TlsFiles | None = None) -> int:
        """Answer scrapes from a thread of its own; return the port (a free one for 0)."""
        return serve_page(self.registry, port, address, tls)

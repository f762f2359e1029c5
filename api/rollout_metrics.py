"""What a scorer counts of rollouts."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from models.decision import DecisionRecord
from models.rollout import RolloutAct, RolloutState

# 0.1 to 100 ms; 0.025 is the budget of the model.
_PASS_EDGES = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1)
# Log-odds; 2 is the largest step of a version of one line.
_APART_EDGES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


class RolloutMetrics:
    """The metrics of rollouts, in the process's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start every metric at nothing."""
        self._decisions = Counter(
            "riskbeat_rollout_decisions_total",
            "Decisions that took part in a rollout, by who answered; fallback: the candidate "
            "failed, and the stable arm answered.",
            ["arm"],
            registry=registry,
        )
        self._alerts = Counter(
            "riskbeat_rollout_alerts_total",
            "Of these decisions, those that were not approved, or by chance only.",
            ["arm"],
            registry=registry,
        )
        self._pass_seconds = Histogram(
            "riskbeat_rollout_pass_seconds",
            "Time of the forward pass that scored an arm's part of a batch.",
            ["arm"],
            buckets=_PASS_EDGES,
            registry=registry,
        )
        self._shadows = Counter(
            "riskbeat_rollout_shadows_total",
            "Events that a candidate scored beside the answer, or could have.",
            ["state"],
            registry=registry,
        )
        self._agreements = Counter(
            "riskbeat_rollout_shadow_agreements_total",
            "Events on which a shadow's score would have led to the same outcome.",
            registry=registry,
        )
        self._apart = Histogram(
            "riskbeat_rollout_shadow_difference_logits",
            "Distance of a shadow's log-odds from those of the answer.",
            buckets=_APART_EDGES,
            registry=registry,
        )
        self._share = Gauge(
            "riskbeat_rollout_share",
            "Share of the entities that a candidate answers for.",
            registry=registry,
        )
        self._number = Gauge(
            "riskbeat_rollout_number", "Number of the newest rollout; 0: none.", registry=registry
        )
        self._changes = Counter(
            "riskbeat_rollout_changes_total",
            "Changes of a rollout that this worker made by itself.",
            ["act"],
            registry=registry,
        )
        self._blind = Counter(
            "riskbeat_rollout_blind_total",
            "Times at which a candidate was left aside, since the state of its rollout could not "
            "be read.",
            registry=registry,
        )

    def observe(self, records: Sequence[DecisionRecord]) -> None:
        """Count decisions that were made."""
        for record in records:
            ref, logit = record.rollout, record.score.logit
            if ref is None or logit is None:
                continue
            self._decisions.labels(ref.arm).inc()
            self._pass_seconds.labels(ref.arm).observe(ref.pass_ms / 1000)
            if (record.would_be or record.outcome) != "approve":
                self._alerts.labels(ref.arm).inc()
            for one in record.shadow:
                self._shadows.labels(one.state).inc()
                if one.logit is not None:
                    self._apart.observe(abs(one.logit - logit))
                    if one.outcome == one.beside:
                        self._agreements.inc()

    def seen(self, state: RolloutState) -> None:
        """The state was read."""
        rollout = state.rollout
        self._number.set(0 if rollout is None else rollout.number)
        self._share.set(0 if rollout is None or not rollout.running else rollout.share)

    def changed(self, act: RolloutAct) -> None:
        """This worker changed the state."""
        self._changes.labels(act.act).inc()

    def blinded(self) -> None:
        """A candidate was left aside."""
        self._blind.inc()

"""What a scorer counts of its policy, rules and lists."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from models.decision import DecisionRecord


class PolicyMetrics:
    """The metrics of station 7, in the process's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start every metric at nothing."""
        self.version = Gauge(
            "riskbeat_policy_version", "Version of the policy in use.", registry=registry
        )
        self.refused = Counter(
            "riskbeat_policy_refused_total",
            "Policies that counted in the store and were none for this process.",
            registry=registry,
        )
        self.halts = Counter(
            "riskbeat_rule_halts_total",
            "Rules that this process halted, since they hit too much.",
            registry=registry,
        )
        self.list_entries = Gauge(
            "riskbeat_list_entries",
            "Entries of allow, deny and watch lists that this process knows.",
            registry=registry,
        )
        self._rules = Counter(
            "riskbeat_rule_verdicts_total",
            "Events that a rule met, or failed on, by rule and by what became of that.",
            ["rule", "state"],
            registry=registry,
        )
        self._lists = Counter(
            "riskbeat_list_matches_total",
            "Entries of lists that an event met.",
            ["code"],
            registry=registry,
        )

    def observe(self, records: Sequence[DecisionRecord]) -> None:
        """Count decisions that were made."""
        for record in records:
            for rule in record.rules:
                self._rules.labels(rule.id, rule.state).inc()
            for reason in record.reasons:
                if reason.source == "list":
                    self._lists.labels(reason.code).inc()

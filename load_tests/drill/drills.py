"""What provokes each alert, what its page says to look at, and what it says to do."""

from collections.abc import Callable
from dataclasses import dataclass

from load_tests.chaos.stage import Stage
from load_tests.drill import acts

HISTORY_S = 1_200.0  # a quarter of an hour must differ from all that was seen


def no_reason() -> str:
    """Return why a drill cannot be held on this machine: it can."""
    return ""


@dataclass(frozen=True)
class Drill:
    """One way in which things go wrong, and right again.

    Attributes:
        alerts: That must fire.
        causes: What is done, in words; for who reads the evidence.
        begin: Does it.
        looks: What the pages say to look at: queries of Prometheus, and commands.
        end: Does what the pages say to do.
        missing: Why it cannot be held here; empty if it can.
        history_s: How long Prometheus must have watched before; what is usual is told by that.
    """

    alerts: tuple[str, ...]
    causes: str
    begin: Callable[[Stage], None]
    looks: tuple[str, ...]
    end: Callable[[Stage], None]
    missing: Callable[[], str] = no_reason
    history_s: float = 0.0


ROUNDS = (
    (
        Drill(
            ("RiskbeatDown",),
            "the learner that stands by is killed and not started again",
            acts.lose_standby,
            ('up{job="learn"}', "riskbeat model list"),
            acts.start_standby,
        ),
        Drill(
            ("RiskbeatDeadLettersRise",),
            f"unreadable records come with {acts.POISONED:.0%} of events",
            acts.poison,
            (
                "sum by (code) (rate(riskbeat_rejects_total[5m]))",
                "sum by (code) (rate(riskbeat_learn_rejects_total[5m]))",
            ),
            acts.no_poison,
        ),
        Drill(
            ("RiskbeatVersionStands",),
            "`riskbeat model freeze`",
            acts.freeze,
            (
                "riskbeat_publishing_frozen",
                "riskbeat_publishing_cause",
                "riskbeat model list",
            ),
            acts.thaw,
        ),
        Drill(
            ("RiskbeatDiskFull",),
            f"a file is laid on the data's disk that leaves {acts.DISK_LEFT:.0%}",
            acts.fill_disk,
            ("riskbeat_data_free_bytes", "riskbeat_join_bytes"),
            acts.free_disk,
            acts.no_small_disk,
        ),
    ),
    (
        Drill(
            ("RiskbeatAnswersDegraded", "RiskbeatVersionsDiffer"),
            "the scorer is cut from Redis",
            acts.lose_store,
            (
                "sum by (stage, reason) (rate(riskbeat_stage_failures_total[1m]))",
                "riskbeat_breaker_open",
                'riskbeat_weights_version{job="serve"}',
                "GET /readyz",
            ),
            acts.find_store,
        ),
        Drill(
            ("RiskbeatRedisFull",),
            f"something large is laid into Redis: {acts.MEMORY_USED:.0%} of `maxmemory` are used",
            acts.fill_store,
            ("riskbeat_redis_memory_bytes", "riskbeat store list"),
            acts.free_store,
        ),
    ),
    (
        Drill(
            (
                "RiskbeatLagGrowing",
                "RiskbeatFeaturesStale",
                "RiskbeatDecisionsBehind",
                "RiskbeatLearnerBehind",
            ),
            f"{acts.STREAM_BUSY:g} times the stream; workers find Redis slow, all others Kafka",
            acts.hold_up,
            (
                "rate(riskbeat_events_total[1m])",
                "rate(riskbeat_updates_total[1m])",
                "riskbeat_lag_records",
                "riskbeat_stream_lag_records",
                'rate(riskbeat_decisions_total{door="stream"}[1m])',
                "riskbeat_learn_lag_records",
                "sum by (kind) (rate(riskbeat_redis_errors_total[1m]))",
            ),
            acts.let_pass,
        ),
    ),
    (
        Drill(
            ("RiskbeatDecisionsSlow",),
            f"{acts.BUSY:g} times the load, on cores that load and servers share",
            acts.busy,
            (
                'sum(rate(riskbeat_decide_step_seconds_sum{door="http"}[1m]))',
                "sum by (stage, reason) (rate(riskbeat_stage_failures_total[1m]))",
                'sum(rate(riskbeat_http_requests_total{status="429"}[1m]))',
            ),
            acts.not_busy,
        ),
    ),
    (
        Drill(
            ("RiskbeatSpoolFull", "RiskbeatErrors"),
            f"{acts.FULL:g} times the load; the scorer is cut from Kafka, and its spool is small",
            acts.lose_log,
            (
                "riskbeat_spool_bytes",
                'sum by (route, status) (rate(riskbeat_http_requests_total{status=~"5.."}[1m]))',
                "GET /readyz",
            ),
            acts.find_log,
        ),
    ),
    (
        Drill(
            ("RiskbeatScoresShifted",),
            "every amount is a large one",
            acts.shift,
            (
                'riskbeat_weights_version{job="serve"}',
                "topk(5, sum by (code) (rate(riskbeat_reasons_total[15m])))",
                "riskbeat_feature_psi",
                'riskbeat_drifts_found{stream="scores"}',
                "riskbeat model list",
            ),
            acts.shift_back,
            history_s=HISTORY_S,
        ),
    ),
)
"""Drills of one round are held together, the slow ones first."""

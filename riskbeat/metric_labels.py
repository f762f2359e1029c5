"""metric, label → the closed set of its values, as `docs/metrics.md` and its tests have it."""

from typing import Final, get_args

from api.breaker import Reason as Failure
from api.breaker import Stage
from features.trace_metrics import OUTCOMES as SPANS
from models.decision import Degraded, Outcome
from models.evaluation import FIGURES
from models.guard import SCORES
from models.health import KINDS
from models.plan import LANES
from models.rollout import ActName
from models.scorer import GATES
from pipeline.guard_metrics import STEP_KINDS
from pipeline.held_metrics import LOGS
from pipeline.learn_metrics import CAUSES, FORMS
from riskbeat.serve_gate import REASONS

REJECTED: Final = (
    *("malformed", "missing_field", "wrong_type", "too_large", "not_finite", "time_in_future"),
    *("time_out_of_range", "unknown_event_type", "unknown_currency"),
)
ROUTES: Final = (
    *("/v1/decisions", "/v1/decisions:batch", "/v1/decisions:dry-run", "/v1/decisions/{id}"),
    *("/v1/events", "/v1/labels", "/v1/features", "/v1/features:batch"),
    "none",
)
STEPS: Final = ("route", "aggregate")
DOORS: Final = ("http", "stream")

Sets = dict[tuple[str, str], tuple[str, ...]]

CLOSED: Final[Sets] = {
    ("riskbeat_events_total", "outcome"): ("accepted", "rejected"),
    ("riskbeat_label_updates_total", "outcome"): ("accepted", "rejected"),
    ("riskbeat_rejects_total", "code"): REJECTED,
    ("riskbeat_updates_total", "outcome"): ("applied", "late", "duplicate", "repeated"),
    ("riskbeat_commits_total", "outcome"): ("ok", "conflict", "unavailable"),
    ("riskbeat_redis_errors_total", "kind"): ("connection", "timeout", "refused"),
    ("riskbeat_partitions_owned", "step"): STEPS,
    ("riskbeat_lag_records", "step"): STEPS,
    ("riskbeat_featurize_seconds", "step"): STEPS,
    ("riskbeat_cache_lookups_total", "outcome"): ("hit", "miss"),
    ("riskbeat_labels_total", "outcome"): (
        *("learned", "silent", "held", "repeated", "withdrawn", "late", "unmatched"),
    ),
    ("riskbeat_decisions_joined_total", "outcome"): (
        *("joined", "repeated", "not_learnable", "expired"),
    ),
    ("riskbeat_learn_rejects_total", "code"): (*REJECTED, "malformed_decision"),
    ("riskbeat_learn_lag_records", "topic"): LOGS,
    ("riskbeat_predictor_judgement", "figure"): FIGURES,
    ("riskbeat_predictor_judgement", "horizon"): ("rolling", "day"),
    ("riskbeat_weights_published_total", "form"): FORMS,
    ("riskbeat_weights_published_bytes_total", "form"): FORMS,
    ("riskbeat_publishing_frozen", "cause"): CAUSES,
    ("riskbeat_publishing_cause", "cause"): KINDS,
    ("riskbeat_weights_step", "measure"): STEP_KINDS,
    ("riskbeat_labels_capped_total", "key"): ("entity", "source"),
    ("riskbeat_trace_spans_total", "outcome"): SPANS,
    ("riskbeat_decisions_total", "outcome"): get_args(Outcome),
    ("riskbeat_decisions_total", "basis"): ("model", "prior"),
    ("riskbeat_decisions_total", "door"): DOORS,
    ("riskbeat_passed_through_decisions_total", "would_be"): get_args(Outcome),
    ("riskbeat_degraded_decisions_total", "part"): get_args(Degraded),
    ("riskbeat_decision_seconds", "door"): DOORS,
    ("riskbeat_decide_step_seconds", "door"): DOORS,
    ("riskbeat_decide_batch_events", "door"): DOORS,
    ("riskbeat_stage_failures_total", "stage"): get_args(Stage),
    ("riskbeat_stage_failures_total", "reason"): get_args(Failure),
    ("riskbeat_breaker_open", "stage"): get_args(Stage),
    ("riskbeat_weights_refused_total", "gate"): GATES,
    ("riskbeat_repeated_requests_total", "kind"): ("duplicate", "conflict"),
    ("riskbeat_http_requests_total", "route"): ROUTES,
    ("riskbeat_refused_requests_total", "reason"): (*REASONS.values(), "other"),
    ("riskbeat_stream_rejected_events_total", "code"): REJECTED,
    ("riskbeat_entities_read_total", "state"): ("known", "unknown", "stale"),
    ("riskbeat_features_request_seconds", "route"): tuple(r for r in ROUTES if "features" in r),
    ("riskbeat_rule_verdicts_total", "state"): ("hit", "shadow", "halted", "error"),
    ("riskbeat_list_matches_total", "code"): ("deny_list", "watch_list", "allow_list"),
    ("riskbeat_reasons_total", "source"): ("model", "rule", "list"),
    ("riskbeat_rollout_decisions_total", "arm"): ("stable", "candidate", "fallback"),
    ("riskbeat_rollout_alerts_total", "arm"): ("stable", "candidate", "fallback"),
    ("riskbeat_rollout_pass_seconds", "arm"): ("stable", "candidate", "fallback"),
    ("riskbeat_rollout_shadows_total", "state"): ("scored", "skipped", "failed"),
    ("riskbeat_rollout_changes_total", "act"): get_args(ActName),
    ("riskbeat_drifts_found", "stream"): (SCORES, *(f"precision.{lane}" for lane in LANES)),
    ("riskbeat_drift_stream_mean", "stream"): (SCORES, *(f"precision.{lane}" for lane in LANES)),
    ("riskbeat_drift_stream_rows", "stream"): (SCORES, *(f"precision.{lane}" for lane in LANES)),
}

NAMED_ELSEWHERE: Final[dict[tuple[str, str], str]] = {
    ("riskbeat_judgement", "figure"): "figures of a version, as `riskbeat model show` lists them",
    ("riskbeat_predictor_judgement", "predictor"): "lanes' members and challengers of the settings",
    ("riskbeat_judged_days_total", "predictor"): "lanes' members and challengers of the settings",
    ("riskbeat_feature_psi", "feature"): "at most 20 features of the spec",
    ("riskbeat_http_requests_total", "status"): "HTTP status codes of docs/api.md",
    ("riskbeat_rule_verdicts_total", "rule"): "rules of the policy",
    ("riskbeat_reasons_total", "code"): "features of the spec, with the side of usual on which "
    "they lie; codes of the policy's rules; lists",
}
"""Sets that a file of the operator closes: what closes them."""

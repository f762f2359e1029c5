"""What the dashboards ask, by panel; names are those of `docs/metrics.md`."""

from dataclasses import dataclass
from typing import Final

PER_S, SECONDS, SHARE, BYTES, NUMBER = "ops", "s", "percentunit", "bytes", "short"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        unit: In Grafana's words.
        asks: (legend, query) each; a fault that did not happen is drawn as zero.
    """

    title: str
    unit: str
    asks: tuple[tuple[str, str], ...]


def _rate(metric: str, by: str = "", only: str = "") -> str:
    grouped = f"sum by ({by}) " if by else "sum "
    return f"{grouped}(rate({metric}{{{only}}}[5m]))" if only else f"{grouped}(rate({metric}[5m]))"


def _fault(metric: str, by: str, only: str = "") -> tuple[tuple[str, str], ...]:
    return ((f"{{{{{by}}}}}", f"{_rate(metric, by, only)} or vector(0)"),)


def _quantiles(metric: str, only: str = "") -> tuple[tuple[str, str], ...]:
    spread = _rate(f"{metric}_bucket", "le", only)
    return tuple((f"p{q:g}", f"histogram_quantile({q / 100:g}, {spread})") for q in (50, 99))


_AGE = "time() - riskbeat_weights_created_timestamp_seconds"
_WORKER = "{{instance}} {{pid}}"

_MUCH: Final = (
    Panel("Events", PER_S, (("{{outcome}}", _rate("riskbeat_events_total", "outcome")),)),
    Panel("Updates", PER_S, (("{{outcome}}", _rate("riskbeat_updates_total", "outcome")),)),
    Panel("Decisions", PER_S, (("{{door}}", _rate("riskbeat_decisions_total", "door")),)),
    Panel("Answers", PER_S, (("{{status}}", _rate("riskbeat_http_requests_total", "status")),)),
    Panel("Labels", PER_S, (("{{outcome}}", _rate("riskbeat_labels_total", "outcome")),)),
    Panel("Version", NUMBER, ((_WORKER, 'riskbeat_weights_version{job="serve"}'),)),
)
_FAST: Final = (
    Panel("Route, a batch", SECONDS, _quantiles("riskbeat_featurize_seconds", 'step="route"')),
    Panel("Append to readable", SECONDS, _quantiles("riskbeat_event_freshness_seconds")),
    Panel("Decision over HTTP", SECONDS, _quantiles("riskbeat_decision_seconds", 'door="http"')),
    Panel("Age of features", SECONDS, _quantiles("riskbeat_features_staleness_seconds")),
    Panel("Publish a version", SECONDS, _quantiles("riskbeat_publish_seconds")),
    Panel("Label to serving", SECONDS, _quantiles("riskbeat_label_serving_seconds")),
)
_BEHIND: Final = (
    Panel(
        "Events to route",
        NUMBER,
        (("{{instance}}", 'sum by (instance) (riskbeat_lag_records{step="route"})'),),
    ),
    Panel(
        "Updates to apply",
        NUMBER,
        (("{{instance}}", 'sum by (instance) (riskbeat_lag_records{step="aggregate"})'),),
    ),
    Panel("Events to decide", NUMBER, (("events", "sum(riskbeat_stream_lag_records)"),)),
    Panel(
        "Waiting on disk, index behind",
        NUMBER,
        (
            ("spooled bytes", "sum(riskbeat_spool_bytes)"),
            ("index, seconds", "time() - max(riskbeat_index_as_of_timestamp_seconds)"),
        ),
    ),
    Panel("Records to learn", NUMBER, (("{{topic}}", "riskbeat_learn_lag_records"),)),
    Panel("Age of weights", SECONDS, ((_WORKER, _AGE),)),
)
_FAILS: Final = (
    Panel("Dead letters", PER_S, _fault("riskbeat_rejects_total", "code")),
    Panel(
        "Store: no answer, no commit",
        PER_S,
        (
            *_fault("riskbeat_redis_errors_total", "kind"),
            *_fault("riskbeat_commits_total", "outcome", 'outcome!="ok"'),
        ),
    ),
    Panel(
        "Degraded, stages failed",
        PER_S,
        (
            *_fault("riskbeat_degraded_decisions_total", "part"),
            *_fault("riskbeat_stage_failures_total", "stage"),
        ),
    ),
    Panel(
        "5xx, refused",
        PER_S,
        (
            *_fault("riskbeat_http_requests_total", "status", 'status=~"5.."'),
            *_fault("riskbeat_refused_requests_total", "reason"),
        ),
    ),
    Panel(
        "Learner: rejected, frozen",
        NUMBER,
        (
            *_fault("riskbeat_learn_rejects_total", "code"),
            ("frozen: {{cause}}", "max by (cause) (riskbeat_publishing_frozen)"),
        ),
    ),
    Panel(
        "Versions refused, spread",
        NUMBER,
        (
            *_fault("riskbeat_weights_refused_total", "gate"),
            ("spread", "max(riskbeat_weights_spread_versions)"),
        ),
    ),
)
_FULL: Final = (
    Panel("Processes that answer", NUMBER, (("{{job}}", "sum by (job) (up)"),)),
    Panel(
        "Redis memory",
        SHARE,
        (("used", "riskbeat_redis_memory_bytes / riskbeat_redis_memory_max_bytes"),),
    ),
    Panel(
        "Disk",
        SHARE,
        (("{{job}}", "1 - min by (job) (riskbeat_data_free_bytes / riskbeat_data_size_bytes)"),),
    ),
    Panel("Workers' cache", BYTES, (("{{instance}}", "riskbeat_cache_bytes"),)),
    Panel("Join store", SHARE, (("used", "riskbeat_join_bytes / riskbeat_join_max_bytes"),)),
    Panel(
        "Rollout",
        SHARE,
        (
            ("share", "max(riskbeat_rollout_share)"),
            ("policy", "max(riskbeat_policy_version)"),
        ),
    ),
)
PATH: Final = (_MUCH, _FAST, _BEHIND, _FAILS, _FULL)

_ALERTS = _rate("riskbeat_decisions_total", "", 'outcome!="approve"')
_SCORES = _rate("riskbeat_score_bucket", "le")
ANALYST: Final = (
    (
        Panel("Outcomes", PER_S, (("{{outcome}}", _rate("riskbeat_decisions_total", "outcome")),)),
        Panel(
            "Share not approved",
            SHARE,
            (
                (
                    "share",
                    f"({_ALERTS} or vector(0)) / {_rate('riskbeat_decisions_total')}",
                ),
            ),
        ),
        Panel(
            "Model or prior", PER_S, (("{{basis}}", _rate("riskbeat_decisions_total", "basis")),)
        ),
    ),
    (
        Panel(
            "Scores",
            NUMBER,
            tuple((f"p{q:g}", f"histogram_quantile({q / 100:g}, {_SCORES})") for q in (50, 90, 99)),
        ),
        Panel("Decisions by score, cumulative", PER_S, (("up to {{le}}", _SCORES),)),
        Panel(
            "Let through by chance",
            PER_S,
            _fault("riskbeat_passed_through_decisions_total", "would_be"),
        ),
    ),
    (
        Panel(
            "Rules",
            PER_S,
            (
                (
                    "{{rule}} {{state}}",
                    f"topk(15, {_rate('riskbeat_rule_verdicts_total', 'rule, state')})"
                    " or vector(0)",
                ),
            ),
        ),
        Panel("Lists", PER_S, _fault("riskbeat_list_matches_total", "code")),
        Panel(
            "Reasons given most",
            PER_S,
            (("{{code}}", f"topk(15, {_rate('riskbeat_reasons_total', 'code')}) or vector(0)"),),
        ),
    ),
    (
        Panel(
            "Fraud rate of what was judged",
            SHARE,
            (("fraud", 'riskbeat_judgement{figure="fraud_rate"}'),),
        ),
        Panel(
            "Quality",
            SHARE,
            (
                (
                    "{{figure}}",
                    'riskbeat_judgement{figure=~"average_precision|roc_auc|'
                    'recall_at_half_percent_fpr|value_detection_at_half_percent"}',
                ),
            ),
        ),
        Panel(
            "Average precision of predictors",
            SHARE,
            (
                (
                    "{{predictor}}",
                    'riskbeat_predictor_judgement{figure="average_precision", horizon="rolling"}',
                ),
            ),
        ),
    ),
    (
        Panel("Labels", PER_S, (("{{outcome}}", _rate("riskbeat_labels_total", "outcome")),)),
        Panel(
            "Labels left out by a cap",
            PER_S,
            (("{{key}}", _rate("riskbeat_labels_capped_total", "key")),),
        ),
        Panel(
            "Drifts found, features that moved (PSI)",
            NUMBER,
            (
                ("{{stream}}", "riskbeat_drifts_found"),
                ("{{feature}}", "topk(10, riskbeat_feature_psi) or vector(0)"),
            ),
        ),
    ),
)

"""how far a candidate may differ from what answers now."""

from typing import Annotated, Final

import msgspec

PSI_LARGE: Final = 0.25
"""Source: Siddiqi, Credit Risk Scorecards, 2006: above it a population has changed."""

Rate = Annotated[float, msgspec.Meta(gt=0, le=1)]
Ratio = Annotated[float, msgspec.Meta(gt=1)]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Beyond which a rollout turns back. Rates are breached only where chance is no excuse.

    Attributes:
        compare_min: Decisions of both arms before scores, alerts and times are compared.
        fallback_rate: Of the candidate's events that the stable arm had to answer.
        degraded_rate: By which the candidate's answers may be degraded more often.
        model_ms_ratio: Of the 99th percentiles of the forward pass; below `model_ms_free` it may
            be any.
        model_ms_free: That the candidate's 99th percentile may always take.
        psi: Of scores between the arms, without what chance makes of it.
        alert_ratio: Of the alert rates, upwards and downwards.
        judged_min: Judged frauds of both arms before precision and recall are compared.
        recall_drop: By which the candidate may find fewer of the frauds.
        precision_drop: By which its alerts may be right less often.
        average_precision_drop: By which its ranking may be worse.
    """

    compare_min: Annotated[int, msgspec.Meta(ge=1)] = 500
    fallback_rate: Rate = 0.01
    degraded_rate: Rate = 0.02
    model_ms_ratio: Ratio = 2.0
    model_ms_free: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    psi: Annotated[float, msgspec.Meta(gt=0)] = PSI_LARGE
    alert_ratio: Ratio = 2.0
    judged_min: Annotated[int, msgspec.Meta(ge=1)] = 50
    recall_drop: Rate = 0.1
    precision_drop: Rate = 0.2
    average_precision_drop: Rate = 0.1

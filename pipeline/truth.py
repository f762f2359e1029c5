"""what is known of an event → what each lane is to believe of it: the truth, by lane.

The feedback lane learns what somebody looked into, as soon as they say so. The delayed lane learns
every event when it matures, and a fraud that came by its sources as soon as it comes. Both believe
the net label: when a chargeback proves an analyst wrong, the feedback lane is told, too.

What was stopped has no outcome. It is legit only if somebody says so, never by silence; and the few
that were let through on purpose stand for all others like them.
"""

from collections.abc import Collection

from pipeline.join import JoinRow, Net, net_of

FEEDBACK, DELAYED = "feedback", "delayed"
FEEDBACK_SOURCES = ("manual_review", "customer")
STOPPED = frozenset({"decline"})
PROPENSITY_WEIGHT_MAX = 50.0
"""Most that one event may stand for: beyond it, variance costs more than bias."""


def settled_net(row: JoinRow, legit_after_ms: int) -> Net | None:
    """Return the net label by the row's statements and, once it has matured, its silence.

    Args:
        row: Stopped events have no silence that means anything.
        legit_after_ms: Event time of silence after which an event is legit; 0 = never.
    """
    silent = row.matured and legit_after_ms > 0 and row.outcome not in STOPPED
    return net_of(row.statements, row.event_ms + legit_after_ms if silent else None)


def importance_of(row: JoinRow) -> float:
    """Return how many events like it a row stands for; 0: others stand for it.

    Source: Horvitz, Thompson, A Generalization of Sampling Without Replacement From a Finite
    Universe, JASA 1952, clipped at `PROPENSITY_WEIGHT_MAX`.
    """
    if row.outcome == "approve":
        return min(1.0 / row.propensity, PROPENSITY_WEIGHT_MAX)
    return 1.0 if row.propensity == 1.0 else 0.0


def targets_of(row: JoinRow, feedback_sources: Collection[str]) -> dict[str, bool]:
    """Return the label (True = fraud) by lane, of those lanes that are to believe one.

    Args:
        row: With its net label.
        feedback_sources: Whose statements are feedback; all others come late.
    """
    net = row.net
    if net is None or row.x is None or importance_of(row) == 0.0:
        return {}
    confirmed = [s for s in row.statements if s.state == "confirmed"]
    targets = {}
    if any(s.source in feedback_sources for s in confirmed):
        targets[FEEDBACK] = net.fraud
    if row.matured or any(s.fraud and s.source not in feedback_sources for s in confirmed):
        targets[DELAYED] = net.fraud
    return targets

"""The OpenAPI paths of decisions, events and labels, with examples."""

from typing import Any, Final

from api.intake import BATCH_MAX_ITEMS, IDEMPOTENCY_KEY_MAX_CHARS
from api.openapi_parts import Body, list_of, operation, parameter, ref

EVENT: Final = {
    "event_type": "card_payment",
    "event_id": "pay_8842",
    "event_time": "2026-03-01T12:00:00.120Z",
    "entities": {"card": "tok_9", "merchant": "m_7", "device": "d_3", "ip": "203.0.113.9"},
    "amount": {"value": 12550, "currency": "EUR"},
    "attributes": {"mcc": "5732", "country": "FR", "channel": "ecom"},
}
LABEL: Final = {
    "event_type": "card_payment",
    "event_id": "pay_8842",
    "label": "fraud",
    "source": "chargeback",
    "label_time": "2026-03-09T08:30:00Z",
    "reason_code": "10.4",
}
DECISION_ID: Final = "dec_3a22500e5fb9c754cb58b4a5f1d7f290"
DECISION: Final[dict[str, Any]] = {
    "decision_id": DECISION_ID,
    "event_id": "pay_8842",
    "status": "new",
    "outcome": "review",
    "score": {"value": 0.61, "percentile": 0.993, "risk_level": "highest"},
    "reasons": [
        {
            "code": "card.count_over_10m.high",
            "source": "model",
            "feature": "card.count_over_10m",
            "value": 7.0,
            "baseline": 1.2,
            "contribution": 0.84,
        }
    ],
    "rules": [],
    "policy": {"version": 12},
    "model": {"name": "champion", "version": 184223, "age_ms": 640, "schema": "9f2c1d0e7b6a"},
    "shadow": [],
    "features": {"as_of": "2026-03-01T12:00:00.082Z", "staleness_ms": 38, "missing": []},
    "degraded": [],
    "timings_ms": {"features": 1.1, "model": 0.3, "total": 2.4},
    "propensity": 1.0,
    "passed_through": False,
    "would_be": None,
}
_SENT: Final = ("malformed", "field", "tenant", "too_large")
_DECIDED: Final = ("conflict", "in_progress", "overloaded", "deadline", "not_recorded")
_HEADERS: Final = [
    parameter(
        "traceparent",
        "header",
        "W3C Trace Context; handed on to the records, as is `tracestate`.",
        {"type": "string"},
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
]
_DEADLINE: Final = parameter(
    "X-Deadline-Ms",
    "header",
    "After so long the answer is of no use to the caller; shortens the configured deadline.",
    {"type": "number", "exclusiveMinimum": 0},
    80,
)
_KEY: Final = parameter(
    "Idempotency-Key",
    "header",
    "A name of the caller's for this request: with another body it is refused.",
    {
        "type": "string",
        "minLength": 1,
        "maxLength": IDEMPOTENCY_KEY_MAX_CHARS,
        "pattern": "^[!-~]+$",
    },
    "order-4711",
)

_CLOUD = (
    "The event may be the data of a CloudEvent (1.0): in an envelope, or with its attributes in "
    "`ce-` headers; what data and attributes both say must be the same (`conflict`)."
)
_CLOUDS = "Items of an array may be envelopes, as in a batch of CloudEvents."


def decision_paths() -> dict[str, Any]:
    """Return the paths."""
    return {
        "/v1/decisions": {"post": _decide()},
        "/v1/decisions:batch": {"post": _decide_many()},
        "/v1/decisions:dry-run": {"post": _try()},
        "/v1/decisions/{decision_id}": {"get": _look_up()},
        "/v1/events": {"post": _send("event", "sendEvents", "ingest", EVENT)},
        "/v1/labels": {"post": _send("label", "sendLabels", "label", LABEL)},
    }


def _decide() -> dict[str, Any]:
    return operation(
        "decide",
        "Score, decide and record one event",
        text="The answer leaves once event and decision are in the log, or on this machine's disk "
        "while the log is away. The same event again gets the first answer, `duplicate`, within "
        "the idempotency window; with another body it is refused. What could not be asked in time "
        f"is named in `degraded`. {_CLOUD}",
        scope="decide",
        parameters=[_KEY, _DEADLINE, *_HEADERS],
        body=Body(ref("Event"), EVENT),
        answer=("200", Body(ref("Decision"), DECISION)),
        problems=(*_SENT, *_DECIDED),
    )


def _decide_many() -> dict[str, Any]:
    one = {"anyOf": [ref("Decision"), ref("Problem")]}
    answer = {
        "type": "object",
        "required": ["decisions"],
        "properties": {"decisions": {"type": "array", "items": one}},
    }
    second = EVENT | {"event_id": "pay_8843"}
    decided = [DECISION, DECISION | {"event_id": "pay_8843"}]
    return operation(
        "decideMany",
        f"Decide up to {BATCH_MAX_ITEMS} events",
        text="Answers stand in the order of the events; each sees those before it. Of a JSON array "
        "all are decided or, if one is at fault, none. Of lines (`application/x-ndjson`) each "
        f"stands for itself, and is answered by one line: its decision, or its problem. {_CLOUDS}",
        scope="decide",
        parameters=[_DEADLINE, *_HEADERS],
        body=Body(
            list_of(ref("Event"), BATCH_MAX_ITEMS), [EVENT, second], [EVENT, second], ref("Event")
        ),
        answer=("200", Body(answer, {"decisions": decided}, decided, one)),
        problems=("no_list", "items", "too_many", "tenant", "too_large", *_DECIDED),
    )


def _try() -> dict[str, Any]:
    return operation(
        "tryDecision",
        "Say what would be decided",
        text="Scores and explains as a decision does, whatever the outcome. Nothing is recorded, "
        "nothing is claimed, no state and no count of decisions changes.",
        scope="decide",
        parameters=[_DEADLINE, *_HEADERS],
        body=Body(ref("Event"), EVENT),
        answer=("200", Body(ref("Decision"), DECISION | {"status": "dry_run"})),
        problems=(*_SENT, "overloaded"),
    )


def _look_up() -> dict[str, Any]:
    return operation(
        "lookUpDecision",
        "Show a decision as it was recorded",
        text="Of several records of one event the first in the log counts. Whoever has a key of "
        "one tenant does not see another's. Decisions leave with the configured horizon.",
        scope="read",
        parameters=[
            parameter(
                "decision_id",
                "path",
                "As in the answer to the event.",
                {"type": "string", "pattern": "^dec_[0-9a-f]{32}$"},
                DECISION_ID,
            )
        ],
        answer=("200", Body(ref("Decision"), DECISION)),
        problems=("no_decision", "behind", "overloaded"),
    )


def _send(what: str, name: str, scope: Any, example: dict[str, Any]) -> dict[str, Any]:
    item = ref(what.capitalize())
    answer = {
        "type": "object",
        "required": ["accepted"],
        "properties": {"accepted": {"type": "integer"}, "decision_id": {"type": "string"}},
    }
    accepted: dict[str, Any] = {"accepted": 1}
    then, more = "the learner joins them with their decisions", ""
    if what == "event":
        more = f" {_CLOUD} {_CLOUDS}"
        accepted["decision_id"] = DECISION_ID
        then = "the stream door decides them"
    schema = {"oneOf": [item, list_of(item, BATCH_MAX_ITEMS)]}
    return operation(
        name,
        f"Take {what}s into the log; {then}",
        text=f"One, an array or lines (`application/x-ndjson`) of up to {BATCH_MAX_ITEMS}; all are "
        f"taken or, if one is at fault, none.{more}",
        scope=scope,
        parameters=_HEADERS,
        body=Body(schema, example, [example], item),
        answer=("202", Body(answer, accepted)),
        problems=("malformed", "field", "items", "too_many", "tenant", "too_large", "not_recorded"),
        tag="log",
    )

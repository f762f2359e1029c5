"""wire types, topics → the AsyncAPI 3 document of what the log carries for others.

`updates.v1` is not in it: it is binary, and between the workers alone.
"""

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from api.openapi_decisions import DECISION, EVENT, LABEL
from features.event import Label
from features.event_wire import Event
from features.topics import Topics
from features.update import LabelTransition
from models.decision import DecisionRecord
from pipeline.dead import DeadLetter

BINDING = "0.5.0"
_PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_SPEC = "9f2c1d0e7b6a5948372615a4b3c2d1e0f9e8d7c6b5a4938271605f4e3d2c1b0a"
_TRACED = {
    "traceparent": {"type": "string", "description": "W3C Trace Context of who sent it."},
    "tracestate": {"type": "string"},
}
_DECIDED = {
    "riskbeat-decided": {
        "type": "string",
        "description": "`http`: its decision is recorded already; the stream door passes it by.",
    }
}
_CLOUD = {
    f"ce_{name}": {"type": "string", "description": f"Of a CloudEvent in binary mode: {what}."}
    for name, what in {
        "specversion": "`1.0`; without it no other of these headers is read",
        "id": "its `event_id`",
        "source": "who sent it; not kept",
        "type": "its `event_type`, also as `com.example.card_payment.v1`",
        "time": "its `event_time`",
        "tenant": "its `tenant`",
    }.items()
}


class _Channel(NamedTuple):
    name: str
    address: str
    summary: str
    kind: type | None
    key: str
    we: str
    example: Any
    headers: Mapping[str, Any] = MappingProxyType({})


def asyncapi(version: str, topics: Topics) -> dict[str, Any]:
    """Return the document.

    Args:
        version: Of riskbeat.
        topics: The names that a deployment gave them.
    """
    channels = _channels(topics)
    types = [channel.kind for channel in channels if channel.kind is not None]
    places, schemas = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    place_of = dict(zip(types, places, strict=True))
    for schema in schemas.values():
        if "description" in schema:  # Python 3.13 keeps docstrings without their indent
            schema["description"] = inspect.cleandoc(schema["description"])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "riskbeat",
            "version": version,
            "description": "Events and labels go in, decisions come out, what cannot be read is "
            "kept with its reason. Topics keep records by the log's append time.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "variables": {"bootstrap": {"default": "localhost:9092"}},
            }
        },
        "channels": {one.name: _channel(one) for one in channels},
        "operations": {_verb(one): _operation(one) for one in channels},
        "components": {
            "messages": {one.name: _message(one, place_of) for one in channels},
            "schemas": schemas,
        },
    }


def _channels(topics: Topics) -> list[_Channel]:
    dead = {
        "topic": topics.events,
        "partition": 0,
        "offset": 4711,
        "code": "missing_field",
        "pointer": "/amount",
        "detail": "an amount is required",
        "at_ms": 1772366400120,
        "body": "e30=",
        "body_bytes": 2,
    }
    return [
        _Channel(
            "events",
            topics.events,
            "Payments, as producers send them or HTTP takes them; also as CloudEvents (1.0).",
            Event,
            "Tenant, name and id of the primary entity, joined by U+001F.",
            "receive",
            EVENT,
            _TRACED | _DECIDED | _CLOUD,
        ),
        _Channel(
            "labels",
            topics.labels,
            "What somebody later said an event was.",
            Label,
            "Tenant, event type and event id, joined by U+001F.",
            "receive",
            LABEL,
            _TRACED,
        ),
        _Channel(
            "decisions",
            topics.decisions,
            "Decisions with all that they rest on; of equal keys the lowest offset counts.",
            DecisionRecord,
            "The decision id.",
            "send",
            _record(),
            _TRACED,
        ),
        _Channel(
            "label_updates",
            topics.label_updates,
            "Changes of events' net labels, in order.",
            LabelTransition,
            "As of `events`.",
            "send",
            _transition(),
        ),
        _Channel(
            "dead",
            topics.dead,
            "What could not be read, with the reason and where it came from.",
            DeadLetter,
            "None.",
            "send",
            dead,
        ),
        _Channel(
            "weights",
            topics.weights(_SPEC),
            "Signed versions of the model's weights, one topic for each feature spec.",
            None,
            "Model and version, joined by a colon.",
            "send",
            None,
        ),
    ]


def _channel(one: _Channel) -> dict[str, Any]:
    return {
        "address": one.address,
        "summary": one.summary,
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {one.name: {"$ref": f"#/components/messages/{one.name}"}},
    }


def _operation(one: _Channel) -> dict[str, Any]:
    return {
        "action": one.we,
        "summary": one.summary,
        "channel": {"$ref": f"#/channels/{one.name}"},
        "messages": [{"$ref": f"#/channels/{one.name}/messages/{one.name}"}],
    }


def _verb(one: _Channel) -> str:
    noun = "".join(part.capitalize() for part in one.name.split("_"))
    return f"{one.we}{noun}"


def _message(one: _Channel, place_of: Mapping[type, dict[str, Any]]) -> dict[str, Any]:
    key = {"type": "string", "description": one.key}
    made: dict[str, Any] = {
        "name": one.name,
        "summary": one.summary,
        "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}},
    }
    if one.headers:
        made["headers"] = {"type": "object", "properties": dict(one.headers)}
    if one.kind is None:
        payload = {"type": "string", "format": "binary"}
        return made | {"contentType": "application/octet-stream", "payload": payload}
    example = {"payload": one.example}
    if "traceparent" in one.headers:
        example["headers"] = {"traceparent": _PARENT}
    payload = place_of[one.kind]
    return made | {"contentType": "application/json", "payload": payload, "examples": [example]}


def _record() -> dict[str, Any]:
    more = {
        "score": {"value": 0.61, "percentile": 0.993, "risk_level": "highest", "logit": 0.4473122},
        "tenant": "default",
        "event": EVENT,
        "vector": "AACAPwAAAEAAAIA/",
        "spec_digest": _SPEC,
        "weights": {"version": 184223, "sha256": _SPEC, "model": "champion"},
        "applied": {"3": {"e": [4711, 4702], "l": [12, 9]}},
        "overlay": [],
        "late_question": False,
        "scored_by": {"build": "riskbeat-0.1.0", "device": "cpu", "bucket": 1},
        "source": {"door": "http", "topic": None, "partition": None, "offset": None},
        "decided_at_ms": 1772366400121,
    }
    return DECISION | more


def _transition() -> dict[str, Any]:
    named = {name: EVENT[name] for name in ("event_type", "event_id", "entities")}
    return {
        **named,
        "label_time": LABEL["label_time"],
        "label": "fraud",
        "sign": 1,
        "seq": 1,
        "transition_id": "1",
    }

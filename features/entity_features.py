"""What is asked about one entity at an instant, and what is answered: the readers' wire types.

Light to import: a client of another process needs neither the kernel nor a store for them.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from features.event import DEFAULT_TENANT, EventRejected, Id, Instant, Name

KEY_PARTS_MAX = 4

_STEP = re.compile(r"\.([^.\[`]+)|\[(\d+)\]")
_NAMED = re.compile(r"(missing required|unknown) field `([^`]+)`")


class QuestionRejected(EventRejected):
    """The asker's fault: there is no such entity, or its id or the instant cannot be."""


class FeatureQuestion(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One entity, and the instant at which its features are wanted.

    Attributes:
        id: Its id; of an entity with a composite key the ids in the order of the key.
        at: Absent means now.
    """

    entity: Name
    id: Id | Annotated[list[Id], msgspec.Meta(min_length=1, max_length=KEY_PARTS_MAX)]
    at: Instant | None = None
    tenant: Id = DEFAULT_TENANT


class FeatureNote(msgspec.Struct, frozen=True, kw_only=True):
    """What a value means: its unit, how exact it is, and its definition in a sentence."""

    type: str
    unit: str
    bound: str
    text: str


class EntityFeatures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The features of one entity at one instant.

    Missing, zero and stale are told apart: a missing value is null and named in `missing`, a zero
    is 0, and how old the state is stands in `staleness_ms`.

    Attributes:
        at: The instant that was evaluated, in whole milliseconds (UTC).
        state: `unknown`: the store holds nothing about this entity, so its counts are 0.
        newest_event_at: Event time of the newest event in the state, be it before or after `at`.
        features: Name → value, null when missing; float64. A decision's vector has it as float32.
        missing: Names of the features without a value.
        late_question: `at` is older than the state can answer in full: what it needs may be
            forgotten, or summed up with what came later.
        fresh_until: Everything that the log took by then is in the state (wall clock); null when
            no worker has ever written its part of the store.
        staleness_ms: Now less `fresh_until`; null likewise.
        stale: The state is older than the bound that the reader was set up with, or of unknown age.
        notes: Feature name → what its value means, if that was asked.
    """

    entity: str
    id: str | list[str]
    tenant: str
    at: datetime
    state: Literal["unknown", "known"]
    newest_event_at: datetime | None
    features: dict[str, float | None]
    missing: list[str]
    late_question: bool
    fresh_until: datetime | None
    staleness_ms: int | None
    stale: bool
    spec_digest: str
    notes: dict[str, FeatureNote] | None = None


def read_question(fields: Mapping[str, Any]) -> FeatureQuestion:
    """Return a question of values that nobody has checked.

    Raises:
        QuestionRejected: A field is missing, unknown, or not what it must be; names it.
    """
    try:
        return msgspec.convert(dict(fields), FeatureQuestion)
    except msgspec.ValidationError as error:
        raise rejection_of(error) from error


def check_fields(question: FeatureQuestion) -> None:
    """Refuse a question that was made in Python of values that the wire would not have let in.

    Raises:
        QuestionRejected: A field is not what it must be; names it.
    """
    read_question({name: getattr(question, name) for name in question.__struct_fields__})


def rejection_of(error: msgspec.ValidationError) -> QuestionRejected:
    """Turn msgspec's `… - at `$.id[1]`` into a rejection with a JSON pointer."""
    text, _, place = str(error).partition(" - at ")
    pointer = "".join(f"/{name or index}" for name, index in _STEP.findall(place))
    named = _NAMED.search(text)
    if named is None:
        return QuestionRejected("wrong_type", pointer, text)
    code = "unknown_field" if named.group(1) == "unknown" else "missing_field"
    return QuestionRejected(code, f"{pointer}/{named.group(2)}", text)

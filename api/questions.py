"""URLs and bodies → FeatureQuestions, or a rejection that names the part at fault.

`/v1/features/card/tok_9` asks for one id; an entity with a composite key takes one segment for
each part, in the order of the key: `/v1/features/card_merchant/tok_9/m_7`. Segments and values are
percent-encoded UTF-8; a `+` is a plus.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from features.entity_features import (
    FeatureQuestion,
    QuestionRejected,
    read_question,
    rejection_of,
)
from features.event_wire import UNREADABLE

FEATURES_PREFIX = b"/v1/features/"
FEATURES_BATCH_MAX_ITEMS = 100
FEATURES_BATCH_MAX_BYTES = 262_144
PARAMETERS = ("at", "tenant", "explain")

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_FLAGS = {"true": True, "false": False}
_questions = msgspec.json.Decoder(list[msgspec.Raw])
_question = msgspec.json.Decoder(FeatureQuestion)


class Location(NamedTuple):
    """One question, as a URL puts it."""

    question: FeatureQuestion
    explain: bool


def read_location(path: bytes, query: bytes) -> Location:
    """Read a path below `/v1/features/`, still percent-encoded, and its query.

    Raises:
        QuestionRejected: Something in it is at fault.
    """
    first, *rest = _below(path).split(b"/")
    entity, ids = _unquoted(first, "/entity"), [_unquoted(part, "/id") for part in rest]
    if not ids:
        raise QuestionRejected("missing_field", "/id", "expected an id: /v1/features/card/tok_9")
    given = read_query(query, PARAMETERS)
    explain = _flag(given.pop("explain", "false"))
    asked = {"entity": entity, "id": ids[0] if len(ids) == 1 else ids, **given}
    return Location(read_question(asked), explain)


def read_query(query: bytes, allowed: tuple[str, ...]) -> dict[str, str]:
    """Read a query; what nobody would read is refused, so that a misspelt `at` is noticed.

    Raises:
        QuestionRejected: A name is unknown or stands there twice, or the encoding is broken.
    """
    given: dict[str, str] = {}
    for pair in filter(None, query.split(b"&")):
        raw_name, _, raw_value = pair.partition(b"=")
        name = _unquoted(raw_name, "")
        if name not in allowed:
            known = ", ".join(allowed)
            raise QuestionRejected("unknown_field", f"/{name}", f"expected one of: {known}")
        if name in given:
            raise QuestionRejected("wrong_type", f"/{name}", "stands in the query twice")
        given[name] = _unquoted(raw_value, f"/{name}")
    return given


def read_explain(query: bytes) -> bool:
    """Read the query of the batch route, which knows `explain` and nothing else.

    Raises:
        QuestionRejected: Something else stands there.
    """
    return _flag(read_query(query, ("explain",)).get("explain", "false"))


def read_questions(body: bytes) -> list[FeatureQuestion | QuestionRejected]:
    """Read a JSON array of questions; each is a question or what is wrong with it.

    Raises:
        QuestionRejected: The body is no array, empty, or too long.
    """
    try:
        items = _questions.decode(body)
    except UNREADABLE as error:
        raise QuestionRejected("malformed", "", f"expected a JSON array: {error}") from error
    if not 0 < len(items) <= FEATURES_BATCH_MAX_ITEMS:
        raise QuestionRejected(
            "too_many", "", f"{len(items)} items; 1 to {FEATURES_BATCH_MAX_ITEMS} are taken"
        )
    return [_read_item(item) for item in items]


def _read_item(item: msgspec.Raw) -> FeatureQuestion | QuestionRejected:
    try:
        return _question.decode(item)
    except msgspec.ValidationError as error:
        return rejection_of(error)
    except UNREADABLE as error:
        return QuestionRejected("malformed", "", str(error))


def _below(path: bytes) -> bytes:
    if not path.startswith(FEATURES_PREFIX):
        raise QuestionRejected("malformed", "", "expected /v1/features/ as it is, not encoded")
    return path[len(FEATURES_PREFIX) :]


def _unquoted(part: bytes, pointer: str) -> str:
    if _BAD_ESCAPE.search(part):
        raise QuestionRejected("malformed", pointer, "a % begins no percent-encoding")
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError as error:
        raise QuestionRejected("malformed", pointer, "is no percent-encoded UTF-8") from error


def _flag(text: str) -> bool:
    if text not in _FLAGS:
        raise QuestionRejected("wrong_type", "/explain", f"expected true or false; got {text!r}")
    return _FLAGS[text]

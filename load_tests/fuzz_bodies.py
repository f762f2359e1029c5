"""valid bodies → broken ones: what Hypothesis makes of the examples of the API's own document."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

Json: TypeAlias = Any
CHANGES_MAX = 4
SPLICE_MAX_BYTES = 64
DEEP = 3_000
LONG = 70_000

ODD: tuple[Json, ...] = (
    None, True, "", " ", "\x00", "\ud800", "é" * 200, "x" * LONG, 0, -0.0, -1, 1e308, 1e-320,
    2**53 + 1, 2**63, 2**64, 10**400, float("nan"), float("inf"), [], {}, [[]],
    [None] * 2_000, {"": None},
    "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "2026-02-30T00:00:00Z", "2026-11-30",
)  # fmt: skip
"""Values that parsers have stumbled over somewhere."""


@dataclass(frozen=True)
class Sample:
    """A request that the API's document shows as an example."""

    method: str
    path: str
    media_type: str
    body: bytes


def samples_of(document: dict[str, Any]) -> list[Sample]:
    """Return the example of every operation that takes a body.

    Raises:
        ValueError: An operation takes a body and shows none.
    """
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            for media_type, shown in content.items():
                if "example" not in shown:
                    raise ValueError(f"{method} {path}: no example for {media_type}")
                example = shown["example"]
                text = example if isinstance(example, str) else json.dumps(example)
                found.append(Sample(method.upper(), path, media_type, text.encode()))
    return found


@st.composite
def broken_bodies(draw: st.DrawFn, samples: list[Sample]) -> tuple[Sample, bytes]:
    """Draw a sample, and its body with one to `CHANGES_MAX` changes of its text or its values."""
    sample = draw(st.sampled_from(samples))
    body = sample.body
    for _ in range(draw(st.integers(1, CHANGES_MAX))):
        change = draw(st.sampled_from(CHANGES))
        body = change(draw, body)
    return sample, body


def _replace_bytes(draw: st.DrawFn, body: bytes) -> bytes:
    begin = draw(st.integers(0, len(body)))
    end = draw(st.integers(begin, min(len(body), begin + SPLICE_MAX_BYTES)))
    return body[:begin] + draw(st.binary(max_size=SPLICE_MAX_BYTES)) + body[end:]


def _cut(draw: st.DrawFn, body: bytes) -> bytes:
    return body[: draw(st.integers(0, len(body)))]


def _repeat(draw: st.DrawFn, body: bytes) -> bytes:
    begin = draw(st.integers(0, len(body)))
    end = draw(st.integers(begin, len(body)))
    return body[:end] + body[begin:end] * draw(st.integers(1, 50)) + body[end:]


def _nest(draw: st.DrawFn, body: bytes) -> bytes:
    depth = draw(st.sampled_from((1, 2, 64, DEEP)))
    return draw(st.sampled_from((b"[", b'{"a":'))) * depth + body


def _change_value(draw: st.DrawFn, body: bytes) -> bytes:
    """Put an odd value in the place of one of a document's values, or beside it."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # broken already, or one document a line
        return _replace_bytes(draw, body)
    places = _places(document) if isinstance(document, dict | list) else []
    if not places:
        return json.dumps(draw(st.sampled_from(ODD))).encode()
    holder, name = draw(st.sampled_from(places))
    action = draw(st.sampled_from(("put", "remove", "rename", "mix")))
    if action == "remove":
        del holder[name]
    elif action == "rename" and isinstance(holder, dict):
        holder[draw(st.text(max_size=8))] = holder.pop(name)
    elif action == "mix":
        holder[name] = draw(st.sampled_from(places))[0]
    else:
        holder[name] = draw(st.sampled_from(ODD) | st.integers() | st.floats() | st.text())
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):  # a value was put into itself
        return body


def _places(document: Json) -> list[tuple[Any, Any]]:
    """Return every value of a document as what holds it, and the name or number there."""
    found, waiting = [], [document]
    while waiting:
        holder = waiting.pop()
        names = holder if isinstance(holder, dict) else range(len(holder))
        for name in names:
            found.append((holder, name))
            if isinstance(holder[name], dict | list):
                waiting.append(holder[name])
    return found


CHANGES: tuple[Callable[[st.DrawFn, bytes], bytes], ...] = (
    _change_value,
    _change_value,
    _change_value,
    _replace_bytes,
    _cut,
    _repeat,
    _nest,
)

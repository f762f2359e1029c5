"""a body of lines ⇄ items: newline-delimited JSON, one document a line."""

from collections.abc import Mapping, Sequence
from typing import Final

from api.errors import Answer

NDJSON: Final = {"content-type": "application/x-ndjson"}
_TYPES: Final = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl")


def is_ndjson(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request says that its body is lines."""
    kind = headers.get(b"content-type")
    return kind is not None and kind.partition(b";")[0].strip().lower() in _TYPES


def lines_of(body: bytes) -> list[bytes]:
    """Return the documents of a body; empty lines count for nothing."""
    return [line for line in body.splitlines() if line.strip()]


def answer_lines(documents: Sequence[bytes]) -> Answer:
    """Return an answer with a line for each line that was asked."""
    return Answer(200, b"".join(document + b"\n" for document in documents), NDJSON)

"""What Schemathesis has to know of us beside the document; see `test_openapi.py`."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines_of(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Send a text as it is, a list a line each, and anything else as the one line that it is."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    items = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)

"""the head of a request → Principal, or a refusal: before a body is read.

Nothing is asked of anybody here: keys and limits are in memory. What this file does not name needs
a valid key all the same, so that a new route is never open by mistake.
"""

import itertools
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from urllib.parse import unquote

from api.keys import ANY_TENANT, KeyRecord, KeyRefused, Scope, ScopeMissing
from api.keys_ring import KeyRing
from api.limits import Buckets
from api.route import ANYBODY, Head, Principal

OPEN: Final = frozenset(
    ("/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/docs")
)
"""Served to anybody, without limits: probes and scrapers have no keys, and no payments are shown.

The two documents and the page that shows them are the same for everybody, and public.
"""
REQUEST_ID: Final = b"x-request-id"

_READING: Final = ("GET", "HEAD")
_SCOPES: Final[tuple[tuple[str, Scope], ...]] = (
    ("/v1/decisions", "decide"),
    ("/v1/events", "ingest"),
    ("/v1/labels", "label"),
    ("/v1/features", "read"),
)
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class Told(Protocol):
    """Who hears of what the gate refused, for log and metrics."""

    def refused(self, why: Exception, head: Head, who: str) -> None:
        """A request was not let in."""


def scope_of(method: str, path: str) -> Scope | None:
    """Return the scope that a request needs; None for what only needs a key.

    Args:
        method: In capitals.
        path: Decoded, as routes are found by it.
    """
    for prefix, scope in _SCOPES:
        if path == prefix or (path.startswith(prefix) and path[len(prefix)] in "/:"):
            reads = method in _READING and not path.startswith(f"{prefix}:")
            return "read" if reads else scope
    if path.startswith("/v1/"):
        return "read" if method in _READING else "admin"
    return None


def request_id_of(head: Head, draw: Callable[[], str]) -> str:
    """Return the name of a request: the caller's if it is sane, else one that is drawn once."""
    given = head.headers.get(REQUEST_ID)
    if given is None or _SANE_ID.fullmatch(given) is None:
        given = head.headers[REQUEST_ID] = draw().encode()
    return given.decode("ascii")


class KeyedGate:
    """Lets requests in by their keys and limits; see `route.Gate`."""

    def __init__(
        self, keys: KeyRing | None, per_key: Buckets, per_address: Buckets, told: Told
    ) -> None:
        """Take what is judged by.

        Args:
            keys: None where nobody needs any.
            per_key: Limits by key name; a rotated key shares its predecessor's.
            per_address: Limits by peer.
            told: Who hears of refusals.
        """
        self._keys = keys
        self._per_key = per_key
        self._per_address = per_address
        self._told = told
        self._drawn = itertools.count(1)
        self._process = secrets.token_hex(6)

    def admit(self, head: Head) -> Principal:
        """Return who asks; see `route.Gate`.

        Raises:
            RateLimited: The address or the key has asked too much.
            KeyRefused: A key is needed, and none that is valid came.
            ScopeMissing: The key is for something else.
            KeysUnavailable: Nobody can tell which keys are valid.
        """
        path = head.path.decode("latin-1")
        if "%" in path:
            path = unquote(path)
        if path in OPEN:
            return ANYBODY
        record: KeyRecord | None = None
        try:
            self._per_address.take(head.client)
            if self._keys is None:
                return ANYBODY
            record = self._keys.find(_bearer(head.headers.get(b"authorization", b"")))
            self._per_key.take(record.name, record.requests_per_s)
            needed = scope_of(head.method, path)
            if needed is not None and needed not in record.scopes:
                raise ScopeMissing(record.name, needed)
        except Exception as error:
            self._told.refused(error, head, record.name if record is not None else "")
            raise
        tenant = None if record.tenant == ANY_TENANT else record.tenant
        return Principal(record.name, tenant, frozenset(record.scopes))

    def echo(self, head: Head) -> Mapping[str, str]:
        """Return the request's id, whatever the answer will be."""
        return {"x-request-id": request_id_of(head, self._draw)}

    def weigh(self, principal: Principal, head: Head, items: int) -> None:
        """Count the items of a batch; the first came in with its request."""
        if items > 1:
            self._per_address.charge(head.client, items - 1)
            self._per_key.charge(principal.name, items - 1)

    def _draw(self) -> str:
        return f"{self._process}-{next(self._drawn):x}"


def _bearer(value: bytes) -> str:
    """Return the token of an `Authorization` header (RFC 6750).

    Raises:
        KeyRefused: There is none.
    """
    kind, _, token = value.decode("latin-1").strip().partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise KeyRefused("expected a header: Authorization: Bearer rb_…")
    return token.strip()

"""a bearer token → a KeyRecord: who calls, for which tenant, and what for.

A token is `rb_`, the key's id, and 256 random bits. Of it only a keyed BLAKE2b hash is kept. A slow
password hash would add nothing: there is no dictionary of random bits to try, and it would cost
every request milliseconds. The hash's own key (`RISKBEAT_KEYS_SECRET`) lies outside the store, so
that writing into the store is not enough to make a key that opens anything.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

Scope = Literal["decide", "ingest", "label", "read", "admin"]

SCOPES: Final[tuple[Scope, ...]] = ("decide", "ingest", "label", "read", "admin")
ANY_TENANT: Final = "*"
KEYS_MAX: Final = 10_000
TOKEN_BYTES: Final = 32
ID_BYTES: Final = 6
VALID_PER_NAME: Final = 2
"""While a key is rotated its old and its new one are valid; never more."""

_TOKEN = re.compile(r"rb_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class KeyRefused(PermissionError):
    """The request bears no key, or none that is valid now; says which of the two."""


class ScopeMissing(PermissionError):
    """The key is valid, but not for this.

    Attributes:
        needed: The scope that the route asks for.
    """

    def __init__(self, name: str, needed: str) -> None:
        """Name the key and the scope."""
        super().__init__(f"the key {name} has not the scope {needed}")
        self.needed = needed


class KeysUnavailable(ConnectionError):
    """Nobody can tell at present which keys are valid."""


class BadKeyRequest(ValueError):
    """The operator's fault: such a key cannot be made, found or rotated."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key.

    Attributes:
        id: In the token, in the clear.
        name: Who calls with it; old and new key of a rotation share it.
        tenant: Whose events it may write and read; `*` for everybody's.
        hash: Of the token, hex.
        expires_at_ms: None: never.
        requests_per_s: Its own rate limit; None for the deployment's.
        made_by: Who made it.
    """

    id: str
    name: str
    tenant: str
    scopes: list[Scope]
    hash: str
    made_at_ms: int
    made_by: str = ""
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    requests_per_s: float | None = None

    def is_valid(self, now_ms: int) -> bool:
        """Whether it opens anything at this time."""
        return self.revoked_at_ms is None and (
            self.expires_at_ms is None or now_ms < self.expires_at_ms
        )


class KeyStore(Protocol):
    """Where records of keys are kept. Every call may raise `KeysUnavailable`.

    Implementations: `keys_redis.RedisKeyStore`, `keys_file.FileKeyStore`.
    """

    async def read_all(self) -> list[KeyRecord]:
        """Return every record, in the order in which they were made."""

    async def put_many(self, records: Sequence[KeyRecord]) -> None:
        """Keep records, each instead of an earlier one of its id; all or none."""


class MadeKey(NamedTuple):
    """A new key; the token is nowhere else."""

    record: KeyRecord
    token: str


def hash_of(token: str, secret: bytes) -> str:
    """Return the keyed hash of a token, hex."""
    key = hashlib.blake2b(secret, digest_size=64).digest()  # takes secrets of any length
    return hashlib.blake2b(token.encode(), key=key, digest_size=32).hexdigest()


def make_key(
    known: Sequence[KeyRecord],
    secret: bytes,
    *,
    name: str,
    tenant: str,
    scopes: Sequence[Scope],
    made_by: str,
    now_ms: int,
    expires_at_ms: int | None = None,
    requests_per_s: float | None = None,
    rotated: bool = False,
) -> MadeKey:
    """Draw a key.

    Args:
        known: Every record there is.
        secret: Key of the hash.
        name: Who will call with it.
        tenant: Whose events it may write and read.
        scopes: What it is for.
        made_by: Who asks for it.
        now_ms: Wall clock.
        expires_at_ms: When it ends by itself.
        requests_per_s: A rate limit of its own.
        rotated: Whether one more of this name may be valid already.

    Raises:
        BadKeyRequest: The name is taken, or something makes no sense.
    """
    if _NAME.fullmatch(name) is None:
        raise BadKeyRequest(f"name {name!r}: expected 1 to 64 of A-Z a-z 0-9 . _ @ -")
    if not tenant or not scopes:
        raise BadKeyRequest("expected a tenant and at least one scope")
    if "admin" in scopes and tenant != ANY_TENANT:
        raise BadKeyRequest("admin acts on what all tenants share: give it the tenant '*'")
    if len(known) >= KEYS_MAX:
        raise BadKeyRequest(f"{len(known)} keys are kept; at most {KEYS_MAX} are")
    valid = sum(record.name == name and record.is_valid(now_ms) for record in known)
    if valid >= (VALID_PER_NAME if rotated else 1):
        raise BadKeyRequest(f"{valid} valid key(s) bear the name {name}: rotate or revoke first")
    id = secrets.token_hex(ID_BYTES)
    token = f"rb_{id}_{secrets.token_urlsafe(TOKEN_BYTES)}"
    record = KeyRecord(
        id=id,
        name=name,
        tenant=tenant,
        scopes=sorted(set(scopes), key=SCOPES.index),
        hash=hash_of(token, secret),
        made_at_ms=now_ms,
        made_by=made_by,
        expires_at_ms=expires_at_ms,
        requests_per_s=requests_per_s,
    )
    return MadeKey(record, token)


def rotate_key(
    known: Sequence[KeyRecord],
    secret: bytes,
    *,
    name: str,
    overlap_ms: int,
    made_by: str,
    now_ms: int,
) -> tuple[MadeKey, KeyRecord]:
    """Draw a successor with the same rights; return it, and the old one, which now ends.

    Raises:
        BadKeyRequest: None of that name is valid, or a rotation is under way.
    """
    valid = [record for record in known if record.name == name and record.is_valid(now_ms)]
    if not valid:
        raise BadKeyRequest(f"no valid key bears the name {name}")
    old = valid[-1]
    made = make_key(
        known,
        secret,
        name=name,
        tenant=old.tenant,
        scopes=old.scopes,
        made_by=made_by,
        now_ms=now_ms,
        expires_at_ms=None,
        requests_per_s=old.requests_per_s,
        rotated=True,
    )
    ends_ms = now_ms + overlap_ms
    if old.expires_at_ms is not None:
        ends_ms = min(ends_ms, old.expires_at_ms)
    return made, msgspec.structs.replace(old, expires_at_ms=ends_ms)


def revoke_keys(known: Sequence[KeyRecord], which: str, now_ms: int) -> list[KeyRecord]:
    """Return the keys of a name, or the one of an id, as revoked.

    Raises:
        BadKeyRequest: There is no such key, or it is not valid any more.
    """
    found = [r for r in known if which in (r.name, r.id) and r.is_valid(now_ms)]
    if not found:
        raise BadKeyRequest(f"no valid key bears the name or id {which}")
    return [msgspec.structs.replace(record, revoked_at_ms=now_ms) for record in found]


class KeyTable:
    """The keys that are valid, by id: what one request is judged by."""

    def __init__(
        self, records: Sequence[KeyRecord], secret: bytes, now_ms: Callable[[], int]
    ) -> None:
        """Hold records; later changes make another table."""
        self._secret = secret
        self._now_ms = now_ms
        self._by_id = {record.id: record for record in records if record.is_valid(now_ms())}

    def __len__(self) -> int:
        """Return how many keys it knows."""
        return len(self._by_id)

    def knows(self, token: str) -> bool:
        """Whether a key of the token's id is known, whatever the rest of it is."""
        match = _TOKEN.fullmatch(token)
        return match is not None and match[1] in self._by_id

    def find(self, token: str) -> KeyRecord:
        """Return the key that a token opens.

        Raises:
            KeyRefused: None at present.
        """
        match = _TOKEN.fullmatch(token)
        record = self._by_id.get(match[1]) if match else None
        if (
            record is None
            or not hmac.compare_digest(hash_of(token, self._secret), record.hash)
            or not record.is_valid(self._now_ms())
        ):
            raise KeyRefused("the key is unknown, expired or revoked")
        return record

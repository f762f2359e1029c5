"""registry → a version whole: its own bytes, or the deltas back to what is at hand."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from models.registry import NoWeights
from models.signing import PublicKey
from models.weights import Weights, decode_verified, sha256_of
from models.weights_delta import DELTA_CHAIN_MAX, apply_delta
from models.weights_kinds import BadWeights
from models.weights_manifest import manifest_of


class Held(NamedTuple):
    """A version, and the SHA-256 (hex) of the bytes that it was published in."""

    weights: Weights
    sha256: str


class Links(NamedTuple):
    """What a version is made from.

    Attributes:
        start: Where the first delta applies; None: the first of `data` is a full version.
        data: Bytes in the order in which they apply; the last are the version's own.
    """

    start: Held | None
    data: Sequence[bytes]


async def read_links(
    read: Callable[[int], Awaitable[bytes]], version: int, held: Held | None = None
) -> Links:
    """Fetch a version, and as many before it as it builds on.

    What `held` was published in is told by its SHA-256, so a version of the same number from
    another line is not built upon. Nothing is verified here but numbers.

    Args:
        read: `WeightsRegistry.read`.
        version: The version that is wanted.
        held: A version at hand; it saves the reading of what lies before it.

    Raises:
        NoWeights: The version itself is not there.
        BadWeights: One that it builds on is not there, the chain is longer than
            `DELTA_CHAIN_MAX`, or bytes are of another version than they were kept under.
    """
    data: list[bytes] = []
    at = version
    while True:
        try:
            data.append(await read(at))
        except NoWeights as error:
            if not data:
                raise
            detail = f"base: version {version} builds on version {at}, which is not there"
            raise BadWeights(detail) from error
        manifest = manifest_of(data[-1])
        if manifest.version != at:
            raise BadWeights(f"version: {manifest.version}, and was kept as version {at}")
        if not manifest.base:
            return Links(None, data[::-1])
        if held is not None and held[1] == manifest.parent_sha256:
            return Links(held, data[::-1])
        if len(data) > DELTA_CHAIN_MAX:
            raise BadWeights(f"base: version {version} ends more than {DELTA_CHAIN_MAX} deltas")
        at = manifest.base


def assemble(
    links: Links, public_keys: Sequence[PublicKey], schema_digest: str | None = None
) -> Held:
    """Verify and apply what `read_links` found.

    Raises:
        BadSignature: No accepted key signed one of them.
        BadWeights: One is no version, or no delta to the one before; names the field.
        SchemaMismatch: One was learned with another spec than `schema_digest`.
    """
    weights = None if links.start is None else links.start.weights
    for data in links.data:
        if weights is None:
            weights = decode_verified(data, public_keys, schema_digest)
        else:
            weights = apply_delta(weights, data, public_keys, schema_digest)
    assert weights is not None, "a version has bytes"
    return Held(weights, sha256_of(links.data[-1]))

"""versions ↔ records of the weights topic: large ones in pieces, deltas with what they stand on.

Every record's key is "model:version". A version of more than `PIECE_BYTES` is cut into pieces,
each a record with the header `chunk` = "i/n"; a whole one has none. A record with the header `cuts`
is no version but a page of what that version did (`pipeline/cuts.py`). What was sent twice is the
same bytes twice.
"""

from collections.abc import Iterator, Mapping, Sequence

from models.weights import BadWeights
from models.weights_delta import is_delta

PIECE_BYTES = 8 * 1024 * 1024
CHUNK_HEADER, CUTS_HEADER = "chunk", "cuts"

Headers = tuple[tuple[str, bytes], ...]


def pieces_of(data: bytes, piece_bytes: int = PIECE_BYTES) -> Iterator[tuple[Headers, bytes]]:
    """Yield the records of a version: headers and value."""
    count = max(1, -(-len(data) // piece_bytes))
    if count == 1:
        yield (), data
        return
    for index in range(count):
        piece = data[index * piece_bytes : (index + 1) * piece_bytes]
        yield ((CHUNK_HEADER, b"%d/%d" % (index, count)),), piece


class Pieces:
    """Joins the records of a stretch of the weights topic, in whatever order they are given."""

    def __init__(self, model: str) -> None:
        """Know nothing yet.

        Args:
            model: Records of other models are passed over.
        """
        self._model = model
        self._parts: dict[int, dict[int, bytes]] = {}
        self._counts: dict[int, int] = {}
        self.pages: dict[tuple[int, int], bytes] = {}

    def add(self, key: bytes, headers: Sequence[tuple[str, bytes]], value: bytes) -> None:
        """Take a record."""
        model, _, number = key.decode().rpartition(":")
        if model != self._model:
            return
        version, named = int(number), dict(headers)
        if CUTS_HEADER in named:
            self.pages[version, int(named[CUTS_HEADER])] = value
            return
        index, count = map(int, named.get(CHUNK_HEADER, b"0/1").split(b"/"))
        self._counts[version] = count
        self._parts.setdefault(version, {})[index] = value

    def whole(self) -> dict[int, bytes]:
        """Return the versions of which every piece is here."""
        return {
            version: b"".join(parts[index] for index in sorted(parts))
            for version, parts in self._parts.items()
            if len(parts) == self._counts[version]
        }


def chain_of(found: Mapping[int, bytes], version: int) -> list[int]:
    """Return the numbers that are needed to read a version; empty where one is not found."""
    numbers: list[int] = []
    while version in found:
        numbers.append(version)
        try:
            base = is_delta(found[version])
        except BadWeights:
            return []
        if not base:
            return numbers[::-1]
        version = base
    return []


def reach_back_to(first: int, found: Mapping[int, bytes]) -> bool:
    """Return whether there is a version at or before `first`, and all that it stands on."""
    return any(version <= first and chain_of(found, version) for version in found)

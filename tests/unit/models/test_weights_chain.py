"""A version is read with what it builds on: back to what is at hand, or to a full one."""

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.registry import NoWeights
from models.signing import BadSignature, Signer
from models.weights import BadWeights, encode, sha256_of
from models.weights_chain import Held, assemble, read_links
from models.weights_delta import DELTA_CHAIN_MAX, encode_delta
from tests.builders_delta import DIGEST, PARENT, TABLE, N, following, same
from tests.builders_weights import KEYS, SIGNER, an_ensemble


class Shelf:
    """Versions of one line, and what was read."""

    def __init__(self, deltas: int) -> None:
        self.weights = [PARENT]
        self.data = {1: encode(PARENT, SIGNER)}
        self.read_numbers: list[int] = []
        rng = np.random.default_rng(1)
        for _ in range(deltas):
            parent = self.weights[-1]
            table = parent.arrays[TABLE].copy()
            table[rng.integers(0, 50, 3)] += rng.normal(size=3).astype(np.float32)
            current = following(parent, **{TABLE.replace(".", "__"): table})
            current = replace(current, parent_sha256=sha256_of(self.data[parent.version]))
            self.data[current.version] = encode_delta(parent, current, SIGNER)
            self.weights.append(current)

    async def read(self, version: int) -> bytes:
        self.read_numbers.append(version)
        if version not in self.data:
            raise NoWeights(version)
        return self.data[version]

    def held(self, version: int) -> Held:
        return Held(self.weights[version - 1], sha256_of(self.data[version]))


async def test_a_chain_of_64_leads_to_the_last_version() -> None:
    shelf = Shelf(DELTA_CHAIN_MAX)
    links = await read_links(shelf.read, DELTA_CHAIN_MAX + 1)
    assert shelf.read_numbers == list(range(DELTA_CHAIN_MAX + 1, 0, -1))
    found = assemble(links, KEYS, DIGEST)
    same(found.weights, shelf.weights[-1])
    assert found.sha256 == sha256_of(shelf.data[DELTA_CHAIN_MAX + 1])


async def test_a_longer_chain_is_refused() -> None:
    shelf = Shelf(DELTA_CHAIN_MAX + 1)
    with pytest.raises(BadWeights, match="version 66 ends more than 64 deltas"):
        await read_links(shelf.read, DELTA_CHAIN_MAX + 2)


@pytest.mark.parametrize(("at_hand", "read"), [(9, [10]), (7, [10, 9, 8]), (1, None)])
async def test_what_is_at_hand_is_not_read_again(at_hand: int, read: list[int] | None) -> None:
    shelf = Shelf(9)
    links = await read_links(shelf.read, 10, shelf.held(at_hand))
    assert shelf.read_numbers == (read or [10, 9, 8, 7, 6, 5, 4, 3, 2])
    same(assemble(links, KEYS).weights, shelf.weights[-1])


async def test_a_version_of_another_line_is_not_built_upon() -> None:
    shelf = Shelf(4)
    stranger = Held(replace(an_ensemble(DIGEST, N, seed=5), version=4), "f" * 64)
    links = await read_links(shelf.read, 5, stranger)
    assert links.start is None
    same(assemble(links, KEYS).weights, shelf.weights[-1])


async def test_a_missing_base_is_named() -> None:
    shelf = Shelf(4)
    del shelf.data[2]
    with pytest.raises(BadWeights, match="version 5 builds on version 2, which is not there"):
        await read_links(shelf.read, 5)
    with pytest.raises(NoWeights):
        await read_links(shelf.read, 6)


async def test_bytes_under_another_number_are_refused() -> None:
    shelf = Shelf(4)
    shelf.data[5] = shelf.data[4]
    with pytest.raises(BadWeights, match="version: 4, and was kept as version 5"):
        await read_links(shelf.read, 5)


async def test_a_link_that_a_stranger_signed_breaks_the_chain() -> None:
    shelf = Shelf(4)
    stranger = Signer(Ed25519PrivateKey.from_private_bytes(b"s" * 32))
    shelf.data[3] = encode_delta(shelf.weights[1], shelf.weights[2], stranger)
    links = await read_links(shelf.read, 5)
    with pytest.raises(BadSignature):
        assemble(links, KEYS)

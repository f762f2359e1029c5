"""versions → banks: which slot answers with which, and where the next one may be written.

A bank is written only while no slot points at it and nobody reads it. If a reader still has the
one that would be next, it is left to the reader and another takes its place: loading never waits.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from models.bank import Bank
from models.scorer import ACTIVE, SLOTS_MAX, NoWeights, WeightsRefused

if TYPE_CHECKING:
    from models.weights import Weights

LEFT_MAX = 8
"""Banks that may be left to slow readers at once; beyond it a version is refused as busy."""


class Pair(NamedTuple):
    """What a slot holds.

    Attributes:
        current: What it answers with.
        previous: What it answered with before; None for its first version.
    """

    current: Bank
    previous: Bank | None


class Slots:
    """All banks of a scorer. Whoever changes anything here holds `changing`."""

    def __init__(self, make: "Callable[[Weights], Bank]") -> None:
        """Begin with no bank; `make` returns one for versions of the given one's shapes."""
        self.changing = threading.Lock()
        self._make = make
        self._pairs: dict[str, Pair] = {}
        self._banks: list[Bank] = []

    def current(self, slot: str) -> Bank:
        """Return the bank that a slot answers with.

        Raises:
            NoWeights: The slot holds none.
        """
        pair = self._pairs.get(slot)
        if pair is None:
            raise NoWeights(f"no version has been loaded ({slot})")
        return pair.current

    def versions(self) -> dict[str, int]:
        """Return slot → version."""
        return {slot: pair.current.version for slot, pair in self._pairs.items()}

    def idle_for(self, weights: "Weights", slot: str) -> Bank:
        """Return a bank for this version that nobody reads and no slot points at.

        Raises:
            WeightsRefused: Too many are left to readers.
        """
        assert slot in self._pairs or len(self._pairs) < SLOTS_MAX, f"{SLOTS_MAX} slots at most"
        held = self._held()
        spare = [bank for bank in self._banks if bank not in held]
        for bank in spare:
            if bank.fits(weights) and bank.begin_writing():
                return bank
        read = [bank for bank in spare if bank.readers]
        if len(read) > LEFT_MAX:
            raise WeightsRefused(weights.version, "busy", f"{len(read)} banks are left to readers")
        bank = self._make(weights)
        self._banks = [*held, *read, bank]
        return bank

    def show(self, slot: str, bank: Bank) -> None:
        """Let a slot answer with a bank from now on."""
        pair = self._pairs.get(slot)
        if pair is None or pair.current is not bank:
            previous = None if pair is None else pair.current
            self._pairs = {**self._pairs, slot: Pair(bank, previous)}

    def find(self, version: int) -> Bank | None:
        """Return a bank that holds a version, in whatever slot."""
        return next((bank for bank in self._banks if bank.version == version), None)

    def clear(self, slot: str) -> None:
        """Let a slot hold nothing."""
        assert slot != ACTIVE, "something has to answer"
        self._pairs = {name: pair for name, pair in self._pairs.items() if name != slot}

    def _held(self) -> list[Bank]:
        """Return the banks that slots point at, each once."""
        both = [bank for pair in self._pairs.values() for bank in pair if bank is not None]
        return list(dict.fromkeys(both))

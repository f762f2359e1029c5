"""takes of the learner → what a version says of them, so that anyone can do the same again.

What a version learned is decided by the log, by where each take of the learner ended, and by what
it did between takes. A version carries this list in its manifest:

- `["take", {"topic:partition": next offset, …}]`: records up to there were taken in together, in
  the order of (append time, topic, partition, offset); only partitions that moved are named;
- `["settle"]`: what event time had made due was settled, without records;
- `["commit"]`: a checkpoint without a version;
- `["withheld"]`: a version was made ready, and not published;
- `["anew"]`: all that was learned before was forgotten;
- `["pages", n]`, first of all: so many pages of the list, `CUTS_MAX` cuts each, stand before this
  version in the weights topic. Only a freeze makes a list so long.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pipeline.learn_ports import Taken

CUTS_MAX = 256
"""Cuts in one manifest, or page; reaching it makes a version, or a page while frozen."""

TAKE, SETTLE, COMMIT, WITHHELD, ANEW, PAGES = (
    "take",
    "settle",
    "commit",
    "withheld",
    "anew",
    "pages",
)
Cut = list[Any]


class Line(msgspec.Struct, kw_only=True):
    """Where publishing stands: a small part of every checkpoint.

    Attributes:
        full: The version at which the chain of the newest one begins; 0 before the first.
        base: Of the newest version: 0 if it is full.
        owed: A version is due, whatever is learned from now on.
        cuts: Since the newest version, those of pages left out.
        pages: Pages made since the newest version.
        page: The newest of them; it may not have been sent yet.
    """

    full: int = 0
    base: int = 0
    owed: bool = False
    cuts: list[Cut] = []
    pages: int = 0
    page: bytes = b""

    @property
    def taken(self) -> int:
        """How many cuts there are since the newest version, those of pages included."""
        return self.pages * CUTS_MAX + len(self.cuts)

    @property
    def full_up(self) -> bool:
        """Whether there is no room for another cut."""
        return len(self.cuts) >= CUTS_MAX

    def all_cuts(self) -> list[Cut]:
        """Return the list for a manifest."""
        return [[PAGES, self.pages], *self.cuts] if self.pages else list(self.cuts)

    def turn_page(self) -> None:
        """Put the first cuts into a page of their own."""
        self.page = msgspec.json.encode(self.cuts[:CUTS_MAX])
        self.pages += 1
        self.cuts = self.cuts[CUTS_MAX:]

    def begin(self, version: int, base: int) -> None:
        """A version was made: its cuts are its own, and a new list begins."""
        self.base = base
        self.full = self.full if base else version
        self.owed, self.cuts, self.pages, self.page = False, [], 0, b""


def take_of(offsets: Mapping[str, int]) -> Cut:
    """Return the cut of a take that ended at these offsets."""
    return [TAKE, dict(sorted(offsets.items()))]


def in_order(records: Sequence[Taken]) -> list[Taken]:
    """Return the records of one take in the order in which every learner takes them."""
    return sorted(records, key=lambda r: (r.appended_ms, r.topic, r.partition, r.offset))

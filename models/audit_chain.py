"""records of the audit log → a chain: whether anything in it was changed, removed or put in.

The digest of a log up to an offset covers all records before. A writer states with its entry how
far it had read and the digest there: a claim. Writers need not agree on an order, since two that
write at once make two true claims; and whoever changes a record makes every later claim false.
What follows the newest claim is covered by nothing yet: by one entry, mostly.
"""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

START = "0" * 64
"""Digest of an empty log."""


class Claim(msgspec.Struct, frozen=True):
    """What a writer had seen of the log.

    Attributes:
        seen: Offset of the first record that it had not.
        digest: Of all records before, hex.
    """

    seen: int
    digest: str


class Break(msgspec.Struct, frozen=True):
    """A claim that the log does not bear out: a record before `claim.seen` is not what it was.

    Attributes:
        offset: Of the entry that claims.
    """

    offset: int
    claim: Claim
    found: str


class Checked(msgspec.Struct, frozen=True):
    """What a walk along the chain found.

    Attributes:
        covered: Offset before which every record is vouched for by a later entry.
        begins: Offset from which on the chain could be followed.
        ends: Offset after the last record.
    """

    begins: int
    covered: int
    ends: int
    breaks: tuple[Break, ...]


class Link(msgspec.Struct, frozen=True):
    """A record as the chain sees it."""

    offset: int
    data: bytes
    claim: Claim | None


def extended(digest: str, data: bytes) -> str:
    """Return the digest of a log that is one record longer."""
    return hashlib.sha256(bytes.fromhex(digest) + data).hexdigest()


def claim_at_end(links: Sequence[Link], begins: int, end: int) -> Claim | None:
    """Return the claim of a writer that has read the end of the log.

    Args:
        links: The last records, without a gap.
        begins: Offset of the first of them; 0 for the whole log.
        end: Offset after the last.

    Returns:
        None if the records hold no claim to go on from, and do not begin at the log's start.
    """
    known = {0: START} if begins == 0 else {}
    known |= {link.claim.seen: link.claim.digest for link in links if link.claim is not None}
    start = max((seen for seen in known if begins <= seen <= end), default=None)
    if start is None:
        return None
    digest = known[start]
    for link in links:
        if link.offset >= start:
            digest = extended(digest, link.data)
    return Claim(end, digest)


def check(links: Iterable[Link]) -> Checked:
    """Follow the chain through a log, which retention may have cut at its beginning."""
    listed = list(links)
    first = listed[0].offset if listed else 0
    ends = listed[-1].offset + 1 if listed else 0
    claims = [(link.offset, link.claim) for link in listed if link.claim is not None]
    anchor = Claim(0, START)
    if first > 0:
        later = [claim for _, claim in claims if claim.seen >= first]
        anchor = min(later, key=lambda claim: claim.seen, default=Claim(ends, START))
    digests, digest = {anchor.seen: anchor.digest}, anchor.digest
    for link in listed:
        if link.offset >= anchor.seen:
            digest = extended(digest, link.data)
            digests[link.offset + 1] = digest
    held = [(offset, claim) for offset, claim in claims if claim.seen >= anchor.seen]
    breaks = tuple(
        Break(offset, claim, digests.get(claim.seen, ""))
        for offset, claim in held
        if digests.get(claim.seen) != claim.digest
    )
    covered = max((claim.seen for _, claim in held), default=anchor.seen)
    return Checked(anchor.seen, covered, ends, breaks)

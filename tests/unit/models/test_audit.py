"""An act says who, what and why; nothing happens unrecorded; a changed record is told."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.audit import (
    TEXT_MAX_CHARACTERS,
    Act,
    ActUnfinished,
    AuditUnavailable,
    BadAct,
    BadEntry,
    Entry,
    decode_entry,
    encode_entry,
    recorded,
)
from models.audit_chain import START, Claim, Link, check, claim_at_end, extended
from tests.fakes_audit import MemoryAuditLog

ACT = Act(subject="policy", verb="apply", target="policy 3", by="ann", why="a test", at_ms=1)


@pytest.mark.parametrize("field", ["verb", "target", "by", "why"])
def test_an_act_without_its_words_is_refused(field: str) -> None:
    with pytest.raises(BadAct, match=field):
        msgspec.structs.replace(ACT, **{field: " "})
    with pytest.raises(BadAct, match=field):
        msgspec.structs.replace(ACT, **{field: "x" * (TEXT_MAX_CHARACTERS + 1)})


def test_an_entry_reads_back_equal_and_a_bad_one_is_named() -> None:
    entry = Entry(id="1", state="failed", act=ACT, error="no", claim=Claim(3, START))
    assert decode_entry(encode_entry(entry), 0) == entry
    with pytest.raises(BadEntry, match="offset 5"):
        decode_entry(b"{}", 5)


async def test_while_the_log_is_away_nothing_happens() -> None:
    log = MemoryAuditLog()
    log.away_after = 0
    with pytest.raises(AuditUnavailable):
        async with recorded(log, ACT):
            raise AssertionError("it happened")


async def test_an_act_whose_end_is_not_taken_is_told() -> None:
    log = MemoryAuditLog()
    log.away_after = 1
    with pytest.raises(ActUnfinished, match="apply policy 3 was done"):
        async with recorded(log, ACT):
            pass
    assert [k.entry.state for k in await log.read()] == ["meant"]


async def test_a_failure_is_told_even_if_the_log_went_away() -> None:
    log = MemoryAuditLog()
    log.away_after = 1
    with pytest.raises(LookupError):
        async with recorded(log, ACT):
            raise LookupError("gone")


Log = list[tuple[bytes, int | None]]


def links_of(plan: Log, begins: int = 0) -> list[Link]:
    """A log whose writers saw everything but the last `behind` records; None: they saw nothing."""
    digests, found = [START], []
    for offset, (data, behind) in enumerate(plan):
        seen = max(0, offset - (behind or 0))
        claim = None if behind is None else Claim(seen, digests[seen])
        found.append(Link(offset, data, claim))
        digests.append(hashlib.sha256(bytes.fromhex(digests[-1]) + data).hexdigest())
    return found[begins:]


plans = st.lists(
    st.tuples(st.binary(min_size=1, max_size=4), st.none() | st.integers(0, 2)), max_size=8
)


@given(plans, st.integers(0, 8))
def test_an_honest_log_has_no_breaks_wherever_retention_cut_it(plan: Log, begins: int) -> None:
    links = links_of(plan, min(begins, len(plan)))
    found = check(links)
    assert found.breaks == ()
    assert found.begins <= found.covered <= max(found.ends, found.begins)


@given(plans, st.data())
def test_a_changed_record_is_told_if_anyone_vouches_for_it(plan: Log, data: st.DataObject) -> None:
    links = links_of(plan)
    covered = check(links).covered
    if not covered:
        return
    changed = data.draw(st.integers(0, covered - 1))
    old = links[changed]
    links[changed] = Link(old.offset, old.data + b"!", old.claim)
    breaks = check(links).breaks
    assert breaks
    assert all(one.claim.seen > changed for one in breaks)


@given(plans, st.data())
def test_a_hole_is_told_if_anyone_vouches_for_what_was_there(
    plan: Log, data: st.DataObject
) -> None:
    links = links_of(plan)
    covered = check(links).covered
    if covered < 2:
        return
    gone = data.draw(st.integers(1, covered - 1))  # a log that begins later was cut by retention
    assert check(link for link in links if link.offset != gone).breaks or all(
        link.claim is None or link.claim.seen <= gone for link in links if link.offset != gone
    )


@given(plans, st.integers(0, 8))
def test_a_writer_that_reads_the_tail_claims_what_one_that_reads_all_does(
    plan: Log, begins: int
) -> None:
    begins = min(begins, len(plan))
    whole = claim_at_end(links_of(plan), 0, len(plan))
    tail = claim_at_end(links_of(plan, begins), begins, len(plan))
    assert whole is not None
    assert tail in (None, whole)


def test_without_anything_to_go_on_from_nothing_is_claimed() -> None:
    assert claim_at_end([Link(5, b"x", None)], 5, 6) is None
    assert claim_at_end([], 0, 0) == Claim(0, START)
    assert extended(START, b"") != START

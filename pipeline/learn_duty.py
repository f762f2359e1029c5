"""a learner's disk → what it may do beside others: send label transitions, begin anew.

Each spec may have a learner, but only one learner of a deployment sends label transitions: they
are numbered (ADR 0003), and the numbers live on its disk.
"""

import secrets

import msgspec

from models.registry import WeightsRegistry
from pipeline.join import AGAIN, JoinStore
from pipeline.position import POSITION, SENDER, Position


class LabelsTaken(RuntimeError):
    """One learner of a deployment sends label transitions, and it cannot be another one."""


async def agree_who_sends_labels(
    known: bytes | None, sends: bool, store: JoinStore, registry: WeightsRegistry
) -> None:
    """Make sure that exactly this learner sends label transitions, or that it sends none.

    Args:
        known: The name under which this disk sends; empty if it never does, None if that was
            not decided yet: it is decided once.
        sends: What the settings say.
        store: The disk.
        registry: Where the one sender of a deployment is written down.

    Raises:
        LabelsTaken: Another learner sends, or the settings go against what was decided.
    """
    if known is not None and bool(known) != sends:
        raise LabelsTaken(
            "this learner sends the label transitions: if it stopped, what becomes known of "
            "events would be lost to their features. Leave RISKBEAT_LEARN_SENDS_LABELS on"
            if known
            else "this learner never sent label transitions, and does not know how far they are: "
            "start the one that did, or give this spec its data directory (`riskbeat learn --anew`)"
        )
    if known is None:
        known = secrets.token_hex(8).encode() if sends else b""
        store.commit({SENDER: known})
    if not known:
        return
    name = known.decode()
    owner = await registry.claim_labels(name)
    if owner != name:
        raise LabelsTaken(
            f"learner {owner} sends this deployment's label transitions, and this one is {name}: "
            "set RISKBEAT_LEARN_SENDS_LABELS=false to learn beside it"
        )


def begin_anew(store: JoinStore, *, keep_vectors: bool = False) -> None:
    """Forget what was learned; decisions, labels and numbers stay.

    Args:
        store: The disk.
        keep_vectors: Whether only the learners are others, and not the vectors: then all that is
            still in the store is learned again, in the order of event time.
    """
    parts = store.parts()
    old = msgspec.msgpack.decode(parts[POSITION], type=Position)
    kept = Position(offsets=old.offsets, clock_ms=old.clock_ms, expired_ms=old.expired_ms)
    mine = {SENDER: parts[SENDER]} if SENDER in parts else {}
    again = {AGAIN: b"1"} if keep_vectors else {}
    store.forget_learned(
        {POSITION: msgspec.msgpack.encode(kept), **mine, **again}, keep_vectors=keep_vectors
    )

"""acts → audit log: who changed what answers are made with, when, from what to what, and why.

An act is written down as meant before it happens and as done, or failed, after. So nothing happens
unrecorded: while the log is away an operator's act is refused, and one whose end is missing may or
may not have happened.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from features.event_wire import UNREADABLE
from models.audit_chain import Claim

Subject = Literal["weights", "policy", "list", "rollout", "key"]
State = Literal["meant", "done", "failed"]

TEXT_MAX_CHARACTERS = 2_000
ID_BYTES = 8


class AuditUnavailable(ConnectionError):
    """The audit log took nothing in time, or did not answer."""


class ActUnfinished(AuditUnavailable):
    """The act happened, and the log could not be told; there it stands as meant."""


class BadAct(ValueError):
    """An act says too little or too much; names the field."""


class BadEntry(ValueError):
    """A record of the audit topic is no entry; says where."""


class Stood(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stood before an act, or stands after it.

    Attributes:
        what: For people: `version 7`, `policy 12`; empty for nothing.
        sha256: Of its bytes (hex); empty where it has none.
    """

    what: str = ""
    sha256: str = ""


NOTHING = Stood()


class Act(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of what answers are made with.

    Attributes:
        subject: What kind of thing is changed.
        verb: What is done to it: `pin`, `apply`, `rollback`, `add`, `rotate` and so on.
        target: Which one: `version 7`, a list's or a key's name. Never a secret.
        by: Who: an operator, a key's name, or the part of riskbeat that acts by itself.
        why: Their reason, for people.
        at_ms: When, by the actor's clock; the log adds its own.
        tenant: Whose it is; empty for the whole deployment's.
        before: What stood.
        after: What stands, once done; what should, as long as it is meant.
    """

    subject: Subject
    verb: str
    target: str
    by: str
    why: str
    at_ms: int
    tenant: str = ""
    before: Stood = NOTHING
    after: Stood = NOTHING

    def __post_init__(self) -> None:
        """Refuse an act that does not say what, who and why.

        Raises:
            BadAct: A field is empty, or longer than `TEXT_MAX_CHARACTERS`.
        """
        for field in ("verb", "target", "by", "why"):
            text: str = getattr(self, field)
            if not text.strip():
                raise BadAct(f"{field}: an act is kept with its {field}; it may not be empty")
            if len(text) > TEXT_MAX_CHARACTERS:
                raise BadAct(f"{field}: {len(text)} characters; at most {TEXT_MAX_CHARACTERS}")


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of the audit topic.

    Attributes:
        id: Of the act; its entries share it.
        state: `meant`, then `done` or `failed`.
        error: Why it failed.
        claim: What its writer had seen of the log before (`audit_chain`); None if it could not
            look, as for an entry that waited on disk.
    """

    id: str
    state: State
    act: Act
    error: str = ""
    claim: Claim | None = None


class Kept(NamedTuple):
    """An entry where the log put it.

    Attributes:
        appended_at_ms: The log's clock.
        data: The record's bytes, as the chain takes them.
    """

    offset: int
    appended_at_ms: int
    data: bytes
    entry: Entry


class AuditLog(Protocol):
    """Where acts are appended, in one order for all.

    Implementations: `audit_kafka.KafkaAuditLog`, `tests.fakes_audit.MemoryAuditLog`.
    """

    async def append(self, entry: Entry) -> None:
        """Add an entry with a claim of its writer's, and return once the log has it.

        Raises:
            AuditUnavailable: The log did not take it in time; it may have all the same.
        """

    async def read(self) -> Sequence[Kept]:
        """Return all that the log holds, in order.

        Raises:
            AuditUnavailable: The log did not answer.
            BadEntry: A record is no entry.
        """


class Recording:
    """An act while it happens; what it led to may be set before it ends."""

    def __init__(self, act: Act) -> None:
        """Take the act as it is meant."""
        self.act = act

    def led_to(self, after: Stood) -> None:
        """Say what stands now, where that was not known before."""
        self.act = msgspec.structs.replace(self.act, after=after)


@contextlib.asynccontextmanager
async def recorded(
    log: AuditLog, act: Act, new_id: Callable[[], str] = lambda: secrets.token_hex(ID_BYTES)
) -> AsyncIterator[Recording]:
    """Write an act down as meant, let it happen in the `async with` block, write down its end.

    Args:
        log: Where.
        act: What is about to happen.
        new_id: Makes the name that its entries share.

    Raises:
        AuditUnavailable: The log did not take it: nothing has happened.
        ActUnfinished: It happened, and the log did not take its end.
    """
    name, recording = new_id(), Recording(act)
    await log.append(Entry(id=name, state="meant", act=act))
    try:
        yield recording
    except BaseException as error:
        failed = Entry(id=name, state="failed", act=act, error=_told(error))
        with contextlib.suppress(AuditUnavailable):  # what happened is told by the error itself
            await log.append(failed)
        raise
    try:
        await log.append(Entry(id=name, state="done", act=recording.act))
    except AuditUnavailable as error:
        raise ActUnfinished(
            f"{act.verb} {act.target} was done, and the audit log could not be told ({error}): "
            "there it stands as meant"
        ) from error


def decode_entry(data: bytes, offset: int) -> Entry:
    """Return the entry of a record.

    Raises:
        BadEntry: It is none; names the offset and what is wrong.
    """
    try:
        return msgspec.json.decode(data, type=Entry)
    except (*UNREADABLE, BadAct) as error:
        raise BadEntry(f"offset {offset} of the audit log: {error}") from error


def encode_entry(entry: Entry) -> bytes:
    """Return the record of an entry."""
    return msgspec.json.encode(entry)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:TEXT_MAX_CHARACTERS]

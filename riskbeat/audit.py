"""settings → the audit log: opened, read, folded into acts, filtered for people."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from models.audit import Act, AuditLog, Kept, State
from models.audit_chain import Checked, Link, check
from models.audit_kafka import KafkaAuditLog
from models.audit_trail import Trail
from riskbeat.settings import Settings

log = structlog.get_logger("audit")


@dataclass(frozen=True, slots=True)
class Told:
    """One act with what became of it.

    Attributes:
        act: As it ended; as it was meant, if its end is not known.
        state: `meant`: it may or may not have happened.
        at_ms: The log's clock when it was meant.
        offset: Of its first entry.
        error: Why it failed.
    """

    id: str
    act: Act
    state: State
    at_ms: int
    offset: int
    error: str

    def row(self) -> dict[str, object]:
        """Return it as JSON knows it."""
        whole = {"id": self.id, "at_ms": self.at_ms, "offset": self.offset, "state": self.state}
        if self.error:
            whole["error"] = self.error
        acted: dict[str, object] = msgspec.to_builtins(self.act)
        return acted | whole | {"acted_at_ms": self.act.at_ms}


def open_audit(settings: Settings) -> AuditLog:
    """Return the deployment's audit log; nothing connects yet."""
    return KafkaAuditLog(settings.kafka_options(), settings.topics.audit)


class Heard:
    """Writes down what the audit log did not take; see `audit_trail.Told`."""

    def audit_waits(self, detail: str) -> None:
        """It is tried again."""
        log.warning("audit.waits", detail=detail)

    def audit_lost(self, act: Act) -> None:
        """It stands elsewhere alone."""
        log.error("audit.lost", subject=act.subject, verb=act.verb, target=act.target)


def open_trail(settings: Settings) -> Trail:
    """Return what takes a process's own acts to the audit log; nothing connects yet."""
    return Trail(open_audit(settings), Heard())


def fold(kept: Sequence[Kept]) -> list[Told]:
    """Return acts in the order in which they were meant; entries repeated by a retry count once."""
    found: dict[str, Told] = {}
    for one in kept:
        entry = one.entry
        before = found.get(entry.id)
        if before is None:
            found[entry.id] = Told(
                entry.id, entry.act, entry.state, one.appended_at_ms, one.offset, entry.error
            )
        elif before.state == "meant":
            found[entry.id] = Told(
                entry.id, entry.act, entry.state, before.at_ms, before.offset, entry.error
            )
    return list(found.values())


def wanted(acts: Sequence[Told], what: str, who: str, since_ms: int) -> list[Told]:
    """Return those that match.

    Args:
        acts: In order.
        what: Subject, verb, or part of the target; empty for all.
        who: Part of who acted; empty for all.
        since_ms: Not before this.
    """
    return [
        one
        for one in acts
        if one.at_ms >= since_ms
        and who in one.act.by
        and (not what or what in (one.act.subject, one.act.verb) or what in one.act.target)
    ]


def checked(kept: Sequence[Kept]) -> Checked:
    """Follow the chain through the log."""
    return check(Link(one.offset, one.data, one.entry.claim) for one in kept)

"""A process' name → what it may do in the store and in the log, and nothing besides.

One table for three readers: the ACL file of Redis or Valkey, the ACLs of Kafka, and the page
`docs/secure.md`. The live contract suites run under these rules, so a right that is missing is
found there.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

Operation = Literal["READ", "WRITE", "DESCRIBE"]
Resource = Literal["topic", "group"]
Pattern = Literal["literal", "prefixed"]

COMMANDS = (
    "-@all +@read +@write +@connection +@scripting +time -@admin -@dangerous -scan -randomkey"
)
"""Of every process: keys bound the rest. No name of a key is told to who did not know it."""
LEARNED = "{weights.*}:"
POINTERS = tuple(f"{LEARNED}{name}" for name in ("state", "fulls", "news", "acts"))
PRESENCE = tuple(f"{LEARNED}{name}" for name in ("seen", "scorers"))
FEATURES = ("[0-9]*", "{store}:*")


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations on topics or groups; names stand behind the deployment's prefix."""

    operations: tuple[Operation, ...]
    resource: Resource
    names: tuple[str, ...]
    pattern: Pattern = "literal"


@dataclass(frozen=True, slots=True)
class Role:
    """What one kind of process may do.

    Attributes:
        what: Who it is, for people.
        reads: Patterns of keys in Redis that it may read only.
        writes: Patterns of keys that it may read and write.
        deletes: Patterns of keys that it may delete, and not write.
        commands: More commands of Redis than every process has.
        grants: In Kafka; none for `everything`.
        everything: Whether it is a super user of Kafka.
    """

    what: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    commands: str = ""
    grants: tuple[Grant, ...] = ()
    everything: bool = False


_SEE = Grant(("DESCRIBE",), "topic", ("",), "prefixed")
"""Names, partitions and ends of the deployment's topics: a start looks whether they are there."""

ROLES: Mapping[str, Role] = {
    "featurize": Role(
        "the worker",
        writes=FEATURES,
        commands="+info",
        grants=(
            _SEE,
            Grant(("READ",), "topic", ("events.v1", "label_updates.v1")),
            Grant(("READ", "WRITE"), "topic", ("updates.v1",), "prefixed"),
            Grant(("WRITE",), "topic", ("dead.v1",)),
            Grant(("READ",), "group", ("featurize.",), "prefixed"),
        ),
    ),
    "learn": Role(
        "the learner",
        reads=(f"{LEARNED}rollout",),
        writes=(
            *(f"{LEARNED}v:*", *POINTERS, *PRESENCE, f"{LEARNED}freeze", f"{LEARNED}lease"),
            *(f"{LEARNED}progress", f"{LEARNED}rollout.judged", "labels:sender"),
        ),
        commands="+info",  # its metrics tell how full the store is
        grants=(
            _SEE,
            Grant(("READ",), "topic", ("decisions.v1", "labels.v1")),
            Grant(("READ", "WRITE"), "topic", ("weights.v1.",), "prefixed"),
            Grant(("READ", "WRITE"), "topic", ("audit.v1",)),
            Grant(("WRITE",), "topic", ("label_updates.v1", "dead.v1")),
        ),
    ),
    "serve": Role(
        "the scorer",
        reads=(
            *(*FEATURES, "keys", f"{LEARNED}v:*", f"{LEARNED}freeze", f"{LEARNED}lease"),
            *(f"{LEARNED}progress", "{policy}:entries", "{policy}:counts", "{policy}:log"),
        ),
        writes=(
            *("claim:*", *POINTERS, *PRESENCE, f"{LEARNED}rollout*"),
            *(f"{{policy}}:{name}" for name in ("state", "kept", "switches", "acts")),
            *(f"{{policy}}:{name}" for name in ("seen", "scorers")),
        ),
        deletes=(f"{LEARNED}v:*",),  # a pin that moves lets go of a version that it kept
        grants=(
            _SEE,
            Grant(("READ", "WRITE"), "topic", ("events.v1", "decisions.v1", "audit.v1")),
            Grant(("WRITE",), "topic", ("labels.v1", "dead.v1")),
            Grant(("READ",), "group", ("decide",)),
        ),
    ),
    "replay": Role(
        "a replay of a log",
        reads=(*FEATURES, f"{LEARNED}progress"),
        grants=(
            _SEE,
            Grant(("READ", "WRITE"), "topic", ("events.v1", "labels.v1")),
            Grant(("DESCRIBE",), "group", ("decide",)),
        ),
    ),
    "operate": Role(
        "people, and what is done once before the processes start",
        writes=("*",),
        commands="+info +scan",
        everything=True,
    ),
}


def redis_rules(role: Role, prefix: str) -> str:
    """Return a role's rules as an ACL file has them, without user and password."""
    begin = re.sub(r"([*?\[\]\\])", r"\\\1", prefix)
    keys = [f"%R~{begin}{name}" for name in role.reads]
    keys += [f"~{begin}{name}" for name in role.writes]
    rules = " ".join(["resetchannels", *keys, COMMANDS, role.commands]).rstrip()
    if role.deletes:
        names = " ".join(f"%W~{begin}{name}" for name in role.deletes)
        rules += f" (+del +unlink {names})"
    return rules


def acl_file(passwords: Mapping[str, tuple[str, ...]], prefix: str) -> str:
    """Return the ACL file of the store: nobody without a name, and every process by its own.

    Args:
        passwords: Of every role, and of `reload`, which may only tell the server to read the
            file again; the newest first, all are taken.
        prefix: Begins every key.
    """
    lines = ["user default off resetchannels -@all"]
    for name, secrets in passwords.items():
        hashes = " ".join(f"#{sha256(secret.encode()).hexdigest()}" for secret in secrets)
        rules = "-@all +ping +acl|load" if name == RELOAD else redis_rules(ROLES[name], prefix)
        lines.append(f"user {name} on {hashes} {rules}")
    return "\n".join(lines) + "\n"


RELOAD = "reload"
SUPER_USERS = tuple(name for name, role in ROLES.items() if role.everything)


@dataclass(frozen=True, slots=True)
class KafkaRule:
    """One allowed operation of one user on one resource, from any host."""

    user: str
    operation: Operation
    resource: Resource
    name: str
    pattern: Pattern


def kafka_rules(prefix: str) -> Iterator[KafkaRule]:
    """Yield what Kafka must allow; all else is refused by a broker that allows nobody unasked."""
    for user, role in ROLES.items():
        for grant in role.grants:
            for name in grant.names:
                for operation in grant.operations:
                    full = f"{prefix}{name}"
                    yield KafkaRule(user, operation, grant.resource, full, grant.pattern)


def access_page() -> str:
    """Return the two tables of `docs/secure.md`."""
    lines = ["| user | Redis: reads | Redis: reads and writes |", "|---|---|---|"]
    for user, role in ROLES.items():
        writes = _listed(role.writes) + (
            f"; deletes, and cannot write, {_listed(role.deletes)}" if role.deletes else ""
        )
        lines.append(f"| `{user}`, {role.what} | {_listed(role.reads)} | {writes} |")
    lines += ["", "| user | Kafka: reads | Kafka: writes | groups |", "|---|---|---|---|"]
    for user, role in ROLES.items():
        cells = ["everything", "everything", "every one"]
        if not role.everything:
            cells = [_topics(role, "READ"), _topics(role, "WRITE"), _groups(role)]
        lines.append(f"| `{user}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


def _shown(grant: Grant) -> tuple[str, ...]:
    return tuple(name + ("*" if grant.pattern == "prefixed" else "") for name in grant.names)


def _topics(role: Role, operation: Operation) -> str:
    found = (g for g in role.grants if g.resource == "topic" and operation in g.operations)
    return _listed(tuple(name for grant in found for name in _shown(grant)))


def _groups(role: Role) -> str:
    found = [grant for grant in role.grants if grant.resource == "group"]
    names = _listed(tuple(name for grant in found for name in _shown(grant)))
    only_looks = bool(found) and all("READ" not in grant.operations for grant in found)
    return names + (", only looks" if only_looks else "")

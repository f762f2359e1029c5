"""settings → the one learner of a data directory: its join store opened, its lease taken.

Two doors, in this order. The file lock of the join store: the operating system lifts it when its
holder dies, so who has it knows that the learner before it on this disk is dead. Then the lease in
the registry, which tells learners on other disks. A standby opens the store only once the lease is
free, or its holder was a process of this machine that is no more, so that it never stands in the
way of the learner that runs.
"""

import asyncio
import os
import secrets
import socket
from pathlib import Path

import structlog

from models.registry import RegistryUnavailable
from models.registry_redis import RedisWeightsRegistry
from pipeline.join import JoinBusy
from pipeline.join_sqlite import BYTES_MAX, SqliteJoinStore
from pipeline.tenure import LeaseHeld, Tenure

WATCH_S = 0.1
"""A standby looks at the lease this often."""
GRACE_S = 1.0
"""A starting learner waits this much longer than a lease lives for one that is not renewed."""

log = structlog.get_logger("learn")


class Stopped(Exception):
    """The process was asked to stop while it waited."""


def owner_of(path: Path) -> str:
    """Return a name for this process, which says on which machine and disk it learns."""
    return f"{_disk_of(path)}/{os.getpid()}-{secrets.token_hex(4)}"


async def enter(
    path: Path,
    registry: RedisWeightsRegistry,
    tenure: Tenure,
    ttl_s: float,
    stop: asyncio.Event,
    *,
    standby: bool,
    bytes_max: int = BYTES_MAX,
) -> SqliteJoinStore:
    """Become the learner of a join store; the caller closes it, and leaves the lease.

    Args:
        path: Of the join store.
        registry: Who knows the lease.
        tenure: This process's hold on it.
        ttl_s: How long a lease lives.
        stop: Ends the wait.
        standby: Wait for as long as another learner runs, instead of being refused.
        bytes_max: Of decided events in the join store.

    Raises:
        JoinBusy: Another learner has the join store; not for a standby.
        LeaseHeld: Another learner renews the lease; not for a standby.
        Stopped: Asked to stop.
    """
    deadline_s = asyncio.get_running_loop().time() + ttl_s + GRACE_S
    seen = ""
    while not stop.is_set():
        try:
            holder = await registry.lease_owner() if standby else ""
            if not holder or is_dead(path, holder):
                store = SqliteJoinStore(path, bytes_max=bytes_max)
                if await _has_lease(path, tenure, store):
                    return store
                holder = await registry.lease_owner()
        except (JoinBusy, RegistryUnavailable) as error:
            if not standby:
                raise
            holder = str(error)
        if not standby and asyncio.get_running_loop().time() > deadline_s:
            raise LeaseHeld(
                f"learner {holder} publishes for this feature spec: stop it, or start this one "
                "with --standby on the same data directory"
            )
        if standby and holder != seen:
            log.info("learn.standby", behind=holder)
            seen = holder
        await asyncio.sleep(WATCH_S)
    raise Stopped


async def _has_lease(path: Path, tenure: Tenure, store: SqliteJoinStore) -> bool:
    """Take the lease; that of a learner that must be dead, since its file lock is ours, too.

    Without the lease the store is closed again.
    """
    holder = ""
    try:
        holder = await tenure.take()
        if holder != tenure.owner and holder.startswith(f"{_disk_of(path)}/"):
            holder = await tenure.take(instead_of=holder)
    finally:
        if holder != tenure.owner:
            store.close()
    return holder == tenure.owner


def is_dead(path: Path, holder: str) -> bool:
    """Whether a lease's holder was a process of this machine and disk that is no more.

    A holder that only seems dead (its process numbers are another namespace's) is met at the lock.
    """
    disk, _, rest = holder.rpartition("/")
    pid = rest.partition("-")[0]
    if disk != _disk_of(path) or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it runs, as another user
    return False


def _disk_of(path: Path) -> str:
    """Return a name of the file's place: one file of one running machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()  # SQLite takes an empty file for a new one
    found = path.stat()
    return f"{socket.gethostname()}:{found.st_dev}:{found.st_ino}"

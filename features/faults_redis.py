"""what Redis answers, or fails to → whose fault it is: ours, or the world's."""

from typing import Any

from redis.exceptions import (
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

AWAY = ("CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN")
"""First words of a server that stepped down, is full, cannot write, or waits for others."""
CUT_SHORT = "UNBLOCKED"  # a wait ended since the server became a replica


def is_our_fault(error: Exception) -> bool:
    """Return whether a server answered that a script or a type of ours is wrong.

    redis-py has classes for some of these answers and takes their first word away.
    """
    if not isinstance(error, ResponseError):
        return False
    known = (ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
    return not (isinstance(error, known) or str(error).startswith((*AWAY, CUT_SHORT)))


async def ask(client: Any, away: type[Exception], *command: Any) -> Any:
    """Send one command of a client, and return its answer.

    Args:
        client: From `client_redis.connect_redis`.
        away: What to raise where no good answer came, and it is the world's fault.
        command: Its name and arguments.

    Raises:
        ResponseError: A script or a type of ours is wrong.
    """
    try:
        return await client.execute_command(*command)
    except (RedisError, OSError) as error:
        if is_our_fault(error):
            raise
        raise away(f"{command[0]}: {error}") from error

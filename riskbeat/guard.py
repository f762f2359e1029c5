"""The last to leave: kills the processes and deletes the files of a stack whose owner died.

Run by path in isolation (`python -I guard.py …`), never imported, so it starts in milliseconds:

- `run COMMAND…` asks Linux to kill this process with its parent, then becomes the command.
- `watch FOLDER OWNED` reads process group ids, one a line, from its input until the owner's end of
  the pipe closes, however it died; then kills the groups, and deletes FOLDER if OWNED is 1.
"""

import ctypes
import os
import shutil
import signal
import sys

PR_SET_PDEATHSIG = 1


def run(command: list[str]) -> None:
    """Become `command`, which dies with the process that started this one (Linux)."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(command[0], command)


def watch(folder: str, owned: bool) -> None:
    """Wait for the owner's death, then leave nothing of it behind.

    A line `-n` takes the group n off the list: its processes ended, and its number may be reused.
    An owner that stopped everything itself sends `done`.
    """
    groups: set[int] = set()
    for line in sys.stdin:
        if line.strip() == "done":
            return
        group = int(line)
        if group < 0:
            groups.discard(-group)
        else:
            groups.add(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if owned:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[2:])
    else:
        watch(sys.argv[2], sys.argv[3] == "1")

"""spools that ended processes left → the log: what they hold does not wait for their return."""

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path

from api.errors import NotRecorded
from api.publish import Outgoing, SpoolingPublisher
from api.spool import Spool

ADOPT_EVERY_S = 1.0
ADOPT_BATCH = 1_000


class SpoolClaim:
    """The right to a spool file, held until the process ends, however it ends.

    Attributes:
        path: Of the spool.
    """

    def __init__(self, path: Path) -> None:
        """Wait for nobody.

        Raises:
            BlockingIOError: Another process holds it.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise

    def give_back(self) -> None:
        """Let another process have it."""
        os.close(self._file)


def claim_spool(folder: Path, name: str) -> SpoolClaim:
    """Return the right to the spool of a name, or, where a process has that, to one of our own."""
    try:
        return SpoolClaim(folder / f"{name}.spool")
    except BlockingIOError:
        return SpoolClaim(folder / f"{name}-{os.getpid()}.spool")


class SpoolAdoption:
    """Sends what the spools of a folder hold that no living process has a claim to."""

    def __init__(
        self, folder: Path, pattern: str, own: SpoolClaim, publisher: SpoolingPublisher
    ) -> None:
        """Take where to look, our own claim, and the way into the log."""
        self._folder = folder
        self._pattern = pattern
        self._own = own
        self._publisher = publisher

    async def run(self, stopping: asyncio.Event) -> None:
        """Look again and again, while the log is there, until told to stop."""
        while not stopping.is_set():
            for path in sorted(self._folder.glob(self._pattern)):
                if path != self._own.path and not self._publisher.away:
                    await self._adopt(path)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ADOPT_EVERY_S):
                    await stopping.wait()

    async def _adopt(self, path: Path) -> None:
        try:
            claim = SpoolClaim(path)
        except OSError:  # it is somebody's
            return
        spool = await asyncio.to_thread(_open, path)
        try:
            while frames := await asyncio.to_thread(spool.read_oldest, ADOPT_BATCH):
                await self._publisher.publish_many([Outgoing(*frame) for frame in frames])
                await asyncio.to_thread(spool.drop_oldest, len(frames))
        except NotRecorded:  # the log went, and our own spool is full: it stays where it is
            return
        finally:
            spool.close()
            claim.give_back()


def _open(path: Path) -> Spool:
    return Spool(path, path.stat().st_size)

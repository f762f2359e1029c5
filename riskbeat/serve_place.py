"""What a serve process is told by the one that starts it, and the words between them on two pipes.

Down the first pipe a worker is called to answer, and reads the end when the one who started it is
gone. Up the second it says that it could answer, and, once it is called, that it does.
"""

import asyncio
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

BACKLOG: Final = 2_048
CALLED: Final = b"c"
CALLED_TO_STREAM: Final = b"s"
"""Called, and to decide the events topic, too."""
LOADED: Final = b"l"
LISTENS: Final = b"a"


@dataclass(frozen=True)
class Place:
    """One of several serve processes.

    Attributes:
        name: Its name in logs, metrics and spool files, which no other bears at the same time.
        listening_fd: The socket that all of them accept on.
        says_fd: Takes `LOADED` and `LISTENS`.
        hears_fd: Gives `CALLED` or `CALLED_TO_STREAM`, and ends with the one who started it.
    """

    name: str
    listening_fd: int = -1
    says_fd: int = -1
    hears_fd: int = -1

    def encode(self) -> str:
        """Return it as JSON."""
        return msgspec.json.encode(asdict(self)).decode()

    @classmethod
    def decode(cls, text: str) -> "Place":
        """Return what `encode` was given."""
        fields: dict[str, Any] = msgspec.json.decode(text)
        return cls(**fields)


class Calls:
    """A worker's ends of the two pipes."""

    def __init__(self, place: Place, stopping: asyncio.Event) -> None:
        """Listen from now on; `stopping` is set when the one who started us is gone."""
        self._place = place
        self._stopping = stopping
        self._heard = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(place.hears_fd, self._hear)
        self.called = False
        self.streams = False

    async def wait(self, or_ends: Iterable[asyncio.Task[None]]) -> None:
        """Say that we have loaded; wait to be called, to be told to stop, or for a task's end."""
        self.say(LOADED)
        waits = [asyncio.create_task(each.wait()) for each in (self._heard, self._stopping)]
        await asyncio.wait([*waits, *or_ends], return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def listening(self) -> socket.socket:
        """Return the socket that all workers accept on."""
        return socket.socket(fileno=self._place.listening_fd)

    def say(self, word: bytes) -> None:
        """Tell the one who started us; that it has gone is heard on the other pipe."""
        with suppress(BrokenPipeError):
            os.write(self._place.says_fd, word)

    def _hear(self) -> None:
        word = os.read(self._place.hears_fd, 1)
        if word:
            self.called, self.streams = True, word == CALLED_TO_STREAM
            self._heard.set()
        else:
            self._loop.remove_reader(self._place.hears_fd)
            self._stopping.set()

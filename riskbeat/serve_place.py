"""Where a serve process stands among several on one port; as JSON from the one that starts it."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

BACKLOG: Final = 2_048
GENERATIONS: Final = ("a", "b")
"""A worker and the one that follows it in its place never bear the same name side by side."""


@dataclass(frozen=True)
class Place:
    """One of several serve processes.

    Attributes:
        index: From 0; one of them at a time, but for a moment while it is replaced.
        generation: Tells it from the one that it replaces.
        stream: Whether it decides the events topic, too.
        listening_fd: The socket that all of them accept on.
        ready_fd: Written to once it listens.
        life_fd: Ends when the process that started it does.
    """

    index: int
    generation: str
    stream: bool
    listening_fd: int = -1
    ready_fd: int = -1
    life_fd: int = -1

    @property
    def name(self) -> str:
        """Its name in logs, metrics and spool files."""
        return f"{self.index}{self.generation}"

    @property
    def next_generation(self) -> str:
        """The generation of the one that will replace it."""
        return GENERATIONS[self.generation == GENERATIONS[0]]

    def encode(self) -> str:
        """Return it as JSON."""
        return msgspec.json.encode(asdict(self)).decode()

    @classmethod
    def decode(cls, text: str) -> "Place":
        """Return what `encode` was given."""
        fields: dict[str, Any] = msgspec.json.decode(text)
        return cls(**fields)

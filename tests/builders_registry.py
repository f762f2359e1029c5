"""A registry seen by two processes, and versions to put into it."""

from dataclasses import dataclass

from models.registry import WeightsRegistry

KEEP = 3
SPEC = "d" * 64
SOON_S = 10.0


@dataclass
class Shelf:
    """Two views of one registry, as of two processes."""

    writer: WeightsRegistry
    reader: WeightsRegistry


async def publish_up_to(shelf: Shelf, version: int) -> None:
    for number in range(1, version + 1):
        await shelf.writer.publish(number, body_of(number))


def body_of(version: int) -> bytes:
    return bytes([version % 256]) * 5000

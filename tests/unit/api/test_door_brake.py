"""Refusals up to a share of the time hold nobody up; then each connection waits for its turn."""

import asyncio
from typing import Any

import pytest

from api.door_brake import BURST_S, COST_MAX_S, WHOLE, Brake
from api.door_connection_http import Connection
from api.door_exchange import DoorLimits, Encoder
from api.errors import Answer, Overloaded
from api.route import NO_HEADERS, Admitted, Head, Route


def test_a_burst_is_free_then_refusals_take_their_share() -> None:
    brake = Brake(share=0.5, cost_s=0.001)
    apart_s = 0.001 * WHOLE / 0.5
    free = int(BURST_S / apart_s)
    turns = [brake.turn(50.0, 0.001) for _ in range(free + 5)]
    assert all(turn <= 50.0 for turn in turns[:free])
    assert turns[free + 1 :] == pytest.approx([50.0 + apart_s * k for k in (1, 2, 3, 4)])


def test_after_a_calm_the_burst_is_free_again() -> None:
    brake = Brake(cost_s=0.001)
    for _ in range(1_000):
        brake.turn(50.0, 0.001)
    assert brake.turn(50.0, 0.001) > 57
    assert brake.turn(70.0, 0.001) <= 70.0


def test_it_learns_what_a_refusal_costs_and_not_what_waited_before_it() -> None:
    brake = Brake()
    for _ in range(500):
        brake.turn(50.0, 0.0002)
    assert brake.cost_s == pytest.approx(0.0002)
    brake.turn(50.0, 30.0)
    assert brake.cost_s < COST_MAX_S / 2


class Crowded:
    """A table whose one route refuses everybody for load."""

    def find(self, path: bytes) -> Route:
        async def serve(request: Any) -> Answer:
            raise AssertionError("nobody is let in")

        return Route("/v1/decisions", serve, 1_000)

    def echo(self, head: Head) -> Any:
        return NO_HEADERS

    def admit(self, route: Route, head: Head, began: float) -> Admitted:
        raise Overloaded("a queue stands")

    def observe(self, route: Route | None, answer: Answer, began: float) -> None:
        return


class Wire(asyncio.Transport):
    """Remembers what was written, and whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.resumed = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.resumed.set()

    def is_closing(self) -> bool:
        return False


REQUEST = b"POST /v1/decisions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


async def test_a_refused_connection_is_answered_at_once_and_read_again_in_its_turn() -> None:
    loop = asyncio.get_running_loop()
    state = type("State", (), {"connections": set(), "default_headers": [], "total_requests": 0})()
    brake, wiring = Brake(share=1e-4), {"server_state": state}
    wires = [Wire(), Wire()]
    for wire in wires:
        connection = Connection(Crowded(), DoorLimits(), Encoder(), brake, loop, wiring)
        connection.connection_made(wire)
        connection.data_received(REQUEST)
    assert all(wire.written.startswith(b"HTTP/1.1 429 ") for wire in wires)
    assert [wire.reading for wire in wires] == [True, False]
    await asyncio.wait_for(wires[1].resumed.wait(), 10)
    assert wires[1].reading

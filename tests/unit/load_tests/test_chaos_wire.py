"""The lab's wires: what goes in comes out, until they are cut; one knows nothing of another."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from load_tests.chaos.wire import WireBox, a_wire_box, port_of

TIMEOUT_S = 10.0


@pytest.fixture
def echo() -> Iterator[int]:
    """Return the port of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                while data := connection.recv(1024):
                    connection.sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def box() -> Iterator[WireBox]:
    with a_wire_box() as box:
        yield box


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), TIMEOUT_S)


def test_a_wire_passes_on_what_comes(box: WireBox, echo: int) -> None:
    with connected(box.wire(echo).port) as one:
        one.sendall(b"there")
        assert one.recv(1024) == b"there"


def test_a_cut_wire_ends_what_is_open_and_takes_nothing_until_it_is_mended(
    box: WireBox, echo: int
) -> None:
    wire, other = box.wire(echo), box.wire(echo)
    with connected(wire.port) as open_, connected(other.port) as of_another:
        open_.sendall(b"there")
        assert open_.recv(1024) == b"there"
        wire.cut()
        with suppress(ConnectionResetError):
            assert open_.recv(1024) == b""
        with connected(wire.port) as late, suppress(ConnectionError):
            late.sendall(b"there")
            assert late.recv(1024) == b""
        of_another.sendall(b"still")
        assert of_another.recv(1024) == b"still"
    wire.mend()
    with connected(wire.port) as again:
        again.sendall(b"again")
        assert again.recv(1024) == b"again"


def test_a_wire_to_nobody_ends_at_once(box: WireBox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with connected(box.wire(port).port) as one, suppress(ConnectionResetError):
        assert one.recv(1024) == b""


def test_the_port_of_a_stores_address() -> None:
    assert port_of("redis://127.0.0.1:6380/0") == 6380

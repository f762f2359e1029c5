"""A server's TLS follows its files, on the page that scrapes are answered with."""

import shutil
import socket
import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from pipeline.metrics import serve_page
from pipeline.tls_files import TlsFiles
from tests.builders_tls import self_signed

TIMEOUT_S = 10.0


@pytest.fixture
def made(tmp_path: Path) -> Callable[[], tuple[Path, Path]]:
    """Makes another certificate and key for this machine, each time."""
    count = iter(range(100))

    def make() -> tuple[Path, Path]:
        folder = tmp_path / f"made{next(count)}"
        folder.mkdir()
        return self_signed(folder, "localhost")

    return make


def shown(port: int) -> str:
    return ssl.get_server_certificate(("localhost", port), timeout=TIMEOUT_S)


def test_a_new_certificate_is_shown_to_the_next_who_comes(
    made: Callable[[], tuple[Path, Path]], tmp_path: Path
) -> None:
    files = TlsFiles(tmp_path / "server.pem", tmp_path / "server.key")
    old, new = made(), made()

    def put(pair: tuple[Path, Path]) -> None:
        for source, target in zip(pair, (files.certfile, files.keyfile), strict=True):
            assert target is not None
            shutil.copy(source, tmp_path / "part")
            (tmp_path / "part").replace(target)

    put(old)
    registry = CollectorRegistry()
    Gauge("a_gauge", "A gauge.", registry=registry).set(7)
    port = serve_page(registry, 0, "127.0.0.1", files)
    silent = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)  # keeps nobody out
    assert shown(port) == old[0].read_text()
    put(new)
    assert shown(port) == new[0].read_text()
    put((old[0], new[1]))  # not of one another
    assert shown(port) == new[0].read_text()
    files.certfile.unlink()
    assert shown(port) == new[0].read_text()
    put(old)
    assert shown(port) == old[0].read_text()
    trusting = ssl.create_default_context(cafile=str(old[0]))
    page = urllib.request.urlopen(
        f"https://localhost:{port}/metrics", timeout=TIMEOUT_S, context=trusting
    )
    with page:
        assert "a_gauge 7.0" in page.read().decode()
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as plain:
        plain.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"a_gauge" not in plain.recv(1000)
    silent.close()


def test_files_that_are_no_pair_are_refused_at_the_start(
    made: Callable[[], tuple[Path, Path]],
) -> None:
    with pytest.raises(OSError, match=r"(?i)mismatch"):
        TlsFiles(made()[0], made()[1]).context()

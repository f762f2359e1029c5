"""Ports: what is drawn is free and no outgoing connection's; what is taken is said in one line."""

import socket

import pytest

from riskbeat.ports import EPHEMERAL, LOOPBACK, check_port, free_ports, is_free, listens
from riskbeat.settings_load import SettingError


def test_ports_that_are_drawn_differ_are_free_and_are_no_outgoing_connections() -> None:
    if not EPHEMERAL.exists():
        pytest.skip("the system does not say which ports outgoing connections have")
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < int(EPHEMERAL.read_text().split()[0])
    assert any(is_free(port) for port in ports)


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        assert listens(port)
        assert not is_free(port)
        with pytest.raises(SettingError, match=rf"RISKBEAT_HTTP_PORT: .*:{port}: .*in use"):
            check_port("RISKBEAT_HTTP_PORT", LOOPBACK, port)
    check_port("RISKBEAT_HTTP_PORT", LOOPBACK, port)


def test_an_address_that_is_not_ours_is_named_with_its_setting() -> None:
    cannot = r"RISKBEAT_HTTP_PORT: cannot listen on 203\.0\.113\.1:80"
    with pytest.raises(SettingError, match=cannot):
        check_port("RISKBEAT_HTTP_PORT", "203.0.113.1", 8000)


def test_any_port_is_well() -> None:
    check_port("RISKBEAT_METRICS_PORT", LOOPBACK, 0)

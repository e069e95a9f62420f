"""Free ports that tests ask for: what is promised to one server is not given to the next."""

from __future__ import annotations

import socket

import pytest

from support import ports


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> int:
    """The first port of a range that holds just two candidates for a server of two replicas."""
    low = ports.free_port(replicas=2)
    monkeypatch.setattr(ports, "_share", lambda _: (low, low + 14))
    monkeypatch.setattr(ports, "_given", set())
    return low


def test_a_port_is_not_given_where_the_port_of_its_second_replica_is_taken(narrow: int) -> None:
    with socket.create_server(("127.0.0.1", narrow + 10)):
        assert ports.free_port(replicas=2) == narrow + 2


def test_the_ports_of_all_replicas_are_given_once(narrow: int) -> None:
    assert {ports.free_port(replicas=2), ports.free_port(replicas=2)} == {narrow, narrow + 2}
    assert not {ports.free_port() for _ in range(3)} & {narrow, narrow + 2, narrow + 10, narrow + 12}
    with pytest.raises(OSError, match="no port between"):
        ports.free_port(replicas=2)

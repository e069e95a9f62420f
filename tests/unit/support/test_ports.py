"""Ports that tests ask for: what is promised to one server is not given to the next, nor to another worker."""

from __future__ import annotations

import socket

import pytest

from support import ports

BLOCK = 3000


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


def test_a_block_belongs_to_one_until_it_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_blocks", set())
    monkeypatch.setattr(ports, "_bindable", lambda *_: True)
    monkeypatch.setattr(ports, "_share", lambda _: (20_000, 20_000 + BLOCK))
    block = ports.free_block(BLOCK)
    assert block == (20_000, 20_000 + BLOCK - 1)
    with pytest.raises(OSError, match=r"held: \[\(20000, 22999\)\]"):
        ports.free_block(8)
    ports.give_back_block(block)
    assert ports.free_block(BLOCK) == block


def test_workers_take_from_ranges_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_blocks", set())
    monkeypatch.setattr(ports, "_bindable", lambda *_: True)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    seen = []
    for worker in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        blocks = [ports.free_block(800) for _ in range(3)]
        seen.append((min(first for first, _ in blocks), max(last for _, last in blocks)))
    assert seen[0][1] < seen[1][0]

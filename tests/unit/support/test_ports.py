"""Ports that tests ask for: what is promised to one server is not given to the next, nor to another worker."""

from __future__ import annotations

import socket

import pytest

from support import ports

BLOCK = 3000


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> int:
    """The first port of a range that holds just two candidates."""
    low = ports.free_port()
    monkeypatch.setattr(ports, "_share", lambda _: (low, low + 4))
    monkeypatch.setattr(ports, "_given", set())
    return low


def test_a_port_is_not_given_where_it_or_the_next_one_is_taken(narrow: int) -> None:
    for taken in (narrow, narrow + 1):
        with socket.create_server(("127.0.0.1", taken)):
            assert ports.free_port() == narrow + 2
        ports._given.clear()


def test_each_port_is_given_once(narrow: int) -> None:
    assert {ports.free_port(), ports.free_port()} == {narrow, narrow + 2}
    with pytest.raises(OSError, match="no port between"):
        ports.free_port()


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

"""The datapath that moves nothing: for tests of the control plane and for measuring it. Ports are not
touched."""

from __future__ import annotations

from collections.abc import Iterable

from pbx_media_relay.datapath.base import ZEROS, Counters, Listener, PortInUseError
from pbx_media_relay.forward import Forward


class NullDatapath:
    """Keeps what it was told, so that tests can look; may be told that ports are busy and that packets
    came."""

    name = "null"

    def __init__(self, busy_ports: Iterable[int] = (), survivors: Iterable[int] = ()) -> None:
        self.forwards: dict[int, Forward] = {}
        self.bound: set[int] = set()
        self.busy_ports = set(busy_ports)
        self.heard_ns: dict[int, int] = {}
        self.played: dict[int, Counters] = {}
        """Counters that a test wants read, by forward."""
        self.listener: Listener | None = None
        self.closed = False
        self._survivors = frozenset(survivors)

    def start(self, listener: Listener) -> frozenset[int]:
        """See `Datapath.start`."""
        self.listener = listener
        return self._survivors

    def bind(self, slot_port: int) -> None:
        """See `Datapath.bind`."""
        for port in range(slot_port, slot_port + 8):
            if port in self.busy_ports:
                raise PortInUseError(port)
        self.bound.add(slot_port)

    def unbind(self, slot_port: int) -> None:
        """See `Datapath.unbind`."""
        self.bound.discard(slot_port)

    def last_heard_ns(self, slot_port: int) -> int:
        """See `Datapath.last_heard_ns`."""
        return self.heard_ns.get(slot_port, 0)

    def upsert(self, forward: Forward) -> None:
        """See `Datapath.upsert`."""
        self.forwards[forward.id] = forward

    def remove(self, forward: int) -> Counters:
        """See `Datapath.remove`."""
        self.forwards.pop(forward, None)
        return self.played.pop(forward, ZEROS)

    def counters(self, forwards: Iterable[int]) -> list[Counters]:
        """See `Datapath.counters`."""
        played = self.played
        return [played.get(forward, ZEROS) for forward in forwards]

    def close(self) -> None:
        """See `Datapath.close`."""
        self.closed = True

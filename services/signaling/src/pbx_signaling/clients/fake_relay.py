"""All relays in memory: slots that nobody relays through, for tests and for parts that run alone.

Held to the same conformance tests as the real client (`tests/conformance/test_clients.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbx_signaling.calls.signals import MediaReady, MediaUnavailable, Signal
from pbx_signaling.clients.fake_registrar import Later, at_once
from pbx_signaling.media.stream import Slot, StreamEndpoint

if TYPE_CHECKING:
    from pbx_signaling.clients.base import Answer


@dataclass
class FakeRelay:
    """Implements `clients.base.RelayClient`; raises AssertionError where it is used as none may be."""

    host: str
    later: Later = at_once
    delay_s: float | None = 0.0
    """How long it takes to reserve a slot; None: it never does."""
    is_full: bool = False
    slots: dict[str, Slot] = field(default_factory=dict)
    """Those in use, by call."""
    reserved: int = 0
    """Ever."""
    updates: list[tuple[str, list[StreamEndpoint]]] = field(default_factory=list)
    """What it was told of calls."""

    def reserve(self, call_id: str, endpoints: list[StreamEndpoint], answer: Answer) -> None:
        """Takes a slot."""
        if self.delay_s is not None:
            self.later(self.delay_s, lambda: answer(self._reserve(call_id)))

    def update(self, call_id: str, slot: Slot, endpoints: list[StreamEndpoint]) -> None:
        """Is told new endpoints."""
        assert call_id in self.slots, "endpoints for a slot that is not there"
        self.updates.append((call_id, endpoints))

    def release(self, call_id: str, slot: Slot) -> None:
        """Gives a slot back."""
        assert self.slots.get(call_id) == slot, "a slot was released that is not the call's, or twice"
        del self.slots[call_id]

    def take(self, call_id: str) -> Slot:
        """A slot of eight ports: the first that is free."""
        used = {slot.first_port for slot in self.slots.values()}
        first = next(port for port in range(30_000, 40_000, 8) if port not in used)
        self.reserved += 1
        ports = {(1, 1): (first, first + 1), (1, 2): (first + 2, first + 3)}
        ports |= {(2, 1): (first + 4, first + 5), (2, 2): (first + 6, first + 7)}
        slot = self.slots[call_id] = Slot("r1", 0, self.host, "", ports)
        return slot

    def _reserve(self, call_id: str) -> Signal:
        if self.is_full:
            return MediaUnavailable("full")
        assert call_id not in self.slots, "two slots for one call"
        return MediaReady(self.take(call_id))

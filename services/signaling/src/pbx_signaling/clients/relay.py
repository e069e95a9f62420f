"""The relays over their batched streams: slots taken, told endpoints, given back; which relay gets a call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from pbx.relay.v1 import relay_pb2 as pb
from pbx_runtime import logs
from pbx_runtime.errors import ServiceError
from pbx_signaling.calls.signals import MediaLost, MediaReady, MediaUnavailable, Signal
from pbx_signaling.clients.relay_link import RelayLink, Tally, owe
from pbx_signaling.clients.relay_messages import endpoint_message, slot_of_answer
from pbx_signaling.media.ahead import PORTS_PER_SLOT
from pbx_signaling.media.stream import Slot, StreamEndpoint

if TYPE_CHECKING:
    from pbx_runtime.grpc_credentials import GrpcCredentials

TIMEOUT_S: Final = 2.0
TRIES: Final = 2
"""Relays asked for one call. The second finds what the first had just given away."""

RELAYS_MAX: Final = 1_000
"""Relays whose address is remembered: more than nodes."""

LOST_S: Final = 3.0
"""Out of reach for so long a relay counts as lost for calls that ring: longer than a restart of its process takes."""

_log = logs.get_logger("relay")


class Relays:
    """All relays that are known. Implements the executor's RelayClient."""

    def __init__(
        self,
        instance: str,
        on_signal: Callable[[str, Signal], None],
        on_ready: Callable[[bool], None],
        credentials: GrpcCredentials | None = None,
        on_hosts: Callable[[Iterable[str]], None] = lambda hosts: None,
    ) -> None:
        self.tally = Tally()
        self.links: dict[str, RelayLink] = {}
        """Address to link."""
        self.failures = 0
        self.on_signal = on_signal
        self.credentials = credentials
        self._instance = instance
        self._loop = asyncio.get_running_loop()
        self._on_ready = on_ready
        self.on_hosts = on_hosts
        """Told of the addresses of each relay: nobody's media may be sent there."""
        self._by_id: dict[str, RelayLink] = {}
        self._address_of: dict[str, str] = {}
        """Where relays are, or were last, by their id."""
        self._held: dict[str, Slot] = {}
        """Call id to the slot that it has: as many as there are calls."""
        self._owed: dict[str, dict[str, None]] = {}
        """By address: what relays could not be told of. A relay may come back as what it was (`RelayLink.release`)."""

    def add(self, address: str) -> RelayLink:
        """Takes a relay in; the caller runs its client."""
        owed = self._owed.setdefault(address, {})
        link = self.links[address] = RelayLink(address, self._instance, self, owed)
        return link

    def remove(self, address: str) -> None:
        """Forgets a relay that is gone."""
        self.links.pop(address, None)
        for other in [known for known, owed in self._owed.items() if not owed and known not in self.links]:
            del self._owed[other]
        self.changed()

    def changed(self) -> None:
        """A relay's state changed."""
        self._by_id = {link.relay_id: link for link in self.links.values() if link.relay_id}
        for relay_id, link in self._by_id.items():
            self._address_of[relay_id] = link.address
        while len(self._address_of) > RELAYS_MAX:
            del self._address_of[next(iter(self._address_of))]
        self._on_ready(any(link.takes_calls for link in self.links.values()))

    def went(self, relay_id: str) -> None:
        """The stream to a relay broke."""
        self._loop.call_later(LOST_S, self._look_after, relay_id)

    def _look_after(self, relay_id: str) -> None:
        """Tells the calls of a relay that did not come back; those that ring move."""
        link = self._by_id.get(relay_id)
        if link is not None and link.client.is_up:
            return
        lost = [(call_id, slot) for call_id, slot in self._held.items() if slot.relay == relay_id]
        if lost:
            _log.warning("relay out of reach: calls that ring move", relay=relay_id, calls=len(lost))
        for call_id, slot in lost:
            self.on_signal(call_id, MediaLost(slot, "relay out of reach", is_certain=False))

    def reserve(self, call_id: str, endpoints: list[StreamEndpoint], answer: Callable[[Signal], None]) -> None:
        """Takes a slot: one that was granted ahead, else asks two relays for one, one after the other.

        What is granted is answered at once: the call's first event and the callee's invitation are one write then.
        """
        former = self._held.get(call_id)
        if former is not None:
            self.release(call_id, former)  # of a relay that was lost: told when it is back
        link = self._pick([link for link in self.links.values() if link.takes_calls and len(link.ahead)])
        shunned = {
            endpoint.port // PORTS_PER_SLOT for endpoint in endpoints
        }  # a phone beside the relay is in none of them
        slot = link.take(shunned) if link is not None else None
        if link is None or slot is None:
            self._try(call_id, endpoints, answer, set())
            return
        self._held[call_id] = slot
        self._begin(link, call_id, slot, endpoints)
        answer(MediaReady(slot))

    def _begin(self, link: RelayLink, call_id: str, slot: Slot, endpoints: list[StreamEndpoint]) -> None:
        """Tells a relay of the call on its slot: before anything flows it must know, and that is with the answer."""

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            if result is not None and result.HasField("begin"):
                self._refused(call_id, link.relay_id, result.begin.refused)
                return
            detail = str(error) if result is None else result.error.detail
            self.failures += 1
            self.tally.refused += 1
            _log.warning("slot refused", call_id=call_id, relay=link.address, reason=detail)
            if result is None:
                # Its outcome is unknown: whatever it took is given back.
                link.release(call_id)
            self._held.pop(call_id, None)
            self.on_signal(call_id, MediaLost(slot, detail))

        call = pb.AllocateRequest(call_id=call_id, endpoints=[endpoint_message(e, relatch=True) for e in endpoints])
        command = pb.Command(begin=pb.BeginRequest(call=call, slot=slot.index))
        link.client.submit(command, done, timeout_s=TIMEOUT_S, urgent=False)

    def _pick(self, usable: list[RelayLink]) -> RelayLink | None:
        """Of two picked at random the one with more room: spreads load; not a secret."""
        if not usable:
            return None
        return max(random.sample(usable, min(2, len(usable))), key=lambda link: link.room)

    async def leave(self, patience_s: float) -> None:
        """Returns all slots granted ahead, and waits until the last words are heard: this process ends."""
        links = [link for link in self.links.values() if link.client.is_up]
        for link in links:
            link.leave()
        deadline = self._loop.time() + patience_s
        # Once, as the process ends: results come lazily, from several links.
        while any(link.client.in_flight for link in links) and self._loop.time() < deadline:  # noqa: ASYNC110 -- see above
            await asyncio.sleep(0.02)

    def _try(
        self, call_id: str, endpoints: list[StreamEndpoint], answer: Callable[[Signal], None], tried: set[str]
    ) -> None:
        usable = [link for link in self.links.values() if link.takes_calls and link.address not in tried]
        link = self._pick(usable)
        if link is None or len(tried) >= TRIES:
            self.failures += 1
            answer(MediaUnavailable("no relay takes calls"))
            return
        tried.add(link.address)

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            if result is not None and result.HasField("allocate"):
                link.slots_free -= 1
                self._refused(call_id, link.relay_id, result.allocate.refused)
                slot = self._held[call_id] = slot_of_answer(result.allocate)
                answer(MediaReady(slot))
                return
            detail = str(error) if result is None else result.error.detail
            _log.warning("allocation failed", call_id=call_id, relay=link.address, reason=detail)
            if result is None:
                # Its outcome is unknown: whatever it took is given back.
                link.release(call_id)
            self._try(call_id, endpoints, answer, tried)

        request = pb.AllocateRequest(call_id=call_id, endpoints=[endpoint_message(e, relatch=True) for e in endpoints])
        link.client.submit(pb.Command(allocate=request), done, timeout_s=TIMEOUT_S)

    def update(self, call_id: str, slot: Slot, endpoints: list[StreamEndpoint]) -> None:
        """Tells new endpoints; a failure shows as a media timeout."""
        link = self._by_id.get(slot.relay)
        if link is None:
            _log.warning("update without relay", call_id=call_id, relay=slot.relay)
            return

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            if result is None or result.HasField("error"):
                self.failures += 1
                detail = str(error) if result is None else result.error.detail
                _log.warning("update failed", call_id=call_id, relay=slot.relay, reason=detail)
            else:
                self._refused(call_id, slot.relay, result.update.refused)

        request = pb.UpdateRequest(call_id=call_id, endpoints=[endpoint_message(e, relatch=True) for e in endpoints])
        link.client.submit(pb.Command(update=request), done, timeout_s=TIMEOUT_S)

    def _refused(self, call_id: str, relay: str, refused: Iterable[pb.RefusedEndpoint]) -> None:
        """Endpoints that the relay did not take: their stream is silent, the call goes on."""
        for one in refused:
            self.failures += 1
            _log.warning("endpoint refused", call_id=call_id, relay=relay, side=one.side, reason=one.detail)

    def release(self, call_id: str, slot: Slot) -> None:
        """Gives a slot back; a relay that cannot be told is told when it can. Nobody waits for the answer."""
        self._held.pop(call_id, None)
        link = self._by_id.get(slot.relay)
        address = self._address_of.get(slot.relay)
        if link is not None:
            link.release(call_id)
        elif address is not None:
            owe(self._owed.setdefault(address, {}), call_id)

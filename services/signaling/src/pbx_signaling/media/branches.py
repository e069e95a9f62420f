"""The media of a call whose callee may ring at several phones: one exchange with each of them, one slot for all.

Each phone gets the caller's offer with the same ports of the slot, and has its own offer/answer state (`MediaSession`),
as each of its early dialogs does towards the caller. The relay carries one of them at a time: the one that spoke last,
and from the answer on the one that answered. Pure; raises SessionRefused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbx_signaling.media.endpoint import declined
from pbx_signaling.media.session import MediaSession
from pbx_signaling.media.stream import Slot, StreamEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbx_runtime.media_address import Barred
    from pbx_signaling.calls.signals import Side


@dataclass(slots=True)
class CallMedia:
    """Offer/answer state of a call with each leg of its callee, and what the relay knows of it."""

    offer: MediaSession
    """The caller's side alone, as its INVITE said; of each phone it is the beginning."""
    legs: dict[int, MediaSession] = field(default_factory=dict)
    """By leg of the callee; after the answer that of the party alone."""
    party: int = 0
    """The leg that answered; 0: none yet."""
    followed: int = 0
    """The leg whose agreement the relay carries out; 0: none has answered."""
    known: dict[tuple[int, int], StreamEndpoint] = field(default_factory=dict)
    """(side, media) to what the relay was told last, until the callee is found."""

    @property
    def slot(self) -> Slot | None:
        """The ports that carry the call."""
        return self.offer.slot

    @slot.setter
    def slot(self, slot: Slot | None) -> None:
        for session in (self.offer, *self.legs.values()):
            session.slot = slot

    @property
    def of_caller(self) -> list[StreamEndpoint]:
        """The caller's endpoints, as its offer named them."""
        return list(self.offer.applied.values())

    def place(self, side: int, host: str) -> None:
        """Tells where the caller's SIP comes from (see `MediaSession.place`)."""
        self.offer.place(side, host)

    def first_offer(self, data: bytes, barred: Barred) -> list[StreamEndpoint]:
        """Takes the caller's offer in; answers the endpoints that the relay may know at once."""
        endpoints = self.offer.first_offer(data, barred)
        self.known = dict(self.offer.applied)
        return endpoints

    def invite(self, leg: int, host: str, data: bytes | None, barred: Barred) -> bytes | None:
        """Begins the exchange with a phone; answers the caller's offer as that phone gets it, where there is one."""
        session = self.legs[leg] = self.offer.branch(leg, host)
        return None if data is None else session.forward_offer(1, data, barred)

    def carry(
        self, leg: int, side: Side, data: bytes, barred: Barred, *, provisional: bool, may_offer: bool, fork: str
    ) -> tuple[bytes, list[StreamEndpoint]]:
        """As `MediaSession.carry`, in the exchange with a leg."""
        data, endpoints = self.legs[leg].carry(
            side, data, barred, provisional=provisional, may_offer=may_offer, fork=fork
        )
        return data, self._news(leg, endpoints)

    def choose(self, leg: int, fork: str, *, settles: bool) -> list[StreamEndpoint]:
        """A phone answered: its exchange alone goes on. Answers what the relay does not know of it yet.

        `settles`: it did so without a description, so that what it said before is its answer (`MediaSession.settle`).
        """
        session = self.legs[leg]
        endpoints = session.settle(fork) if settles else []
        news = self._news(leg, endpoints) if self.followed == leg else self._follow(leg)
        self.party, self.legs, self.known = leg, {leg: session}, {}
        self.offer = MediaSession(session.session_id, session.slot)
        return news

    def drop(self, leg: int) -> list[StreamEndpoint]:
        """A phone is out: where the relay carried its early media, it turns to another that has some."""
        self.legs.pop(leg, None)
        if leg != self.followed:
            return []
        other = next((number for number, session in self.legs.items() if session.last_answer_by), 0)
        self.followed = other
        return self._follow(other) if other else []

    def codec_of(self, side: int) -> str:
        """The first audio codec that a side named, as "PCMU/8000"; empty before it named any."""
        session = self.legs.get(self.followed) or next(iter(self.legs.values()), self.offer)
        return session.codec_of(side)

    # --- what the relay is told

    def _news(self, leg: int, endpoints: list[StreamEndpoint]) -> list[StreamEndpoint]:
        if not endpoints:
            return []
        if leg == self.followed or not self.followed:
            self.followed = leg
            self._note(endpoints)
            return endpoints
        return self._follow(leg)

    def _follow(self, leg: int) -> list[StreamEndpoint]:
        """Turns the relay to the agreement with another leg."""
        self.followed, agreed = leg, self.legs[leg].applied
        news = [endpoint for key, endpoint in agreed.items() if self.known.get(key) != endpoint]
        news += [declined(told) for key, told in self.known.items() if told.port and key not in agreed]
        self._note(news)
        return news

    def _note(self, endpoints: Iterable[StreamEndpoint]) -> None:
        for endpoint in () if self.party else endpoints:
            self.known[endpoint.side, endpoint.media] = endpoint

"""Who takes a message that came to an address which several processes share. Pure.

The kernel picks a process by the source of a message, and so may pick one that does not have its call:

    response, request in a dialog, ACK   its branch or To-tag names the process: handed to it, unread
    INVITE, and again                    is its branch on the board (`board`)? Else it is taken here, and noted there
    CANCEL                               the same; without a note the others are asked in a row whether they have its
                                         INVITE, and the last one answers 481 (RFC 3261 section 9.2)
    INVITE of a peer that speaks for     all of them come from one port, to one process: they are shared out by Call-ID
    many (a proxy, a trunk)
    anything else                        is taken where it came, and by the next process where this one is leaving

Over UDP whoever takes a message answers from the same address, so nothing goes back. What came over a connection goes
back through its process.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from zlib import crc32

from pbx_signaling.replicas.frame import Frame, Word
from pbx_signaling.replicas.peering import Carriage

if TYPE_CHECKING:
    from pbx_signaling.replicas.peering import Peering
    from pbx_sip.address import Flow

LOOKED_AT: Final = 2_048
"""Octets of a message in which its owner's name is looked for; beyond, the router reads it whole."""
_BRANCH: Final = re.compile(rb"branch=z9hG4bK([a-z0-9]{1,16})\.")
_VIA: Final = re.compile(rb"\n(?:Via|v)[ \t]*:[^\n]*?;[ \t]*branch[ \t]*=[ \t]*([^\s;,]+)", re.IGNORECASE)
_CALL_ID: Final = re.compile(rb"\n(?:Call-ID|i)[ \t]*:[ \t]*([^\s]+)", re.IGNORECASE)
_TO_TAG: Final = re.compile(rb"\n(?:To|TO|to|t)[ \t]*:[^\n]*;[ \t]*tag=([a-z0-9]{1,16})\.")


class Notes(Protocol):
    """Whose transactions are whose (`board.Board`)."""

    def owner(self, branch: bytes) -> str:
        """The process that began the transaction of a phone's branch; empty where none is known."""

    def note(self, branch: bytes) -> None:
        """This process begins it."""


class Line(Protocol):
    """Puts a frame on its way to another process; never blocks, never raises."""

    def put(self, instance: str, frame: Frame) -> None:
        """To one of the siblings."""


def names_owner(data: bytes) -> str:
    """The instance whose branch (of a response) or To-tag (of a request) a message carries; empty where none shows.

    A guess from octets: who is named reads the message whole, and a wrong name harms nobody but who wrote it.
    """
    found = (_BRANCH if data.startswith(b"SIP/") else _TO_TAG).search(data, 0, LOOKED_AT)
    return found[1].decode() if found is not None else ""


@dataclass(slots=True)
class Switch:
    """Between the sockets and the core of one process."""

    peering: Peering
    line: Line
    receive: Callable[[bytes, Flow], None]
    """Takes a message in here."""
    take: Callable[[str, Flow], Flow]
    """A flow of another instance, as this one can use it."""
    knows: Callable[[bytes, Flow], bool]
    """Whether the INVITE of a CANCEL is here."""
    budget: Callable[[Flow], bool]
    """Charges the source of a CANCEL about which the others are asked; False: they are not."""
    spreads: Callable[[Flow], bool] = lambda flow: False
    """Whether a peer speaks for many."""
    notes: Notes | None = None
    misdirected: int = 0
    """Messages that came here and were another's."""
    is_leaving: bool = False
    """Whether this process takes nothing new: what belongs to nobody goes to the next one."""

    def received(self, data: bytes, flow: Flow) -> None:
        """A message came to one of our sockets."""
        others = self.peering.siblings
        if not others:
            self.receive(data, flow)
            return
        owner = names_owner(data)
        if not owner and data.startswith((b"INVITE ", b"CANCEL ")):
            owner = self._noted(data) or self._shared_out(data, flow)
        if owner in others:
            self.misdirected += 1
            self.peering.hand_over(owner, data, flow)
        elif owner or not self._goes_on(data, flow):
            self._begin(data, flow)

    def _noted(self, data: bytes) -> str:
        """Whose transaction a phone's branch is, as far as that is known."""
        found = _VIA.search(data, 0, LOOKED_AT) if self.notes is not None else None
        return self.notes.owner(found[1]) if self.notes is not None and found is not None else ""

    def _shared_out(self, data: bytes, flow: Flow) -> str:
        """The process that takes a new call of a peer that speaks for many; empty: this one."""
        found = _CALL_ID.search(data, 0, LOOKED_AT) if self.spreads(flow) else None
        if found is None:
            return ""
        own = self.peering.instance
        processes = sorted(self.peering.siblings | (frozenset() if self.is_leaving else {own}))
        chosen = processes[crc32(found[1]) % len(processes)]
        return "" if chosen == own else chosen

    def _begin(self, data: bytes, flow: Flow) -> None:
        """Takes a message in; that an INVITE is here the others can see."""
        if self.notes is not None and data.startswith(b"INVITE "):
            found = _VIA.search(data, 0, LOOKED_AT)
            if found is not None:
                self.notes.note(found[1])
        self.receive(data, flow)

    def _goes_on(self, data: bytes, flow: Flow) -> bool:
        """Whether a message that names nobody was given to another process."""
        if data.startswith(b"CANCEL "):
            return self._asks(Frame(Word.ASKED, self.peering.instance, flow, data, self.peering.instance), flow)
        if not self.is_leaving or flow.connection or data.startswith((b"SIP/", b"ACK ")):
            return False
        following = self.peering.following(self.peering.instance)
        if following:
            self.peering.hand_over(following, data, flow)
        return bool(following)

    def _asks(self, frame: Frame, flow: Flow) -> bool:
        """Whether the next process was asked about a CANCEL."""
        own, asker = self.peering.instance, frame.asker
        following = self.peering.following(own)
        # Behind the asker's place nobody is asked, were it gone meanwhile: two would ask each other for ever.
        is_round = not following or (own != asker and (following <= asker, following) <= (own <= asker, own))
        if is_round or following == asker or self.knows(frame.data, flow):
            return False
        if own == asker and not self.budget(flow):
            return False
        self.line.put(following, frame._replace(sender=own))
        return True

    def came(self, frame: Frame) -> Carriage | None:
        """A frame came from another process; what is left for whoever serves flows: SEND or BROKEN."""
        self.peering.met(frame.sender)
        match frame.word:
            case Word.HELLO:
                return None
            case Word.RECEIVED:
                self.carried(frame.sender, frame.data, frame.flow)
                return None
            case Word.ASKED:
                self.peering.met(frame.asker)
                flow = self.take(frame.asker, frame.flow)
                if not self._asks(frame, flow):
                    self._take_in(frame.data, flow)
                return None
            case _:
                return Carriage(frame.word)

    def carried(self, instance: str, data: bytes, flow: Flow) -> None:
        """A message that another instance handed over is ours, whatever it says of itself: it goes no further."""
        self._take_in(data, self.take(instance, flow))

    def _take_in(self, data: bytes, flow: Flow) -> None:
        self.peering.is_carried = True
        try:
            self._begin(data, flow)
        finally:
            self.peering.is_carried = False

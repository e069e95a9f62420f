"""The ACKs for the 2xx to INVITEs of ours (RFC 3261 section 13.2.2.4): owed by the user, then kept for the same 2xx
again."""

from __future__ import annotations

from typing import Final

from pbx_sip.message.message import Request
from pbx_sip.message.serialize import serialize
from pbx_sip.usage.frozen import request_of

ACKS_MAX: Final = 4
"""ACKs kept for 2xx that come again. A 2xx comes again for 64*T1 at most; four re-INVITEs in that time are many."""


class Acks:
    """Those of one dialog, by the CSeq number of their INVITE."""

    __slots__ = ("_kept", "owed")

    def __init__(self, owed: tuple[int, ...] = (), kept: tuple[tuple[int, bytes], ...] = ()) -> None:
        self.owed = owed
        """Numbers of INVITEs whose 2xx came and whose ACK the user still owes, in order."""
        self._kept = {cseq: request_of(data) for cseq, data in kept}

    def owe(self, cseq: int) -> None:
        """Notes that the first 2xx came to the INVITE with that CSeq number, so that its ACK is due."""
        self.owed = (*self.owed, cseq)

    def sent(self, cseq: int, ack: Request) -> None:
        """Its ACK is being sent."""
        self.owed = tuple(number for number in self.owed if number != cseq)
        self._kept[cseq] = ack
        if len(self._kept) > ACKS_MAX:
            del self._kept[next(iter(self._kept))]

    def kept(self, cseq: int) -> Request | None:
        """The ACK that was sent, for its 2xx that came again."""
        return self._kept.get(cseq)

    def freeze(self) -> tuple[tuple[int, bytes], ...]:
        """Those that were sent, as bytes."""
        return tuple((cseq, serialize(ack)) for cseq, ack in self._kept.items())

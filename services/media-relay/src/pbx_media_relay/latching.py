"""When a packet's source is accepted, and when it is learned (RFC 7362).

A forward has one `Latch` for RTP and one for RTCP. Pure, and the definition for every datapath. Theory of
operation: the announced endpoint is always acceptable until something was latched; a window, opened by
signaling alone (a new generation), lets another source be latched:

    candidate                               rank     latches at
    the announced endpoint                  EXACT    its first packet, at any time, and shuts the window
    announced host or signaling host        HINTED   its first plausible packet
    the same, latched before the window     FORMER   as HINTED; after a move not in the first STRAGGLER_NS
    any other host, no signaling host told  ANY      its second of two successive plausible packets (one SSRC)

Inside the window a higher rank replaces a lower one, so who sprays the port first loses it to the phone;
`SETTLE_NS` after the first latch the window shuts, whatever was latched. Afterwards nothing but the latched
source and the announced endpoint is accepted. RTCP is never latched to a host other than those of its RTP.

Plausible are payload types that either side named, comfort noise, and packets without a payload (RFC 6263
section 4); what is no RTP but keeps a NAT open (an empty datagram, STUN) tells where a phone is as well.
"""

from __future__ import annotations

import enum
from typing import Final

from pbx_media_relay.endpoint import Endpoint

SETTLE_NS: Final = 3_000_000_000
"""rtpengine learns for 3 s too: longer than a phone's first reordered packets, short for an attacker."""
SEQUENTIAL_STEP_MAX: Final = 3
"""A candidate's second packet may be this far ahead of its first: RFC 3550 A.1's probation, with a little
loss."""

LATCH_WINDOW_NS: Final = 30_000_000_000
"""A phone behind NAT sends within a second of the answer; one that mutes itself at first is given half a
minute."""
STRAGGLER_NS: Final = 1_000_000_000
"""So long after the announced endpoint moved a packet from the place before is late, not news (RFC 3264 section
8.3.1): ten times what a long way and a full buffer delay it."""


class Rank(enum.IntEnum):
    """How well a source fits what signaling said."""

    NONE = 0
    ANY = 1
    FORMER = 2
    HINTED = 3
    EXACT = 4


class Latch:
    """Which source one stream of packets may come from, and where its peer's packets are sent."""

    __slots__ = (
        "_candidate",
        "announced",
        "destination",
        "fixed",
        "generation",
        "hint_host",
        "last_source",
        "moved",
        "rank",
        "source",
        "until_ns",
    )

    def __init__(
        self, announced: Endpoint, hint_host: str, until_ns: int, generation: int, fixed: bool = False
    ) -> None:
        self.announced = announced
        self.destination = announced
        """Where packets to this endpoint go: announced, then latched."""
        self.source: Endpoint | None = None
        """The latched source; None: nothing accepted since the window opened."""
        self.last_source: Endpoint | None = None
        """As `source`, but kept while the window is open again; for statistics."""
        self.rank = Rank.NONE
        self.moved = False
        """Whether `last_source` was latched for another announced endpoint."""
        self.hint_host = hint_host
        self.until_ns = until_ns
        self.generation = generation
        self.fixed = fixed
        """What is sent goes where it was announced, whatever it comes from (asymmetric RTP)."""
        self._candidate: tuple[Endpoint, int, int] | None = None

    def __repr__(self) -> str:
        return f"<Latch {self.announced} -> {self.source} {self.rank.name} generation {self.generation}>"

    def update(self, announced: Endpoint, hint_host: str, until_ns: int, generation: int, fixed: bool = False) -> None:
        """Take over an upsert: a new generation or announced endpoint opens the latch, else it stays as it
        is.

        While nothing new was latched, packets still go to the old source if the announced endpoint is the
        same.
        """
        self.hint_host = hint_host
        if fixed and not self.fixed:
            self.destination = announced
        self.fixed = fixed
        if announced != self.announced:
            self.destination = announced
            self.moved = True
        elif generation == self.generation:
            if self.source is None:
                self.until_ns = until_ns
            return
        self.announced, self.until_ns, self.generation = announced, until_ns, generation
        self.source, self.rank, self._candidate = None, Rank.NONE, None

    def accept_rtp(self, source: Endpoint, plausible: bool, stream: tuple[int, int], now_ns: int) -> bool:
        """Whether an RTP packet is accepted, learning its source where allowed. `stream` is SSRC and
        sequence."""
        if source == self.source:
            return True
        rank = self._rank(source)
        if not self._may_latch(rank, plausible, now_ns):
            return False
        if rank is Rank.ANY and not self._second(source, stream):
            return False
        self._latch(source, rank, now_ns)
        return True

    def keep_alive(self, source: Endpoint, now_ns: int) -> None:
        """Learn from what is no RTP and was sent to keep a NAT open: of the phone's own hosts alone."""
        rank = self._rank(source)
        if source != self.source and rank > Rank.ANY and self._may_latch(rank, True, now_ns):
            self._latch(source, rank, now_ns)

    def accept_rtcp(self, source: Endpoint, rtp_host: str | None, now_ns: int) -> bool:
        """Whether an RTCP packet is accepted. `rtp_host` is the host to which its RTP is latched, if it
        is."""
        if source == self.source:
            return True
        rank = self._rank(source)
        if rank < Rank.FORMER:
            rank = Rank.HINTED if source.host == rtp_host else Rank.NONE
        if not self._may_latch(rank, True, now_ns):
            return False
        self._latch(source, rank, now_ns)
        return True

    def _rank(self, source: Endpoint) -> Rank:
        if source == self.announced:
            return Rank.EXACT
        if source.host in (self.announced.host, self.hint_host):
            return Rank.FORMER if self.source is None and source == self.last_source else Rank.HINTED
        # With a signaling host known, RFC 7362 section 5's restricted latching: no other host is plausible.
        return Rank.NONE if self.hint_host else Rank.ANY

    def _may_latch(self, rank: Rank, plausible: bool, now_ns: int) -> bool:
        if rank is Rank.EXACT:
            return True
        if rank is Rank.FORMER and self.moved and now_ns + (LATCH_WINDOW_NS - STRAGGLER_NS) < self.until_ns:
            return False
        return rank > self.rank and plausible and now_ns < self.until_ns

    def _second(self, source: Endpoint, stream: tuple[int, int]) -> bool:
        ssrc, sequence = stream
        first, self._candidate = self._candidate, (source, ssrc, sequence)
        if first is None or first[:2] != (source, ssrc):
            return False
        return 1 <= (sequence - first[2]) & 0xFFFF <= SEQUENTIAL_STEP_MAX

    def _latch(self, source: Endpoint, rank: Rank, now_ns: int) -> None:
        if rank is Rank.EXACT:
            self.until_ns = 0
        elif self.source is None:
            self.until_ns = min(self.until_ns, now_ns + SETTLE_NS)
        self.source = self.last_source = source
        self.moved = False
        if not self.fixed:
            self.destination = source
        self.rank = rank

"""Phones on UDP behind a NAT are kept reachable, and known to be. Pure.

A NAT forgets a UDP mapping after 30 s to some minutes (RFC 4787 REQ-5), and many phones send nothing meanwhile. So each
binding whose phone is behind one gets an OPTIONS in each interval down its flow, from the socket that it registered at
(RFC 5626 section 4.4 has the phone do that; Asterisk calls it qualify). Any answer at all says that it is there: a 404
is as good as a 200. One that answered before and does not three times in a row is unreachable: the registrar is told,
and callers do not wait 32 s for it. A phone that never answers is kept open all the same, and nothing is said of it.

Deliberately without transactions: a ping costs no timer of its own beside the binding's. The replica at which a phone
registered pings it, and no other; that of a replica which is gone is taken over by one (`takes_over`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbx_signaling.border import wire
from pbx_signaling.users.user import User
from pbx_sip.address import Transport
from pbx_sip.errors import RemoteError
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response
from pbx_sip.message.uri import Uri, request_target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pbx_signaling.users.sip import Sip
    from pbx_signaling.users.user import DialogOwner, Owner
    from pbx_sip.address import Flow


KEPT_MAX: Final = 100_000
"""Flows kept open by one instance; 3 300 pings a second. Beyond, a phone looks after itself. Threat: memory, and load
by registrations without end (which need accounts)."""
ANSWER_S: Final = 2.0
"""For the answer to a ping; then it is sent again."""
TRIES: Final = 3
"""Pings without an answer after which a phone is unreachable: 6 s."""
FIRST_S: Final = (0.5, 3.0)
"""After the REGISTER, when the first ping goes: soon, for what is known early helps, and not with all the others."""
SPREAD: Final = 0.2
"""How much of an interval is left to chance, so that pings stay spread out."""
CONFIRM_EVERY: Final = 10
"""Intervals after which the registrar is asked whether the binding still is what it was: 5 minutes."""
NEWS_FACTOR: Final = 2.0
NEWS_S: Final = 0.05
"""A round trip is told anew where it became so much longer or shorter, and by so much at least."""
BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Of the histogram of round trips."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the registrar is told about the bindings of a flow."""

    aor: str
    flow: Flow
    instance: str
    """The instance that the binding names."""
    reachable: bool
    round_trip_s: float = 0.0


@dataclass(slots=True)
class Kept:
    """One flow that is kept open."""

    number: int
    flow: Flow
    target: str
    """The Request-URI of its pings."""
    instance: str
    call_id: str
    until: dict[str, float]
    """Addresses-of-record that are registered over it, and until when."""
    cseq: int = 0
    branch: str = ""
    """Of the ping under way; empty where none is."""
    sent: float = 0.0
    misses: int = 0
    has_answered: bool = False
    reachable: bool = True
    round_trip_s: float = 0.0
    told_s: float = 0.0
    """The round trip that the registrar knows."""
    turns: int = 0
    handle: int | None = None


@dataclass(slots=True)
class Tally:
    """Counted here, read by metrics."""

    pings: int = 0
    answers: int = 0
    refused: int = 0
    """Flows beyond KEPT_MAX."""
    round_trips: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    """By bucket; the last one has the longest."""
    round_trip_sum_s: float = 0.0


class KeepAlive(User):
    """The flows that this instance keeps open. A user of transactions without any: the owner of its own deadlines."""

    call_id = ""

    def __init__(
        self,
        sip: Sip,
        domain: str,
        report: Callable[[Finding], None],
        chance: Callable[[], float],
        *,
        instance: str,
        interval_s: float = 30.0,
        everybody: bool = False,
    ) -> None:
        """`chance`: a random number from 0 to 1. `everybody`: phones on UDP that are not behind a NAT, too."""
        self.tally = Tally()
        self.instance = instance
        self._sip = sip
        self._from = f"<sip:{domain}>"
        self._report = report
        self._chance = chance
        self._interval_s = interval_s
        self._everybody = everybody
        self._kept: dict[Flow, Kept] = {}
        self._by_number: dict[int, Kept] = {}
        self._by_branch: dict[str, Kept] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._kept)

    def states(self) -> dict[str, int]:
        """How many flows are in each state."""
        states = {"reachable": 0, "unreachable": 0, "unknown": 0}
        for kept in self._kept.values():
            states["unknown" if not kept.has_answered else "reachable" if kept.reachable else "unreachable"] += 1
        return states

    # --- registrations

    def keeps(self, flow: Flow, contact: str, path: Collection[str]) -> bool:
        """Whether a binding is one to keep: on UDP, not behind another proxy, and behind a NAT."""
        if flow.transport is not Transport.UDP or path or not self._interval_s:
            return False
        if self._everybody:
            return True
        try:
            return Uri.parse(contact).host != flow.remote.host
        except RemoteError:
            return False

    def registered(self, aor: str, flow: Flow, contact: str, until: float, instance: str = "") -> None:
        """A binding was made or refreshed: its phone is there. `instance`: the one it names, where not this one."""
        kept = self._kept.get(flow)
        if kept is None:
            if len(self._kept) >= KEPT_MAX:
                self.tally.refused += 1
                return
            self._next += 1
            kept = Kept(self._next, flow, request_target(contact), instance, self._sip.sip_call_id(), {})
            self._kept[flow] = self._by_number[kept.number] = kept
            low, high = FIRST_S
            self._wake(kept, low + (high - low) * self._chance())
        kept.until[aor] = until
        kept.target, kept.instance = request_target(contact), instance or self.instance
        kept.reachable, kept.misses = True, 0  # a REGISTER is as good as an answer; the registrar knows that

    def unregistered(self, aor: str, flow: Flow) -> None:
        """A binding is gone, or is another replica's."""
        kept = self._kept.get(flow)
        if kept is not None:
            kept.until.pop(aor, None)
            if not kept.until:
                self._forget(kept)

    def came_back(self, alive: Collection[str]) -> None:
        """These instances live: what was taken over from one of them is its own again."""
        for kept in [kept for kept in self._kept.values() if kept.instance != self.instance and kept.instance in alive]:
            self._forget(kept)

    # --- pings

    @property
    def user(self) -> User:
        """Itself."""
        return self

    def expired(self, owner: Owner, what: int) -> None:
        """A ping is due, or the answer to one."""
        kept, now = self._by_number.get(what), self._sip.now
        if kept is None:
            return
        kept.handle = None
        for aor in [aor for aor, until in kept.until.items() if until <= now]:
            del kept.until[aor]
        if not kept.until:
            self._forget(kept)
        elif kept.branch:
            self._missed(kept)
        else:
            self._turn(kept)

    def _turn(self, kept: Kept) -> None:
        kept.turns += 1
        if kept.turns % CONFIRM_EVERY == 0:
            self._tell(kept)
        self._ping(kept)

    def _ping(self, kept: Kept) -> None:
        sip = self._sip
        kept.cseq += 1
        headers = Headers(
            [
                ("Via", sip.via(kept.flow)),
                ("Max-Forwards", "70"),
                ("From", f"{self._from};tag={sip.tag()}"),
                ("To", f"<{kept.target}>"),
                ("Call-ID", kept.call_id),
                ("CSeq", f"{kept.cseq} OPTIONS"),
                ("User-Agent", wire.PRODUCT),
            ]
        )
        request = Request("OPTIONS", kept.target, headers)
        kept.branch, kept.sent = request.branch, sip.now
        self._by_branch[kept.branch] = kept
        self.tally.pings += 1
        sip.transmit(request, kept.flow)
        self._wake(kept, ANSWER_S)

    def _missed(self, kept: Kept) -> None:
        self._by_branch.pop(kept.branch, None)
        kept.branch = ""
        kept.misses += 1
        if kept.misses < TRIES and kept.has_answered and kept.reachable:
            self._ping(kept)
            return
        if kept.has_answered and kept.reachable and kept.misses >= TRIES:
            kept.reachable = False
            self._tell(kept)
        self._rest(kept)

    def stray(self, owner: DialogOwner | None, response: Response) -> bool:
        """Whether a response answers a ping; takes it in."""
        kept = self._by_branch.pop(response.branch, None) if self._by_branch else None
        if kept is None:
            return False
        round_trip_s = self._sip.now - kept.sent
        self._count(round_trip_s)
        news = not kept.reachable or not kept.has_answered or _is_news(kept.told_s, round_trip_s)
        kept.branch, kept.misses, kept.has_answered, kept.reachable = "", 0, True, True
        kept.round_trip_s = round_trip_s
        if news:
            self._tell(kept)
        self._rest(kept)
        return True

    def _count(self, round_trip_s: float) -> None:
        tally = self.tally
        tally.answers += 1
        tally.round_trip_sum_s += round_trip_s
        tally.round_trips[next((at for at, most in enumerate(BUCKETS_S) if round_trip_s <= most), len(BUCKETS_S))] += 1

    def _tell(self, kept: Kept) -> None:
        kept.told_s = kept.round_trip_s
        round_trip_s = kept.round_trip_s if kept.has_answered and kept.reachable else 0.0
        for aor in kept.until:
            self._report(Finding(aor, kept.flow, kept.instance, kept.reachable, round_trip_s))

    # --- tools

    def _rest(self, kept: Kept) -> None:
        self._wake(kept, self._interval_s * (1.0 - SPREAD * self._chance()))

    def _wake(self, kept: Kept, after_s: float) -> None:
        if kept.handle is not None:
            self._sip.unschedule(kept.handle)
        kept.handle = self._sip.schedule(self, self._sip.now + after_s, kept.number)

    def _forget(self, kept: Kept) -> None:
        if kept.handle is not None:
            self._sip.unschedule(kept.handle)
        self._by_branch.pop(kept.branch, None)
        self._by_number.pop(kept.number, None)
        if self._kept.get(kept.flow) is kept:
            del self._kept[kept.flow]


def takes_over(aor: str, owner: str, instance: str, alive: Collection[str]) -> bool:
    """Whether an instance pings a binding: its own, or the one that falls to it of an instance that is gone.

    All replicas come to the same answer without asking each other (rendezvous hashing); `alive` without `instance`.
    """
    if owner == instance or owner in alive:
        return owner == instance
    return instance == max((instance, *alive), key=lambda each: hashlib.blake2b(f"{each} {aor}".encode()).digest())


def _is_news(told_s: float, round_trip_s: float) -> bool:
    low, high = sorted((told_s, round_trip_s))
    return high - low >= NEWS_S and high >= NEWS_FACTOR * low

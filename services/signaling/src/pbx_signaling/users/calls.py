"""Calls as a user of transactions: the table of live calls, what an INVITE begins, and what reaches a call.

SIP comes in by the methods of a transaction user and goes to the leg whose dialog or transaction it belongs to, from
there as call-control events to the call. The world answers by `answered`. What the call then wants (its commands)
`performing` carries out. It decides nothing about a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pbx_signaling.border import wire
from pbx_signaling.bucket import Bucket
from pbx_signaling.calls.machine import Call
from pbx_signaling.calls.signals import Authenticated, Deadline, Expired, Found, Limited, Ordered, Signal
from pbx_signaling.legs import body
from pbx_signaling.legs.callee import OutboundLeg
from pbx_signaling.legs.caller import InboundLeg
from pbx_signaling.media.branches import CallMedia
from pbx_signaling.media.session import MediaSession
from pbx_signaling.users.entry import Entry
from pbx_signaling.users.leg_port import LegPort, LegsNeed, OfLeg
from pbx_signaling.users.performing import OfCall, Performer
from pbx_signaling.users.refusals import RETRY_AFTER_S, unavailable, unpassable
from pbx_signaling.users.user import User
from pbx_sip.message.message import response_to
from pbx_sip.usage.refresh import refusal as refusal_of_interval

if TYPE_CHECKING:
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.users.performing import CallsNeed
    from pbx_signaling.users.user import DialogOwner, Load, Owner, Sending
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Request, Response
    from pbx_sip.transaction.events import ClientKey, FailureCause, Key, ServerKey

TAKES_SDP: Final = frozenset({"application/sdp", "application/*", "*/*"})
"""Accept values of a caller that an answer of ours fits."""


class Calls(User):
    """All live calls of one instance."""

    methods = ("INVITE",)
    within = ("BYE", "PRACK", "UPDATE", "INFO")

    def __init__(self, need: CallsNeed) -> None:
        self.table: dict[str, Entry] = {}
        """By call id."""
        self.draining = False
        self._need = need
        self._config = need.config
        self._sip = need.sip
        self._around = LegsNeed(
            need.sip, need.dialogs, need.border, need.config, self, self, need.unreachable, need.identity.tokens
        )
        self._rate = Bucket(need.config.calls_per_s, 0.0)
        """Call attempts of all sources together."""
        self._performer = Performer(need, self, self.table)

    # --- a user of transactions, before there is one

    def refusal(self, request: Request, flow: Flow, load: Load) -> Response | None:
        """What answers an INVITE whoever sends it: 483, 420, 416, 500."""
        return unpassable(request, self._need.domains)

    def takes(self, load: Load) -> bool:
        """Whether calls are taken."""
        return not (load.draining or load.stalled or self.is_full)

    @property
    def is_full(self) -> bool:
        """Whether there are as many calls as may be."""
        return len(self.table) >= self._config.calls_max

    def misfit(self, request: Request, load: Load) -> Response | None:
        """What refuses a body or a session timer that we cannot carry; 503 beyond the rate of unproved calls."""
        refusal = _bad_content(request) or refusal_of_interval(request, self._config.sessions)
        if refusal is None and not self._config.authenticate and not self._takes_call(load.now):
            self._need.counters.calls_refused += 1
            return unavailable(request)
        return refusal

    # --- and with one

    def request(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """An INVITE that was admitted: a new call attempt."""
        need, now = self._need, self._sip.now
        attempt = need.attempts.read(request, flow, now)
        call = Call(
            call_id=attempt.call_id,
            dialled=attempt.dialled,
            aor=attempt.aor,
            claimed=attempt.claimed,
            started=now,
            started_ms=need.identity.wall_ms(now),
            media=CallMedia(MediaSession(need.identity.session_id())),
            policy=self._config.calls,
            content=body.content_of(request),
            headers=attempt.claim.shown(need.border.fields(request)),
            invitation_s=wire.invitation_s(request),
        )
        port = LegPort(self._around, attempt.call_id)
        entry = Entry(call, attempt, port)
        leg = InboundLeg(port, entry, key, request, flow)
        entry.caller = leg
        entry.address_families(flow)
        port.own(key, leg)
        self.table[call.call_id] = entry
        need.counters.calls += 1
        leg.trying()
        call.start(bool(attempt.authorization), now)
        self._performer.perform(entry)

    def inside(self, owner: DialogOwner, key: ServerKey, request: Request, flow: Flow) -> None:
        """A request inside a dialog of a leg."""
        assert isinstance(owner, OfLeg)
        owner.leg.received(key, request, flow)

    def response(self, owner: Owner, response: Response) -> None:
        """An answer to a request of a leg."""
        assert isinstance(owner, OfLeg)
        owner.leg.responded(owner.key, response)

    def failed(self, owner: Owner, key: Key, cause: FailureCause) -> None:
        """No answer came to a request of a leg, or it could not be sent; or the INVITE of a caller failed."""
        assert isinstance(owner, OfLeg)
        owner.leg.failed(key, cause)

    def resent(self, owner: Sending, key: ClientKey) -> None:
        """A request of a leg went another way."""
        assert isinstance(owner, OfLeg)
        old, owner.key = owner.key, key
        owner.leg.resent(old, key)

    def cancelled(self, owner: Owner, key: ServerKey, request: Request) -> None:
        """A CANCEL came for an INVITE of a leg's peer."""
        assert isinstance(owner, OfLeg)
        owner.leg.cancelled(key, request)

    def acknowledged(self, owner: DialogOwner, request: Request) -> None:
        """An ACK for a 2xx came."""
        assert isinstance(owner, OfLeg)
        owner.leg.acknowledged(request)

    def stray(self, owner: DialogOwner | None, response: Response) -> bool:
        """A response to no request that is known: of another fork, or late."""
        if not isinstance(owner, OfLeg) or not isinstance(owner.leg, OutboundLeg):
            return False
        owner.leg.stray(response)
        return True

    def expired(self, owner: Owner, what: int) -> None:
        """A deadline of a leg, or of a call, passed."""
        if isinstance(owner, OfLeg):
            owner.leg.expired(what)
            return
        assert isinstance(owner, OfCall)
        entry = owner.entry
        leg, deadline = divmod(what, len(Deadline))
        entry.deadlines.pop((Deadline(deadline), leg), None)
        entry.call.receive(Expired(Deadline(deadline), leg), self._sip.now)
        self._performer.perform(entry)

    def end(self, reason: str) -> None:
        """The instance goes: all calls end, and what still waits to be said is said."""
        self.draining = True
        for call_id in list(self.table):
            self.answered(call_id, Ordered(reason, drain=True))
        for owner in self._need.dialogs.owners():
            if isinstance(owner, OfLeg) and isinstance(owner.leg, InboundLeg):
                owner.leg.part()

    # --- the world

    def answered(self, number: str | int, answer: object) -> None:
        """An answer of the world, or an order, for a call; dropped where that has ended."""
        entry = self.table.get(str(number))
        if entry is None:
            return
        signal: Any = answer
        if type(signal) is Found:
            signal = _reachable(signal, entry)
        elif type(signal) is Authenticated:
            self._need.proved(entry.attempt.source, self._sip.now)
            signal = self._limited(entry, signal) or signal
        entry.call.receive(signal, self._sip.now)
        self._performer.perform(entry)

    # --- legs

    def tell(self, leg: Leg, signal: Signal) -> None:
        """Hands a call-control event to the leg's call."""
        entry = leg.entry
        if entry is None or leg is not entry.leg(leg.number):
            return  # the call is over, or the leg is that of a phone that said its last word
        entry.call.receive(signal, self._sip.now)
        self._performer.perform(entry)

    # --- calls

    def _limited(self, entry: Entry, caller: Authenticated) -> Limited | None:
        """What a caller that proved its user meets instead of a call; None: it calls."""
        assert entry.caller is not None
        quotas, now = self._need.quotas, self._sip.now
        source, trusted = entry.attempt.source, self._need.challenges.speaks_for_many(entry.caller.flow)
        limited = quotas.attempt(caller.user, source, now, trusted=trusted) or self._overload(now)
        return limited or quotas.begin(entry.held, caller, source, trusted=trusted)

    def _overload(self, now: float) -> Limited | None:
        """What a caller that proved its user meets where the instance begins too many calls; None: it calls."""
        return None if self._takes_call(now) else Limited(503, "overload", RETRY_AFTER_S)

    def _takes_call(self, now: float) -> bool:
        """Charges the instance for a call attempt, after its proof: nobody unproved uses it up."""
        rate = self._config.calls_per_s
        return not rate or self._rate.take(rate, rate, now)


def _bad_content(request: Request) -> Response | None:
    """What refuses a body that we cannot carry; 406 where no SDP may be answered (RFC 3261 21.4.7)."""
    refusal = body.refusal(request)
    if refusal is not None:
        return refusal
    accepted = request.headers.tokens("Accept")
    if accepted and not {value.partition(";")[0].strip() for value in accepted} & TAKES_SDP:
        response = response_to(request, 406)
        response.headers.append("Warning", '399 pbx "only application/sdp could be answered"')
        return response
    return None


def _reachable(found: Found, entry: Entry) -> Found:
    """What the registrar found without what this caller cannot be connected to: clear text, or its own phone."""
    caller, call = entry.caller, entry.call
    if caller is None:
        return found
    targets = found.targets
    if caller.secure:
        targets = [target for target in targets if wire.is_secure(target)]
    if call.seeking == call.claimed:
        others = [target for target in targets if not wire.is_at(target, caller.flow)]
        return Found(found.known, others, is_own=bool(targets) and not others)
    return found if targets is found.targets else Found(found.known, targets)

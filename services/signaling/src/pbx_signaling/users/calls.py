"""Calls as a user of transactions: the table of live calls, what an INVITE begins, and what a call's commands mean.

SIP comes in by the methods of a transaction user (`request`, `response`, `failed`, `cancelled`, `acknowledged`) and
goes to the leg whose dialog or transaction it belongs to, from there as call-control events to the call. The world
answers by `signal`. What the call then wants (its commands) is carried out here: dialled, emitted, asked, timed.
It decides nothing about a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from pbx_signaling.border import wire
from pbx_signaling.border.reason import cause_of
from pbx_signaling.calls import commands as c
from pbx_signaling.calls.machine import Call
from pbx_signaling.calls.signals import Authenticated, Deadline, Expired, Found, Limited, Ordered, Signal
from pbx_signaling.legs import body
from pbx_signaling.legs.callee import OutboundLeg
from pbx_signaling.legs.caller import InboundLeg
from pbx_signaling.legs.delivery import DELIVERED, deliver
from pbx_signaling.media.session import MediaSession
from pbx_signaling.users.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbx_signaling.config import CoreConfig
    from pbx_signaling.counters import Counters
    from pbx_signaling.identity import Identity
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.legs.port import SipPort
    from pbx_signaling.legs.sent import Sent
    from pbx_signaling.router.addressing import Addressing
    from pbx_signaling.router.admission import Gate
    from pbx_signaling.router.quota import Quotas
    from pbx_sip.address import Flow, HostPort
    from pbx_sip.message.message import Request, Response

    class House(SipPort, Protocol):
        """What calls need around them, beside what their legs do."""

        counters: Counters
        quotas: Quotas

        @property
        def wall_s(self) -> float:
            """Now in seconds since the Unix epoch."""

        def means_us(self, host: str, view: str = "") -> bool:
            """Whether a host in a URI may be this product, for a peer whose own address has the host `view`."""

        def proved(self, source: HostPort) -> None:
            """A request outside of a dialog proved its user."""

        def about(self, entry: Entry) -> None:
            """What is sent from now on belongs to that call, if it belongs to none yet."""

        def record(self, entry: Entry, emit: c.Emit) -> None:
            """Writes an event before what the step sends."""

        def ask(self, entry: Entry, command: Any) -> None:
            """Puts a question of a call to the world; `Calls.signal` takes the answer."""


class Calls:
    """All live calls of one instance."""

    def __init__(
        self, config: CoreConfig, house: House, gate: Gate, identity: Identity, addressing: Addressing
    ) -> None:
        self.table: dict[str, Entry] = {}
        """By call id."""
        self.legs: dict[str, Leg] = {}
        """By local tag: dialogs whose requests are awaited."""
        self._config = config
        self._house = house
        self._gate = gate
        self._identity = identity
        self._addressing = addressing

    # --- a user of transactions

    def request(self, key: Any, request: Request, flow: Flow) -> None:
        """An INVITE that passed admission, or a request inside a dialog of ours."""
        to_tag = request.to_tag
        if not to_tag:
            self.begin(key, request, flow)
            return
        leg = self.legs[to_tag]  # or it would not have been admitted
        self.about(leg)
        leg.received(key, request, flow)

    def response(self, sent: Sent, response: Response) -> None:
        """An answer to a request of a leg."""
        self.about(sent.leg)
        sent.leg.responded(sent, response)

    def failed(self, sent: Sent, transport: bool) -> None:
        """No answer came to a request of a leg, or it could not be sent."""
        self.about(sent.leg)
        sent.leg.failed(sent, transport)

    def aborted(self, leg: InboundLeg) -> None:
        """The transaction of an INVITE that came failed."""
        self.about(leg)
        leg.aborted()

    def cancelled(self, leg: Leg, key: Any, request: Request) -> None:
        """A CANCEL came for an INVITE of that leg's peer."""
        self.about(leg)
        leg.cancelled(key, cause_of(request))

    def acknowledged(self, request: Request) -> None:
        """An ACK for a 2xx came."""
        leg = self.legs.get(request.to_tag)
        if leg is not None and leg.owns(request):
            self.about(leg)
            leg.acknowledged(request)

    def stray(self, response: Response) -> None:
        """A response to no request that is known: of another fork, or late."""
        leg = self.legs.get(response.from_tag)
        if isinstance(leg, OutboundLeg):
            self.about(leg)
            leg.stray(response)

    def expired(self, entry: Entry, what: int) -> None:
        """A deadline of a call passed."""
        entry.deadlines.pop(Deadline(what), None)
        entry.call.receive(Expired(Deadline(what)), self._house.now)
        self.perform(entry)

    # --- the world

    def signal(self, call_id: str, signal: Signal) -> None:
        """An answer of the world; dropped where the call has ended."""
        entry = self.table.get(call_id)
        if entry is None:
            return
        if type(signal) is Found:
            signal = _reachable(signal, entry)
        elif type(signal) is Authenticated:
            self._house.proved(entry.attempt.source)
            signal = self._limited(entry, signal) or signal
        entry.call.receive(signal, self._house.now)
        self.perform(entry)

    def end(self, call_id: str, reason: str) -> None:
        """Ends a call: the instance goes."""
        self.signal(call_id, Ordered(reason, drain=True))

    def part(self, leg: Leg) -> None:
        """Says on a leg what still waits to be said: the instance goes."""
        if isinstance(leg, InboundLeg):
            self.about(leg)
            leg.part()

    # --- legs

    def tell(self, leg: Leg, signal: Signal) -> None:
        """Hands a call-control event to the leg's call."""
        entry = leg.entry
        if entry is None or (leg is not entry.caller and leg is not entry.callee):
            return  # the call is over, or the leg is that of a target that was given up
        entry.call.receive(signal, self._house.now)
        self.perform(entry)

    def listen(self, local_tag: str, leg: Leg) -> None:
        """Requests with that To-tag go to the leg."""
        self.legs[local_tag] = leg

    def forget(self, local_tag: str) -> None:
        """Ends that."""
        self.legs.pop(local_tag, None)

    def about(self, leg: Leg) -> None:
        """What is sent next belongs to the call of that leg, if it has one still."""
        entry = leg.entry
        if entry is not None:
            self._house.about(entry)

    # --- calls

    def begin(self, key: Any, request: Request, flow: Flow) -> None:
        """A new call attempt that passed the gate."""
        house, identity = self._house, self._identity
        attempt = self._gate.attempt(request, flow, identity, house)
        call = Call(
            call_id=attempt.call_id,
            dialled=attempt.dialled,
            aor=attempt.aor,
            claimed=attempt.claimed,
            started=house.now,
            started_ms=identity.wall_ms(house.now),
            media=MediaSession(identity.session_id()),
            policy=self._config.calls,
            content=body.content_of(request),
            headers=attempt.claim.shown(house.border.fields(request)),
            invitation_s=wire.invitation_s(request),
        )
        entry = Entry(call, attempt)
        leg = InboundLeg(house, entry, key, request, flow)
        entry.caller = leg
        entry.address_families(flow)
        house.own(key, leg)
        self.table[call.call_id] = entry
        house.counters.calls += 1
        house.about(entry)
        leg.trying()
        call.start(bool(attempt.authorization), house.now)
        self.perform(entry)

    def perform(self, entry: Entry) -> None:
        """Carries out what the call wants, until it wants no more."""
        if entry.performing:
            return
        entry.performing = True
        self._house.about(entry)
        try:
            while commands := entry.call.drain():
                for command in commands:
                    PERFORMERS[type(command)](self, entry, command)
        finally:
            entry.performing = False

    def _limited(self, entry: Entry, caller: Authenticated) -> Limited | None:
        """What a caller that proved its user meets instead of a call; None: it calls."""
        assert entry.caller is not None
        quotas, now = self._house.quotas, self._house.now
        source, trusted = entry.attempt.source, self._gate.speaks_for_many(entry.caller.flow)
        limited = quotas.attempt(caller.user, source, now, trusted=trusted) or self._gate.overload(now)
        return limited or quotas.begin(entry.held, caller, source, trusted=trusted)

    def _dial(self, entry: Entry, command: c.Dial) -> None:
        flow = self._addressing.flow_of(command.target)
        previous = entry.callee
        if previous is not None:
            previous.end()
        assert entry.caller is not None
        leg = OutboundLeg(self._house, entry, command.leg, flow)
        entry.callee = leg
        attempt, call = entry.attempt, entry.call
        proved = bool(attempt.authorization)
        caller = self._house.border.presented(
            attempt.claim, call.caller, flow, call.caller_name, proved=proved, own_name=attempt.display_name
        )
        leg.dial(command, caller, attempt.max_forwards, entry.caller.wants_reliable)

    def _emit(self, entry: Entry, command: c.Emit) -> None:
        if command.record is c.Record.ENDED:
            self._house.quotas.end(entry.held)  # for its caller it is over, though its callee may still owe a word
        if entry.suppressed:
            return
        if command.record is c.Record.ENDED:
            for leg in entry.legs():
                leg.ended()
        elif command.record is c.Record.ANSWERED:
            self._house.quotas.answered(entry.held)
        entry.call.sequence += 1
        command.at, command.sequence = self._house.now, entry.call.sequence
        self._house.record(entry, command)

    def _ask(self, entry: Entry, command: Any) -> None:
        self._house.ask(entry, command)

    def _reserve(self, entry: Entry, command: c.ReserveMedia) -> None:
        """Asks for a slot, where the callee's account takes one call more."""
        limited = self._house.quotas.ring(entry.held, entry.call.aor)
        if limited is None:
            self._ask(entry, command)
        else:
            entry.call.receive(limited, self._house.now)

    def _set_deadline(self, entry: Entry, command: c.SetDeadline) -> None:
        self._clear_deadline(entry, command)
        handle = self._house.schedule(entry, self._house.now + command.after_s, command.deadline)
        entry.deadlines[command.deadline] = handle

    def _clear_deadline(self, entry: Entry, command: c.SetDeadline | c.ClearDeadline) -> None:
        handle = entry.deadlines.pop(command.deadline, None)
        if handle is not None:
            self._house.unschedule(handle)

    def _count(self, entry: Entry, command: c.Count) -> None:
        if not self._gate.may_record_refusal(entry.attempt.source.host, self._house.now):
            entry.suppressed = True
            self._house.counters.attempts_uncounted += 1

    def _finish(self, entry: Entry, command: c.Finish) -> None:
        """The call is forgotten; transactions of its legs run out on their own."""
        self.table.pop(entry.call.call_id, None)
        self._house.quotas.end(entry.held)
        for handle in entry.deadlines.values():
            self._house.unschedule(handle)
        entry.deadlines.clear()
        for leg in entry.legs():
            if leg is not entry.callee or leg.reached or leg.dialog is not None:
                leg.end()

    def _reject(self, entry: Entry, command: c.Reject) -> None:
        assert entry.caller is not None
        agent = entry.caller.remote_user_agent
        wall_s, source = self._house.wall_s, entry.attempt.nonce_source
        challenge = self._gate.challenge(wall_s, source, agent, stale=command.stale) if command.challenge else []
        entry.caller.reject(command, challenge)


def _reachable(found: Found, entry: Entry) -> Found:
    """What the registrar found without what this caller cannot be connected to: clear text, or its own phone."""
    caller, call = entry.caller, entry.call
    if caller is None:
        return found
    targets = found.targets
    if caller.secure:
        targets = [target for target in targets if wire.is_secure(target)]
    if call.aor == call.claimed:
        others = [target for target in targets if not wire.is_at(target, caller.flow)]
        return Found(found.known, others, is_own=bool(targets) and not others)
    return found if targets is found.targets else Found(found.known, targets)


PERFORMERS: Final[Mapping[type, Callable[[Calls, Entry, Any], None]]] = {
    c.Dial: Calls._dial,
    **dict.fromkeys(DELIVERED, lambda calls, entry, command: deliver(entry, command)),
    c.Reject: Calls._reject,
    c.Authenticate: Calls._ask,
    c.FindTargets: Calls._ask,
    c.ReserveMedia: Calls._reserve,
    c.UpdateMedia: Calls._ask,
    c.ReleaseMedia: Calls._ask,
    c.Emit: Calls._emit,
    c.SetDeadline: Calls._set_deadline,
    c.ClearDeadline: Calls._clear_deadline,
    c.Count: Calls._count,
    c.Finish: Calls._finish,
}
"""What each command of a call means here; those of `DELIVERED` go to a leg."""

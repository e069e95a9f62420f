"""What the commands of a call mean: legs are dialled, records stamped, questions put, deadlines set, limits counted.

It decides nothing about a call. What a command says to a leg is `legs.delivery`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pbx_signaling.bucket import Bucket
from pbx_signaling.calls import commands as c
from pbx_signaling.calls.signals import Deadline
from pbx_signaling.legs.callee import OutboundLeg
from pbx_signaling.legs.delivery import DELIVERED, deliver
from pbx_signaling.users import questions as q
from pbx_signaling.users.step import Ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbx_signaling.border.border import Border
    from pbx_signaling.border.challenge import Challenges
    from pbx_signaling.config import CoreConfig
    from pbx_signaling.counters import Counters
    from pbx_signaling.domains import Domains
    from pbx_signaling.identity import Identity
    from pbx_signaling.users.attempt import Attempts
    from pbx_signaling.users.entry import Entry
    from pbx_signaling.users.quota import Quotas
    from pbx_signaling.users.sip import Dialogs, Sip
    from pbx_signaling.users.step import Steps
    from pbx_signaling.users.user import User
    from pbx_sip.address import Flow, HostPort

REFUSED_SOURCES_MAX: Final = 10_000
"""Sources remembered for refused attempts. Threat: spoofed sources filling memory; the oldest are dropped."""


@dataclass(slots=True, eq=False)
class OfCall:
    """The owner of a call's own deadlines."""

    user: User
    entry: Entry

    @property
    def call_id(self) -> str:
        """The call."""
        return self.entry.call.call_id


@dataclass(frozen=True, slots=True)
class CallsNeed:
    """What calls need around them."""

    config: CoreConfig
    sip: Sip
    dialogs: Dialogs
    steps: Steps
    border: Border
    challenges: Challenges
    attempts: Attempts
    domains: Domains
    identity: Identity
    quotas: Quotas
    counters: Counters
    proved: Callable[[HostPort, float], None]
    """A request outside of a dialog proved its user."""
    unreachable: Callable[[str, Flow], None]
    """Removes a binding whose connection is gone, and in whose place no other could be made."""


class Performer:
    """Carries out what the calls of one instance want."""

    def __init__(self, need: CallsNeed, user: User, table: dict[str, Entry]) -> None:
        """`user`: the one whose calls these are, in its table."""
        self._need = need
        self._user = user
        self._table = table
        self._sip = need.sip
        self._steps = need.steps
        self._refusals: dict[str, Bucket] = {}
        """Attempts with wrong credentials, by source."""

    def perform(self, entry: Entry) -> None:
        """Carries out what the call wants, until it wants no more."""
        if entry.performing:
            return
        entry.performing = True
        try:
            while commands := entry.call.drain():
                for command in commands:
                    PERFORMERS[type(command)](self, entry, command)
        finally:
            entry.performing = False

    def _dial(self, entry: Entry, command: c.Dial) -> None:
        flow = self._sip.flow_of(command.target)
        assert entry.caller is not None
        leg = OutboundLeg(entry.port, entry, command.leg, flow)
        entry.callees[command.leg] = leg
        self._need.counters.branches += 1
        attempt, call = entry.attempt, entry.call
        proved = bool(attempt.authorization)
        caller = self._need.border.presented(
            attempt.claim, call.caller, flow, call.caller_name, proved=proved, own_name=attempt.display_name
        )
        leg.dial(command, caller, attempt.max_forwards, entry.caller.takes_reliable)

    def _emit(self, entry: Entry, command: c.Emit) -> None:
        if command.record is c.Record.ENDED:
            self._need.quotas.end(entry.held)  # for its caller it is over, though its callee may still owe a word
        if entry.suppressed:
            return
        if command.record is c.Record.ENDED:
            for leg in entry.legs():
                leg.ended()
        elif command.record is c.Record.ANSWERED:
            self._need.quotas.answered(entry.held)
        entry.call.sequence += 1
        self._steps.record(entry, command.stamped(self._sip.now, entry.call.sequence))

    def _ask(self, entry: Entry, question: q.Question) -> None:
        call_id = entry.call.call_id
        self._steps.ask(Ask(self._user, call_id, question), call_id)

    def _authenticate(self, entry: Entry, command: c.Authenticate) -> None:
        self._ask(entry, q.Authenticate(entry.attempt, "INVITE"))

    def _find(self, entry: Entry, command: c.FindTargets) -> None:
        self._ask(entry, q.Find(command.aor))

    def _update(self, entry: Entry, command: c.UpdateMedia) -> None:
        slot = entry.call.media.slot
        if slot is not None:
            self._ask(entry, q.Update(entry.call.call_id, slot, command.endpoints))

    def _release(self, entry: Entry, command: c.ReleaseMedia) -> None:
        if entry.call.media.slot is not None:
            self._ask(entry, q.Release(entry.call.call_id, entry.call.media.slot))

    def _reserve(self, entry: Entry, command: c.ReserveMedia) -> None:
        """Asks for a slot, where the callee's account takes one call more."""
        limited = self._need.quotas.ring(entry.held, entry.call.aor)
        if limited is None:
            self._ask(entry, q.Reserve(entry.call.call_id, command.endpoints))
        else:
            entry.call.receive(limited, self._sip.now)

    def _set_deadline(self, entry: Entry, command: c.SetDeadline) -> None:
        self._clear_deadline(entry, command)
        what = command.leg * len(Deadline) + command.deadline
        handle = self._sip.schedule(OfCall(self._user, entry), self._sip.now + command.after_s, what)
        entry.deadlines[command.deadline, command.leg] = handle

    def _clear_deadline(self, entry: Entry, command: c.SetDeadline | c.ClearDeadline) -> None:
        handle = entry.deadlines.pop((command.deadline, command.leg), None)
        if handle is not None:
            self._sip.unschedule(handle)

    def _count(self, entry: Entry, command: c.Count) -> None:
        if not self._may_record_refusal(entry.attempt.source.host):
            entry.suppressed = True
            self._need.counters.attempts_uncounted += 1

    def _may_record_refusal(self, source: str) -> bool:
        """Whether an attempt with wrong credentials gets a CDR of its own, or is one of a flood."""
        rate, refusals = self._need.config.refused_records_per_s, self._refusals
        bucket = refusals.get(source)
        if bucket is None:
            if len(refusals) >= REFUSED_SOURCES_MAX:
                del refusals[next(iter(refusals))]
            bucket = refusals[source] = Bucket(2 * rate, self._sip.now)
        return bucket.take(rate, 2 * rate, self._sip.now)

    def _finish(self, entry: Entry, command: c.Finish) -> None:
        """The call is forgotten; transactions of its legs run out on their own."""
        self._table.pop(entry.call.call_id, None)
        self._need.quotas.end(entry.held)
        for handle in entry.deadlines.values():
            self._sip.unschedule(handle)
        entry.deadlines.clear()
        for leg in entry.legs():
            if not isinstance(leg, OutboundLeg) or leg.reached or leg.dialog is not None:
                leg.end()

    def _forget(self, entry: Entry, command: c.Forget) -> None:
        """The leg of a phone that said its last word is none of the call's any more."""
        entry.callees.pop(command.leg, None)

    def _reject(self, entry: Entry, command: c.Reject) -> None:
        assert entry.caller is not None
        agent = entry.caller.remote_user_agent
        wall_s, source, challenges = self._sip.wall_s, entry.attempt.nonce_source, self._need.challenges
        challenge = challenges.challenge(wall_s, source, agent, stale=command.stale) if command.challenge else []
        entry.caller.reject(command, challenge)


PERFORMERS: Final[Mapping[type, Callable[[Performer, Entry, Any], None]]] = {
    c.Dial: Performer._dial,
    **dict.fromkeys(DELIVERED, lambda performer, entry, command: deliver(entry, command)),
    c.Reject: Performer._reject,
    c.Authenticate: Performer._authenticate,
    c.FindTargets: Performer._find,
    c.ReserveMedia: Performer._reserve,
    c.UpdateMedia: Performer._update,
    c.ReleaseMedia: Performer._release,
    c.Emit: Performer._emit,
    c.SetDeadline: Performer._set_deadline,
    c.ClearDeadline: Performer._clear_deadline,
    c.Count: Performer._count,
    c.Forget: Performer._forget,
    c.Finish: Performer._finish,
}
"""What each command of a call means here; those of `DELIVERED` go to a leg."""

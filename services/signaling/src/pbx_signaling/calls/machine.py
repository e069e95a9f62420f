"""A call as a pure machine: call-control signals in, commands out.

`receive(signal, now)` mutates once; `drain()` hands out what the call asks of its legs and of the world. What may
happen in which state, and which state follows, is `TABLE`. A signal that has no row is stale (it crossed a change of
state) and is dropped. Where an action decides how it goes on, it says so by a *conclusion* (`value.Conclusion`), which
the machine takes next, as if it were a signal. States of the call are apart from those of each `branch`.

    AUTHENTICATING -> ROUTING -> ALLOCATING -> DIALING -> RINGING -> ANSWERED -> TALKING -> CANCELLING -> ENDED

The machine is a plain value: all of its fields can be stored and restored (`snapshot`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pbx_signaling.calls import commands as c
from pbx_signaling.calls import finish, ringing, setup, talk
from pbx_signaling.calls import signals as e
from pbx_signaling.calls import value as v
from pbx_signaling.calls.signals import Deadline
from pbx_signaling.calls.state import BEFORE_ANSWER, CONNECTED, SETUP, State
from pbx_signaling.calls.value import CallValue

Action = Callable[[Any, Any, float], None]


@dataclass(slots=True, repr=False)
class Call(CallValue):
    """One call attempt, from the INVITE that passed admission to its CDR."""

    def start(self, authenticate: bool, now: float) -> None:
        """Begins the attempt; `drain` next. Without `authenticate` the caller is trusted as it claims."""
        setup.begin(self, authenticate=authenticate)
        if not authenticate:
            self.receive(e.Authenticated(self.claimed.partition("@")[0], ""), now)
        # Asked together with the credentials: both questions travel in one message.
        self.do(c.FindTargets(self.aor))

    def receive(self, signal: e.Signal, now: float) -> None:
        """Takes one signal in; `drain` next."""
        self._take(signal, now)
        while self.conclusions:
            self._take(self.conclusions.pop(0), now)

    def drain(self) -> list[c.Command]:
        """The commands since the last call, in order."""
        commands, self.pending = self.pending, []
        return commands

    def _take(self, signal: object, now: float) -> None:
        kind = signal.deadline if type(signal) is e.Expired else type(signal)
        step = TABLE.get((self.state, kind))
        if step is None or (kind in OF_PARTIES and self.state in CONNECTED and not self.bridge.has(_leg_of(signal))):
            return
        self.state, action = step
        action(self, signal, now)


def _leg_of(signal: object) -> int:
    assert isinstance(signal, e.HungUp | e.LegLost)
    return signal.leg


def _nothing(call: CallValue, signal: object, now: float) -> None:
    """The next state says all."""


OF_PARTIES: Final = (e.HungUp, e.LegLost)
"""What ends an answered call where a party says it; a phone that did not answer first has no part in that."""
S, D = State, Deadline
SEEKING: Final = (S.DIALING, S.RINGING)
ACTIVE: Final = (*SEEKING, *CONNECTED)

TABLE: Final[Mapping[tuple[State, object], tuple[State, Action]]] = {
    # the caller proves who it is, the callee is looked up, a slot taken
    (S.AUTHENTICATING, e.Authenticated): (S.ROUTING, setup.authenticated),
    (S.AUTHENTICATING, e.Refused): (S.CANCELLING, setup.refused),
    (S.AUTHENTICATING, e.Limited): (S.CANCELLING, setup.limited),
    (S.AUTHENTICATING, e.Found): (S.AUTHENTICATING, setup.found_before),
    (S.AUTHENTICATING, e.LookupFailed): (S.AUTHENTICATING, setup.unfound_before),
    (S.ROUTING, e.Found): (S.ROUTING, setup.found),
    (S.ROUTING, e.LookupFailed): (S.ROUTING, setup.no_service),
    (S.ROUTING, v.Reachable): (S.ALLOCATING, setup.allocate),
    (S.ALLOCATING, e.MediaReady): (S.DIALING, ringing.media_ready),
    (S.ALLOCATING, e.MediaUnavailable): (S.ALLOCATING, setup.no_media),
    (S.ALLOCATING, e.Limited): (S.CANCELLING, setup.limited),
    **{(state, e.ServiceFailed): (state, setup.no_service) for state in SETUP},
    **{(state, D.SETUP): (state, setup.late) for state in SETUP},
    # phones ring
    **{(state, e.Heard): (state, ringing.heard) for state in SEEKING},
    **{(state, D.SILENCE): (state, ringing.silent) for state in SEEKING},
    **{(state, e.Progress): (state, ringing.progress) for state in SEEKING},
    (S.DIALING, v.Rings): (S.RINGING, _nothing),
    **{(state, e.Answered): (state, ringing.answered) for state in SEEKING},
    **{(state, v.Joined): (S.ANSWERED, ringing.joined) for state in SEEKING},
    **{(state, e.Rejected): (state, ringing.rejected) for state in (*ACTIVE, S.CANCELLING)},
    **{(state, e.LegLost): (state, ringing.unconfirmed) for state in SEEKING},
    **{(state, e.HungUp): (state, ringing.left) for state in SEEKING},
    **{(state, e.Found): (state, ringing.found_more) for state in SEEKING},
    **{(state, e.LookupFailed): (state, ringing.not_looked_up) for state in SEEKING},
    **{(state, D.SETUP): (state, ringing.looked_up_late) for state in SEEKING},
    **{(state, D.BRANCH): (state, ringing.branch_over) for state in SEEKING},
    **{(state, D.NO_ANSWER): (S.CANCELLING, finish.no_answer) for state in SEEKING},
    **{(state, e.MediaLost): (state, ringing.media_lost) for state in SEEKING},
    **{(state, e.MediaReady): (state, ringing.media_moved) for state in SEEKING},
    **{(state, e.MediaUnavailable): (state, ringing.media_nowhere) for state in SEEKING},
    # it comes to nothing
    **{(state, v.Failed): (S.CANCELLING, finish.failed) for state in BEFORE_ANSWER},
    **{(state, v.GivenUp): (S.CANCELLING, finish.given_up) for state in BEFORE_ANSWER},
    **{(state, e.Cancelled): (S.CANCELLING, finish.cancelled) for state in BEFORE_ANSWER},
    **{(state, e.Ordered): (S.CANCELLING, finish.ordered) for state in BEFORE_ANSWER},
    **{(state, D.INVITATION): (S.CANCELLING, finish.invitation_over) for state in BEFORE_ANSWER},
    # what legs ask of each other
    (S.ANSWERED, e.Acknowledged): (S.TALKING, talk.acknowledged),
    **{(state, e.Asked): (state, talk.asked) for state in ACTIVE},
    **{(state, e.Replied): (state, talk.replied) for state in ACTIVE},
    **{(state, e.Confirmed): (state, talk.confirmed) for state in CONNECTED},
    **{(state, e.Withdrawn): (state, talk.withdrawn) for state in CONNECTED},
    **{(state, e.Refreshed): (state, talk.refreshed) for state in CONNECTED},
    # an answered call ends
    **{(state, e.HungUp): (S.CANCELLING, finish.hung_up) for state in CONNECTED},
    **{(state, e.LegLost): (S.CANCELLING, finish.leg_lost) for state in CONNECTED},
    **{(state, e.MediaSilent): (S.CANCELLING, finish.media_silent) for state in CONNECTED},
    **{(state, e.Ordered): (S.CANCELLING, finish.ordered_to_hang_up) for state in CONNECTED},
    **{(state, D.LONGEST): (S.CANCELLING, finish.longest) for state in CONNECTED},
    # the last words
    **{(state, e.Answered): (state, ringing.answered_late) for state in (*CONNECTED, S.CANCELLING)},
    (S.CANCELLING, e.LegLost): (S.CANCELLING, ringing.lost_word),
    (S.CANCELLING, e.MediaReady): (S.CANCELLING, finish.late_media),
    (S.CANCELLING, e.MediaUnavailable): (S.CANCELLING, finish.no_late_media),
    (S.CANCELLING, v.Settled): (S.ENDED, finish.forgotten),
    (S.CANCELLING, D.RELEASE): (S.ENDED, finish.forgotten),
}

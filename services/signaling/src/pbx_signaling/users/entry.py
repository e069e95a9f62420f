"""A live call with everything around it: its legs, its deadlines, and what its first INVITE said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbx_signaling.calls.signals import Deadline, Side
from pbx_signaling.users.quota import Held

if TYPE_CHECKING:
    from pbx_signaling.calls.machine import Call
    from pbx_signaling.legs.callee import OutboundLeg
    from pbx_signaling.legs.caller import InboundLeg
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.users.attempt import Attempt
    from pbx_signaling.users.leg_port import LegPort
    from pbx_sip.address import Flow


@dataclass(slots=True, eq=False, weakref_slot=True)
class Entry:
    """A live call in the core's table.

    It holds its legs; they refer to it weakly. So a call that has ended goes with its last step, without the garbage
    collector, while its legs live on in transactions that run out.
    """

    call: Call
    attempt: Attempt
    port: LegPort
    """By which its legs send."""
    caller: InboundLeg | None = None
    callees: dict[int, OutboundLeg] = field(default_factory=dict)
    """By number, from 1: the phones of the callee that were invited; after the answer the one that has the call, and
    others until their last word."""
    deadlines: dict[tuple[Deadline, int], int] = field(default_factory=dict)
    """By deadline and, for one of a phone alone, its leg."""
    performing: bool = False
    suppressed: bool = False
    """One of a flood of refused attempts: it leaves no events."""
    held: Held = field(default_factory=Held)
    """What it counts for in the limits of accounts and sources."""

    def leg(self, number: int) -> Leg | None:
        """A leg by its number."""
        return self.callees.get(number) if number else self.caller

    def legs(self) -> list[Leg]:
        """The legs there are."""
        return ([] if self.caller is None else [self.caller]) + [*self.callees.values()]

    @property
    def callee(self) -> OutboundLeg | None:
        """The leg that stands for the callee (`Hunt.leg`)."""
        return self.callees.get(self.call.hunt.leg)

    def address_families(self, flow: Flow) -> None:
        """Notes where the caller's SIP comes from, for the relay and its address in the SDP."""
        self.call.media.place(Side.CALLER, flow.remote.host)

"""Hands the commands of a call to its legs: which of the two, and which of its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pbx_signaling.calls import commands as c
from pbx_signaling.calls.signals import Side
from pbx_signaling.legs.caller import InboundLeg
from pbx_signaling.legs.leg import Leg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbx_signaling.users.entry import Entry

DELIVERED: Final[Mapping[type, tuple[Side | None, Callable[..., None]]]] = {
    c.Ring: (Side.CALLER, InboundLeg.ring),
    c.Answer: (Side.CALLER, InboundLeg.answer_call),
    c.Acknowledge: (Side.CALLEE, lambda leg, command: leg.acknowledge(command.content)),
    c.Cancel: (Side.CALLEE, lambda leg, command: leg.cancel(command.cause)),
    c.Pass: (None, Leg.pass_),
    c.Reply: (None, Leg.reply),
    c.Withdraw: (None, Leg.withdraw),
    c.Confirm: (None, Leg.confirm),
    c.HangUp: (None, lambda leg, command: leg.hang_up(command.cause)),
}
"""Command to the leg that gets it (None: that of the side which it names) and to what is called."""


def deliver(entry: Entry, command: Any) -> None:
    """Hands a command to its leg, where there is one."""
    side, method = DELIVERED[type(command)]
    leg = entry.leg(side or command.side)
    if leg is not None:
        method(leg, command)

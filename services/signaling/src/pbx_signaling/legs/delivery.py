"""Hands the commands of a call to its legs: which of the two, and which of its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from pbx_signaling.calls import commands as c
from pbx_signaling.calls.signals import CALLER
from pbx_signaling.legs.caller import InboundLeg
from pbx_signaling.legs.leg import Leg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


TO_CALLER: Final[Mapping[type, Callable[..., None]]] = {
    c.Ring: InboundLeg.ring,
    c.Answer: InboundLeg.answer_call,
}
TO_LEG: Final[Mapping[type, Callable[..., None]]] = {
    c.Acknowledge: lambda leg, command: leg.acknowledge(command.content),
    c.Cancel: lambda leg, command: leg.cancel(command.cause),
    c.Pass: Leg.pass_,
    c.Reply: Leg.reply,
    c.Withdraw: Leg.withdraw,
    c.Confirm: Leg.confirm,
    c.HangUp: lambda leg, command: leg.hang_up(command.cause),
}
"""Command to what is called of the leg that it names."""
DELIVERED: Final = (*TO_CALLER, *TO_LEG)


class HasLegs(Protocol):
    """A live call, as far as it matters here."""

    def leg(self, number: int) -> Any:
        """A leg by its number; None where there is none."""


def deliver(entry: HasLegs, command: Any) -> None:
    """Hands a command to its leg, where there is one."""
    kind = type(command)
    leg: Any = entry.leg(CALLER) if kind in TO_CALLER else entry.leg(command.leg)
    if leg is not None:
        (TO_CALLER.get(kind) or TO_LEG[kind])(leg, command)

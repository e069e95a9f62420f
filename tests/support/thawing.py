"""Makes every leg of an instance anew from its frozen value, as another process would that goes on with it."""

from __future__ import annotations

from typing import Any

from pbx_signaling.core import Core
from pbx_signaling.legs.callee import OutboundLeg
from pbx_signaling.legs.caller import InboundLeg
from pbx_signaling.legs.leg import Leg
from pbx_signaling.users.leg_port import OfLeg
from pbx_sip.usage.frozen import Clock

SAME: Clock = Clock(0.0)
"""The same clock on both sides: times come back as they went, to the last bit."""


def renew(core: Core, *, thaws: bool) -> None:
    """Thaws each leg in place of the one that was frozen; else only sets its alarm anew, as thawing does."""
    owners = {id(owner): owner for owner in _owners(core) if isinstance(owner, OfLeg)}.values()
    legs = {id(owner.leg): owner.leg for owner in owners}
    for entry in core.calls.table.values():
        legs |= {id(leg): leg for leg in entry.legs()}
    made = {number: _renewed(leg, thaws=thaws) for number, leg in legs.items()}
    for owner in owners:
        owner.leg = made[id(owner.leg)]
    for entry in core.calls.table.values():
        entry.caller = None if entry.caller is None else made[id(entry.caller)]  # type: ignore[assignment]
        entry.callees = {number: made[id(leg)] for number, leg in entry.callees.items()}  # type: ignore[misc]
    for leg in made.values():
        leg.wake()


def _renewed(leg: Leg, *, thaws: bool) -> Leg:
    leg.sleep()
    if not thaws:
        return leg
    if isinstance(leg, InboundLeg):
        return InboundLeg.thaw(leg.freeze(SAME), leg.sip, leg.entry, SAME)
    assert isinstance(leg, OutboundLeg)
    return OutboundLeg.thaw(leg.freeze(SAME), leg.sip, leg.entry, SAME)


def _owners(core: Core) -> list[Any]:
    layer = core.layer
    machines = [*layer._clients.values(), *layer._servers.values()]
    return [machine.owner for machine in machines] + list(core.dialogs.owners())

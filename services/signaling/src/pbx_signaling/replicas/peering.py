"""Messages of other replicas: which are whose, and flows that end at another instance. Pure.

A flow of another instance is an ordinary flow whose listener is named "tls4@INSTANCE". Every tag and branch that we
mint names its instance, so that a message that lands here and is another's is known without a look-up.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from pbx_sip.message.message import Message, Request
from pbx_sip.tokens import instance_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from pbx_sip.address import Flow

FLOWS_MAX: Final = 20_000
"""Connections remembered with the instances that use them. Beyond, the oldest is forgotten: that peer then learns of
a break by its timers."""


class Carriage(enum.IntEnum):
    """What is to be done with what is carried; the numbers of the contract."""

    SEND = 1
    RECEIVED = 2
    BROKEN = 3


class Carrier(Protocol):
    """Hands something to another instance; never blocks, never raises."""

    def carry(self, instance: str, carriage: Carriage, data: bytes, flow: Flow) -> None:
        """`flow` as the instance that has it names it."""


@dataclass(slots=True)
class Peering:
    """The other replicas as the core sees them."""

    instance: str
    carrier: Carrier
    alive: Collection[str] = ()
    """Instances whose lease stands, without this one."""
    siblings: frozenset[str] = frozenset()
    """Of these, the processes that share our addresses."""
    is_carried: bool = False
    """Whether the message under way was handed over by another instance: it goes no further."""
    _family: frozenset[str] = field(init=False)
    """All that were ever to share them, whether they live or not."""
    _users: dict[Flow, set[str]] = field(default_factory=dict)
    """Connections of ours that other instances have sent something down."""

    def __post_init__(self) -> None:
        self._family = self.siblings
        self.alive = frozenset(self.alive) | self.siblings  # they start together: no lease says so yet

    def met(self, instance: str) -> None:
        """An instance that speaks lives, though its lease may not have been read yet."""
        if instance not in self.alive:
            self.alive = frozenset((*self.alive, instance))
        if instance in self._family and instance not in self.siblings:
            self.siblings |= {instance}

    def leased(self, instances: Collection[str]) -> None:
        """The instances whose leases stand, without this one; a sibling needs none while its socket is there."""
        self.alive = frozenset(instances) | self.siblings

    def lost(self, sibling: str) -> None:
        """The socket of a process that shares our addresses is gone, and so is the process."""
        self.siblings -= {sibling}
        self.alive = frozenset(self.alive) - {sibling}

    def following(self, instance: str) -> str:
        """The sibling behind an instance in a fixed circle of those that live; empty where there is none."""
        return min(self.siblings, key=lambda name: (name <= instance, name), default="")

    def owner_of(self, message: Message, flow: Flow) -> str:
        """The other instance whose dialog or transaction a message that came up one of our flows names; else empty."""
        if not self.alive or self.is_carried or is_remote(flow):
            return ""
        token = message.to_tag if type(message) is Request else message.branch
        owner = instance_of(token)
        return owner if owner != self.instance and owner in self.alive else ""

    def hand_over(self, owner: str, data: bytes, flow: Flow) -> None:
        """Hands a message to the instance that `owner_of` named."""
        self.carrier.carry(owner, Carriage.RECEIVED, data, flow)

    def send(self, data: bytes, flow: Flow) -> bool:
        """Sends a message down a flow of another instance; False where that is gone."""
        listener, _, instance = flow.listener.partition("@")
        if instance not in self.alive:
            return False
        self.carrier.carry(instance, Carriage.SEND, data, flow._replace(listener=listener))
        return True

    def used(self, flow: Flow, instance: str) -> None:
        """Another instance sent something down a connection of ours: it wants to hear when that breaks."""
        if not flow.connection:
            return
        users = self._users.get(flow)
        if users is None:
            if len(self._users) >= FLOWS_MAX:
                del self._users[next(iter(self._users))]
            users = self._users[flow] = set()
        users.add(instance)

    def broken(self, flow: Flow) -> None:
        """A connection of ours is gone: tells those who used it."""
        for instance in self._users.pop(flow, ()):
            self.carrier.carry(instance, Carriage.BROKEN, b"", flow)


def is_remote(flow: Flow) -> bool:
    """Whether a flow ends at another instance."""
    return "@" in flow.listener


def at(instance: str, flow: Flow) -> Flow:
    """A flow of another instance, as this one names it."""
    return flow._replace(listener=f"{flow.listener}@{instance}")

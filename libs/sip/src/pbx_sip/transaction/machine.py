"""What the four machines share: a state, a table, timers that the layer keeps for them.

A transition table maps (state, signal) to (next state, action). What has no cell is dropped (RFC 6026). Changing the
state stops the timers of the state before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Request, Response
    from pbx_sip.transaction.events import FailureCause, Key
    from pbx_sip.transaction.timers import Timers


class Host(Protocol):
    """The layer as machines see it."""

    timers: Timers
    now: float
    retransmissions: int

    def transmit(self, data: bytes, flow: Flow) -> None:
        """Sends bytes."""

    def deliver(self, machine: Machine, response: Response) -> None:
        """Hands a response to the transaction user."""

    def fail(self, machine: Machine, cause: FailureCause) -> None:
        """Tells the transaction user that nothing more will come."""

    def start_timer(self, machine: Machine, signal: int, after_s: float) -> None:
        """Sends a signal to the machine later."""

    def stop_timers(self, machine: Machine) -> None:
        """Forgets the machine's timers."""

    def remove(self, machine: Machine) -> None:
        """Forgets the machine."""


class Machine:
    """One transaction. `owner` is whatever the transaction user attached."""

    __slots__ = ("data", "flow", "handles", "key", "owner", "state")

    TABLE: ClassVar[dict[tuple[int, int], tuple[int, Any]]] = {}
    KEEPS_TIMERS: ClassVar[tuple[int, ...]] = ()
    """States that are entered without stopping the timers of the state before."""

    def __init__(self, key: Key, flow: Flow, owner: Any, state: int, data: bytes) -> None:
        self.key = key
        self.flow = flow
        self.owner = owner
        self.state = state
        self.data = data
        """What is sent again."""
        self.handles: list[tuple[int, int]] = []

    def __repr__(self) -> str:
        """Kind, branch and state."""
        return f"<{type(self).__name__} {self.key[0]} state {self.state}>"

    def step(self, signal: int, message: Request | Response | None, host: Host) -> None:
        """Takes one signal in, by the table."""
        cell = self.TABLE.get((self.state, signal))
        if cell is None:
            return
        next_state, action = cell
        if next_state != self.state:
            if self.handles and next_state not in self.KEEPS_TIMERS:
                host.stop_timers(self)
            self.state = next_state
        if action is not None:
            action(self, message, host)

"""What the four transaction machines share: a state, a table, two timers that the layer keeps for them.

A table maps (state, signal) to (next state, action). A pair without a cell is dropped: a stray message, a
response that the transaction user sent twice, a timer that fired together with another. Actions stop timers
themselves, because the figures of the RFC let some run on across states. An action may step its machine again
(zero-length timers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pbx_sip.transaction.deadlines import NEVER

if TYPE_CHECKING:
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Request, Response
    from pbx_sip.transaction.events import FailureCause, Key
    from pbx_sip.transaction.timers import Timers


class Host(Protocol):
    """The layer as its machines see it."""

    timers: Timers
    retransmissions: int

    def send(self, machine: Machine, data: bytes) -> None:
        """Sends bytes down the flow of a machine."""

    def deliver(self, machine: Machine, response: Response) -> None:
        """Hands a response to the transaction user."""

    def deliver_ack(self, request: Request) -> None:
        """Hands the ACK for a 2xx to the transaction user."""

    def fail(self, machine: Machine, cause: FailureCause) -> None:
        """Tells the transaction user that nothing more will come."""

    def schedule(self, machine: Machine, signal: int, after_s: float) -> int:
        """Sends a signal to the machine later; returns a handle."""

    def unschedule(self, handle: int) -> None:
        """Forgets that."""

    def send_cancel(self, machine: Machine, request: Request) -> None:
        """Sends the CANCEL of a machine's INVITE in a transaction of its own, of which nobody wants to hear."""

    def remove(self, machine: Machine) -> None:
        """Forgets the machine; its timers are stopped already."""


Action = Callable[[Any, Any, Host], None]
"""Method of a machine; what it is given (a message or None); the host."""
Table = dict[tuple[int, int], tuple[int, Action | None]]


class Machine:
    """One transaction. `owner` is whatever the transaction user attached; `data` is what is sent again."""

    __slots__ = ("data", "end_timer", "flow", "interval_s", "key", "owner", "repeat_timer", "state")

    TABLE: ClassVar[Table] = {}
    TRANSPORT_ERROR: ClassVar[int]
    """The signal that tells a machine that its flow broke."""

    def __init__(self, key: Key, flow: Flow, owner: Any, data: bytes) -> None:
        self.key = key
        self.flow = flow
        self.owner = owner
        self.data = data
        self.state = 0
        self.interval_s = 0.0
        """Between the last two repetitions and the next."""
        self.repeat_timer = NEVER
        self.end_timer = NEVER

    def __repr__(self) -> str:
        """Kind, branch, method and state."""
        return f"<{type(self).__name__} {self.key[0]} {self.key[1]} state {self.state!r}>"

    def step(self, signal: int, given: Request | Response | None, host: Host) -> None:
        """Takes one signal in, by the table."""
        cell = self.TABLE.get((self.state, signal))
        if cell is None:
            return
        self.state, action = cell
        if action is not None:
            action(self, given, host)

    # Actions and tools that several machines share.

    def _repeat_after(self, signal: int, interval_s: float, host: Host) -> None:
        self.interval_s = interval_s
        self.repeat_timer = host.schedule(self, signal, interval_s)

    def _end_after(self, signal: int, after_s: float, host: Host) -> None:
        self.end_timer = host.schedule(self, signal, after_s)

    def _stop(self, host: Host) -> None:
        if self.repeat_timer:
            host.unschedule(self.repeat_timer)
            self.repeat_timer = NEVER
        if self.end_timer:
            host.unschedule(self.end_timer)
            self.end_timer = NEVER

    def _resend(self, host: Host) -> None:
        host.retransmissions += 1
        host.send(self, self.data)

    def _end(self, _: object, host: Host) -> None:
        self._stop(host)
        host.remove(self)

    def _fail(self, cause: FailureCause, host: Host) -> None:
        self._stop(host)
        host.fail(self, cause)
        host.remove(self)

"""Non-INVITE server transaction: RFC 3261 section 17.2.2, figure 8 (RFC 4320: no 408, provisionals sparingly)."""

from __future__ import annotations

import enum
from typing import Any, ClassVar

from pbx_sip.address import Flow
from pbx_sip.message.message import Response
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import Key
from pbx_sip.transaction.machine import Host, Machine


class State(enum.IntEnum):
    """Figure 8."""

    TRYING = 0
    PROCEEDING = 1
    COMPLETED = 2
    TERMINATED = 3


class Signal(enum.IntEnum):
    """What can happen to it."""

    REQUEST = 0
    SEND_PROVISIONAL = 1
    SEND_FINAL = 2
    TIMER_J = 3


class Server(Machine):
    """Repeats its last response to repetitions of the request."""

    __slots__ = ()

    def __init__(self, key: Key, flow: Flow, owner: Any) -> None:
        super().__init__(key, flow, owner, State.TRYING, b"")

    def send(self, response: Response, host: Host) -> None:
        """A response of the transaction user."""
        self.step(Signal.SEND_PROVISIONAL if response.status < 200 else Signal.SEND_FINAL, response, host)

    def _send(self, response: Response, host: Host) -> None:
        self.data = serialize(response)
        host.transmit(self.data, self.flow)

    def _complete(self, response: Response, host: Host) -> None:
        self._send(response, host)
        if self.flow.transport.reliable:
            self.step(Signal.TIMER_J, None, host)
        else:
            host.start_timer(self, Signal.TIMER_J, host.timers.timeout)

    def _repeat(self, _: object, host: Host) -> None:
        host.retransmissions += 1
        host.transmit(self.data, self.flow)

    def _end(self, _: object, host: Host) -> None:
        host.remove(self)

    TABLE: ClassVar[dict[tuple[int, int], tuple[int, Any]]] = {
        (State.TRYING, Signal.SEND_PROVISIONAL): (State.PROCEEDING, _send),
        (State.TRYING, Signal.SEND_FINAL): (State.COMPLETED, _complete),
        (State.PROCEEDING, Signal.REQUEST): (State.PROCEEDING, _repeat),
        (State.PROCEEDING, Signal.SEND_PROVISIONAL): (State.PROCEEDING, _send),
        (State.PROCEEDING, Signal.SEND_FINAL): (State.COMPLETED, _complete),
        (State.COMPLETED, Signal.REQUEST): (State.COMPLETED, _repeat),
        (State.COMPLETED, Signal.TIMER_J): (State.TERMINATED, _end),
    }

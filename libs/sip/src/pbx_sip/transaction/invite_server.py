"""INVITE server transaction: RFC 3261 section 17.2.1 as amended by RFC 6026 (figure 7, state Accepted).

The 2xx itself is repeated by the transaction user until its ACK comes (section 13.3.1.4), through this machine.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar

from pbx_sip.address import Flow
from pbx_sip.message.message import Response
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import FailureCause, Key
from pbx_sip.transaction.machine import Host, Machine


class State(enum.IntEnum):
    """Figure 7 of RFC 6026."""

    PROCEEDING = 0
    ACCEPTED = 1
    COMPLETED = 2
    CONFIRMED = 3
    TERMINATED = 4


class Signal(enum.IntEnum):
    """What can happen to it."""

    INVITE = 0
    ACK = 1
    SEND_PROVISIONAL = 2
    SEND_SUCCESS = 3
    SEND_FAILURE = 4
    TIMER_G = 5
    TIMER_H = 6
    TIMER_I = 7
    TIMER_L = 8


class InviteServer(Machine):
    """Repeats its last response; waits for the ACK of a refusal."""

    __slots__ = ("interval_s",)

    def __init__(self, key: Key, flow: Flow, owner: Any) -> None:
        super().__init__(key, flow, owner, State.PROCEEDING, b"")
        self.interval_s = 0.0

    def send(self, response: Response, host: Host) -> None:
        """A response of the transaction user."""
        status = response.status
        kind = Signal.SEND_PROVISIONAL if status < 200 else Signal.SEND_SUCCESS if status < 300 else Signal.SEND_FAILURE
        self.step(kind, response, host)

    def _send(self, response: Response, host: Host) -> None:
        self.data = serialize(response)
        host.transmit(self.data, self.flow)

    def _accept(self, response: Response, host: Host) -> None:
        host.transmit(serialize(response), self.flow)
        self.data = b""  # the transaction user repeats a 2xx
        host.start_timer(self, Signal.TIMER_L, host.timers.timeout)

    def _again(self, response: Response, host: Host) -> None:
        host.retransmissions += 1
        host.transmit(serialize(response), self.flow)

    def _reject(self, response: Response, host: Host) -> None:
        self._send(response, host)
        timers = host.timers
        host.start_timer(self, Signal.TIMER_H, timers.timeout)
        if not self.flow.transport.reliable:
            self.interval_s = timers.t1
            host.start_timer(self, Signal.TIMER_G, timers.t1)

    def _repeat(self, _: object, host: Host) -> None:
        if self.data:
            host.retransmissions += 1
            host.transmit(self.data, self.flow)

    def _timer_g(self, _: object, host: Host) -> None:
        self._repeat(_, host)
        self.interval_s = min(2 * self.interval_s, host.timers.t2)
        host.start_timer(self, Signal.TIMER_G, self.interval_s)

    def _confirm(self, _: object, host: Host) -> None:
        self.data = b""
        if self.flow.transport.reliable:
            self.step(Signal.TIMER_I, None, host)
        else:
            host.start_timer(self, Signal.TIMER_I, host.timers.t4)

    def _end(self, _: object, host: Host) -> None:
        host.remove(self)

    def _give_up(self, _: object, host: Host) -> None:
        host.fail(self, FailureCause.TIMEOUT)
        host.remove(self)

    TABLE: ClassVar[dict[tuple[int, int], tuple[int, Any]]] = {
        (State.PROCEEDING, Signal.INVITE): (State.PROCEEDING, _repeat),
        (State.PROCEEDING, Signal.SEND_PROVISIONAL): (State.PROCEEDING, _send),
        (State.PROCEEDING, Signal.SEND_SUCCESS): (State.ACCEPTED, _accept),
        (State.PROCEEDING, Signal.SEND_FAILURE): (State.COMPLETED, _reject),
        (State.ACCEPTED, Signal.SEND_SUCCESS): (State.ACCEPTED, _again),
        (State.ACCEPTED, Signal.TIMER_L): (State.TERMINATED, _end),
        (State.COMPLETED, Signal.INVITE): (State.COMPLETED, _repeat),
        (State.COMPLETED, Signal.TIMER_G): (State.COMPLETED, _timer_g),
        (State.COMPLETED, Signal.TIMER_H): (State.TERMINATED, _give_up),
        (State.COMPLETED, Signal.ACK): (State.CONFIRMED, _confirm),
        (State.CONFIRMED, Signal.TIMER_I): (State.TERMINATED, _end),
    }

"""INVITE server transaction: RFC 3261 section 17.2.1 as amended by RFC 6026 section 7.1 (its figure 7).

The transaction user sends the 100 (within 200 ms) and repeats a 2xx until its ACK comes (section 13.3.1.4),
both through this machine. Proceeding has no timer: the transaction user must come to a final response.
"""

from __future__ import annotations

import enum
from typing import ClassVar

from pbx_sip.address import Flow
from pbx_sip.message.message import Request, Response, with_tag
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import FailureCause, ServerKey
from pbx_sip.transaction.machine import Host, Machine, Table


class State(enum.IntEnum):
    """Figure 7 of RFC 6026."""

    PROCEEDING = 0
    ACCEPTED = 1
    COMPLETED = 2
    CONFIRMED = 3
    TERMINATED = 4


class Signal(enum.IntEnum):
    """What can happen to it."""

    REQUEST = 0
    ACK = 1
    SEND_PROVISIONAL = 2
    SEND_SUCCESS = 3
    SEND_FAILURE = 4
    TIMER_G = 5
    TIMER_H = 6
    TIMER_I = 7
    TIMER_L = 8
    TRANSPORT_ERROR = 9


class InviteServer(Machine):
    """Repeats its last response; waits for the ACK of a refusal."""

    __slots__ = ("identity", "promised", "to_tag")

    REQUEST = Signal.REQUEST
    TRANSPORT_ERROR = Signal.TRANSPORT_ERROR

    def __init__(self, key: ServerKey, flow: Flow) -> None:
        super().__init__(key, flow, None, b"")
        self.state = State.PROCEEDING
        self.identity = ""
        """What its CANCEL must say, beside the branch: `key.merge_identity`."""
        self.to_tag = ""
        """Of the first response that had one."""
        self.promised = ""
        """The To-tag that the 200 to a CANCEL had; a refusal has the same (section 9.2)."""

    def cancelled(self, tag: str) -> str:
        """A CANCEL came: the To-tag for its 200; `tag` where no response of ours had one yet."""
        self.promised = self.to_tag or self.promised or tag
        return self.promised

    def start(self, host: Host) -> None:
        """Nothing to start; as the other machines."""

    def respond(self, response: Response, host: Host) -> None:
        """A response of the transaction user; dropped where a final one went before (except a repeated
        2xx)."""
        status = response.status
        if status > 100 and not self.to_tag:
            if self.promised and status >= 300:
                response.headers.set("To", with_tag(response.headers.first("To") or "", self.promised))
            self.to_tag = response.to_tag
        if status < 200:
            signal = Signal.SEND_PROVISIONAL
        else:
            signal = Signal.SEND_SUCCESS if status < 300 else Signal.SEND_FAILURE
        self.step(signal, response, host)

    def _send(self, response: Response, host: Host) -> None:
        self.data = serialize(response)
        host.send(self, self.data)

    def _accept(self, response: Response, host: Host) -> None:
        self.data = b""  # the transaction user repeats a 2xx
        self.owner = None
        host.send(self, serialize(response))
        self._end_after(Signal.TIMER_L, host.timers.timeout, host)

    def _accept_again(self, response: Response, host: Host) -> None:
        host.retransmissions += 1
        host.send(self, serialize(response))

    def _reject(self, response: Response, host: Host) -> None:
        self._send(response, host)
        self._end_after(Signal.TIMER_H, host.timers.timeout, host)
        if not self.flow.transport.reliable:
            self._repeat_after(Signal.TIMER_G, host.timers.t1, host)

    def _repeat(self, _: object, host: Host) -> None:
        if self.data:
            self._resend(host)

    def _repeat_later(self, _: object, host: Host) -> None:
        self._resend(host)
        self._repeat_after(Signal.TIMER_G, min(2 * self.interval_s, host.timers.t2), host)

    def _deliver_ack(self, request: Request, host: Host) -> None:
        host.deliver_ack(request)

    def _confirm(self, _: object, host: Host) -> None:
        self._stop(host)
        self.data = b""
        self.owner = None
        if self.flow.transport.reliable:
            self.step(Signal.TIMER_I, None, host)
        else:
            self._end_after(Signal.TIMER_I, host.timers.t4, host)

    def _give_up(self, _: object, host: Host) -> None:
        self._fail(FailureCause.TIMEOUT, host)

    def _break(self, _: object, host: Host) -> None:
        self._fail(FailureCause.TRANSPORT, host)

    TABLE: ClassVar[Table] = {
        (State.PROCEEDING, Signal.REQUEST): (State.PROCEEDING, _repeat),
        (State.PROCEEDING, Signal.SEND_PROVISIONAL): (State.PROCEEDING, _send),
        (State.PROCEEDING, Signal.SEND_SUCCESS): (State.ACCEPTED, _accept),
        (State.PROCEEDING, Signal.SEND_FAILURE): (State.COMPLETED, _reject),
        (State.PROCEEDING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.ACCEPTED, Signal.REQUEST): (State.ACCEPTED, None),  # absorbed
        (State.ACCEPTED, Signal.ACK): (State.ACCEPTED, _deliver_ack),
        (State.ACCEPTED, Signal.SEND_SUCCESS): (State.ACCEPTED, _accept_again),
        (State.ACCEPTED, Signal.TIMER_L): (State.TERMINATED, Machine._end),
        (State.COMPLETED, Signal.REQUEST): (State.COMPLETED, _repeat),
        (State.COMPLETED, Signal.ACK): (State.CONFIRMED, _confirm),
        (State.COMPLETED, Signal.TIMER_G): (State.COMPLETED, _repeat_later),
        (State.COMPLETED, Signal.TIMER_H): (State.TERMINATED, _give_up),
        (State.COMPLETED, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.CONFIRMED, Signal.ACK): (State.CONFIRMED, None),  # absorbed
        (State.CONFIRMED, Signal.TIMER_I): (State.TERMINATED, Machine._end),
        (State.CONFIRMED, Signal.TRANSPORT_ERROR): (State.TERMINATED, Machine._end),
    }

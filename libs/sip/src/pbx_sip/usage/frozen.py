"""Usages as values: what another process needs to go on with them, typed and versioned.

Messages are held as the bytes that may have to be sent again, times as seconds of the wall clock: a monotonic clock
means nothing to another process. Version N+1 reads structs of version N; what cannot be read is a `LocalError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.dialog.dialog import Dialog
from pbx_sip.dialog.repetition import Repetition
from pbx_sip.errors import LocalError
from pbx_sip.message.message import Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.transaction.events import ClientKey, ServerKey

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Clock:
    """How the caller's clock and the wall clock hang together: `wall = now + offset_s`. Good to a microsecond."""

    offset_s: float

    def wall(self, at: float) -> float:
        """A time of the caller's clock as wall-clock time."""
        return at + self.offset_s

    def local(self, wall: float) -> float:
        """The other way round."""
        if not self.offset_s:
            return wall
        return round(wall - self.offset_s, 6)  # or the rounding of a large sum would wake an owner one bucket late


@dataclass(frozen=True, slots=True)
class FrozenRepetition:
    """A response that is sent again until it is confirmed: when next, and when to give up."""

    at: float
    interval_s: float
    longest_s: float
    gives_up: float

    @classmethod
    def of(cls, live: Repetition, clock: Clock) -> FrozenRepetition:
        """Freezes one."""
        return cls(clock.wall(live.at), live.interval_s, live.longest_s, clock.wall(live.gives_up))

    def thaw(self, clock: Clock) -> Repetition:
        """The live one."""
        return Repetition(clock.local(self.at), self.interval_s, self.longest_s, clock.local(self.gives_up))


@dataclass(frozen=True, slots=True)
class FrozenDialog:
    """Everything of a `Dialog`, field by field."""

    call_id: str
    local_tag: str
    remote_tag: str
    local_address: str
    remote_address: str
    remote_target: str
    route_set: tuple[str, ...]
    local_cseq: int
    remote_cseq: int
    confirmed: bool
    secure: bool
    remote_rseq: int
    has_target: bool = True

    @classmethod
    def of(cls, dialog: Dialog) -> FrozenDialog:
        """Freezes one."""
        return cls(*(getattr(dialog, name) for name in cls.__slots__))

    def thaw(self) -> Dialog:
        """The live one."""
        return Dialog(*(getattr(self, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class FrozenAnswer:
    """A 2xx of ours that waits for its ACK."""

    key: ServerKey
    response: bytes
    repetition: FrozenRepetition


@dataclass(frozen=True, slots=True)
class FrozenInDialog:
    """`within.InDialog`."""

    dialog: FrozenDialog
    flow: tuple[int, str, int, str, int]
    """Transport, remote host and port, listener, connection."""
    state: int
    turn: int
    asked: tuple[tuple[ServerKey, bytes], ...]
    """Requests of the peer that wait for our final response."""
    sent: tuple[tuple[ClientKey, bytes], ...]
    """Requests of ours that wait for the peer's."""
    acks: tuple[tuple[int, bytes], ...]
    """ACKs that a repeated 2xx gets again, by CSeq number."""
    unacknowledged: tuple[int, ...]
    """CSeq numbers of INVITEs of ours whose 2xx came and whose ACK the user still owes."""
    answer: FrozenAnswer | None
    by_peer: bool
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class FrozenInviteUac:
    """`invite_client.InviteUac`."""

    invite: bytes
    """Once it is answered, as much of it as the dialog of another fork is made of."""
    key: ClientKey
    offers: bool
    """It carried an offer."""
    flow: tuple[int, str, int, str, int]
    state: int
    was_cancelled: bool
    cancel_headers: tuple[tuple[str, str], ...]
    forks: tuple[tuple[str, FrozenInDialog], ...]
    chosen: str
    lingers_until: float | None
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class FrozenFork:
    """One early dialog of an INVITE of the peer's, with its reliable progress."""

    within: FrozenInDialog
    next_rseq: int
    queue: tuple[int, ...]
    responses: tuple[tuple[int, bytes], ...]
    repetition: FrozenRepetition | None
    crossing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FrozenInviteUas:
    """`invite_server.InviteUas`."""

    key: ServerKey
    invite: bytes
    """Once it is answered, as much of it as names its dialogs."""
    offers: bool
    """It carried an offer."""
    flow: tuple[int, str, int, str, int]
    state: int
    first_rseq: int
    forks: tuple[tuple[str, FrozenFork], ...]
    chosen: str | None
    version: int = VERSION


FrozenFlow = tuple[int, str, int, str, int]
"""Transport, remote host and port, listener, connection."""


def freeze_flow(flow: Flow) -> FrozenFlow:
    """A flow as plain values, which JSON and msgspec write as they are; `thaw_flow` reads them."""
    return int(flow.transport), flow.remote.host, flow.remote.port, flow.listener, flow.connection


def thaw_flow(frozen: FrozenFlow) -> Flow:
    """The flow that `freeze_flow` wrote."""
    transport, host, port, listener, connection = frozen
    return Flow(Transport(transport), HostPort(host, port), listener, connection)


def request_of(data: bytes) -> Request:
    """A request of ours, or of a peer's that was taken, from its bytes. Raises LocalError where they are none."""
    message = parse(data)
    if not isinstance(message, Request):
        raise LocalError("frozen bytes are no request")
    return message


def response_of(data: bytes) -> Response:
    """A response from its bytes. Raises LocalError where they are none."""
    message = parse(data)
    if not isinstance(message, Response):
        raise LocalError("frozen bytes are no response")
    return message


def check(version: int) -> None:
    """Raises LocalError for a struct that a newer release wrote."""
    if version > VERSION:
        raise LocalError(f"a usage of version {version}, newer than {VERSION}")

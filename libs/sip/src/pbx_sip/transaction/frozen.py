"""Transactions as values: what another process needs to go on with them (RFC 3261 section 17 has no word for that).

Bytes that may have to be sent again, the state of the machine, and its timers as wall-clock times. Who owns a
transaction is the transaction user's to say, by a name that it understands when the transaction is thawed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbx_sip.errors import LocalError
from pbx_sip.message.message import Request
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.client import Client
from pbx_sip.transaction.invite_client import InviteClient
from pbx_sip.transaction.invite_server import InviteServer
from pbx_sip.transaction.server import Server

if TYPE_CHECKING:
    from pbx_sip.address import Flow
    from pbx_sip.transaction.deadlines import Deadlines
    from pbx_sip.transaction.events import Key
    from pbx_sip.transaction.machine import Machine

VERSION: Final = 1
KINDS: Final[dict[str, type[Machine]]] = {
    "invite client": InviteClient,
    "client": Client,
    "invite server": InviteServer,
    "server": Server,
}
_NAMES: Final = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class FrozenTransaction:
    """One transaction."""

    kind: str
    """A key of KINDS."""
    key: Key
    flow: Flow
    owner: str
    """As the transaction user named it; empty: nobody."""
    state: int
    data: bytes
    """What is sent again."""
    interval_s: float
    repeat_at: float | None
    repeat_signal: int
    end_at: float | None
    end_signal: int
    request: bytes = b""
    """The INVITE of an INVITE client, until its final response."""
    cancel_headers: tuple[tuple[str, str], ...] | None = None
    """What its CANCEL carries, where one was asked for."""
    identity: str = ""
    """Of an INVITE server: what its CANCEL must say."""
    to_tag: str = ""
    """Of an INVITE server: of its first response that had one."""
    promised: str = ""
    """Of an INVITE server: that of the 200 to its CANCEL."""
    merge_identity: str = ""
    """What a copy of the request would share that took another way (section 8.2.2.2)."""
    version: int = VERSION


def freeze(
    machine: Machine, deadlines: Deadlines, owner: str, merge_identity: str, wall: Callable[[float], float]
) -> FrozenTransaction:
    """A machine as a value; `wall` turns the caller's times into wall-clock times."""
    repeat, end = deadlines.get(machine.repeat_timer), deadlines.get(machine.end_timer)
    request, cancel_headers = b"", None
    if isinstance(machine, InviteClient):
        request = b"" if machine.request is None else serialize(machine.request)
        cancel_headers = None if machine.cancel_headers is None else tuple(machine.cancel_headers)
    return FrozenTransaction(
        kind=_NAMES[type(machine)],
        key=machine.key,
        flow=machine.flow,
        owner=owner,
        state=machine.state,
        data=machine.data,
        interval_s=machine.interval_s,
        repeat_at=None if repeat is None else wall(repeat[0]),
        repeat_signal=0 if repeat is None else repeat[1],
        end_at=None if end is None else wall(end[0]),
        end_signal=0 if end is None else end[1],
        request=request,
        cancel_headers=cancel_headers,
        identity=machine.identity if isinstance(machine, InviteServer) else "",
        to_tag=machine.to_tag if isinstance(machine, InviteServer) else "",
        promised=machine.promised if isinstance(machine, InviteServer) else "",
        merge_identity=merge_identity,
    )


def thaw(frozen: FrozenTransaction, deadlines: Deadlines, owner: object, local: Callable[[float], float]) -> Machine:
    """The machine that a value was made of, its timers set. Raises LocalError for what cannot be read."""
    kind = KINDS.get(frozen.kind)
    if kind is None or frozen.version > VERSION:
        raise LocalError(f"a transaction of kind {frozen.kind!r}, version {frozen.version}")
    machine: Machine = kind.__new__(kind)
    machine.key, machine.flow, machine.owner, machine.data = frozen.key, frozen.flow, owner, frozen.data
    machine.state = frozen.state
    machine.interval_s = frozen.interval_s
    machine.repeat_timer = machine.end_timer = 0
    if frozen.repeat_at is not None:
        machine.repeat_timer = deadlines.schedule(local(frozen.repeat_at), machine, frozen.repeat_signal)
    if frozen.end_at is not None:
        machine.end_timer = deadlines.schedule(local(frozen.end_at), machine, frozen.end_signal)
    if isinstance(machine, InviteClient):
        message = parse(frozen.request) if frozen.request else None
        machine.request = message if isinstance(message, Request) else None
        machine.cancel_headers = None if frozen.cancel_headers is None else list(frozen.cancel_headers)
    elif isinstance(machine, InviteServer):
        machine.identity, machine.to_tag, machine.promised = frozen.identity, frozen.to_tag, frozen.promised
    return machine

"""What the transaction layer hands upward: slotted values, not frozen since they are made for every
message."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from pbx_sip.address import Flow
from pbx_sip.message.message import Request, Response

ClientKey = tuple[str, str]
"""Identifies a client transaction; opaque to the transaction user (branch, method)."""
ServerKey = tuple[str, str, str]
"""Identifies a server transaction; opaque to the transaction user (branch, method, sent-by)."""
Key = ClientKey | ServerKey


class FailureCause(enum.IntEnum):
    """Why a transaction failed."""

    TIMEOUT = 0
    """No final response came (timers B, F); for an INVITE that was refused: no ACK (timer H)."""
    TRANSPORT = 1
    """The flow broke."""


@dataclass(slots=True)
class Transmit:
    """Send these bytes down that flow."""

    data: bytes
    flow: Flow
    owner: Any = None
    """What the transaction user attached to the transaction that sends it, of a CANCEL to that of its INVITE; None
    where it attached nothing, or where there is no transaction."""


@dataclass(slots=True)
class RequestReceived:
    """A new request; answer it with `respond`."""

    key: ServerKey
    request: Request
    flow: Flow


@dataclass(slots=True)
class CancelReceived:
    """A CANCEL of an INVITE that is here; the layer has answered it with 200. One that matches nothing is not told."""

    key: ServerKey
    request: Request
    invite_key: ServerKey
    invite_owner: Any
    """What the transaction user attached to the INVITE; None once that has its final response."""


@dataclass(slots=True)
class AckReceived:
    """An ACK outside of any refused INVITE: for a 2xx, or for nothing. It comes again when it is sent
    again."""

    request: Request
    flow: Flow


@dataclass(slots=True)
class ResponseReceived:
    """A response to a request that was sent. Of final ones only the 2xx to an INVITE comes more than once."""

    key: ClientKey
    owner: Any
    response: Response
    flow: Flow
    """The flow on which it came."""


@dataclass(slots=True)
class StrayResponse:
    """A response without a transaction: late, of another fork, or of nobody. A 2xx to INVITE wants ACK and
    BYE."""

    response: Response
    flow: Flow


@dataclass(slots=True)
class TransactionFailed:
    """Nothing more will come of this transaction."""

    key: Key
    owner: Any
    cause: FailureCause


@dataclass(slots=True)
class ServerTransactionEnded:
    """A server transaction is forgotten: its key means nothing from now on."""

    key: ServerKey


Output = (
    Transmit
    | RequestReceived
    | CancelReceived
    | AckReceived
    | ResponseReceived
    | StrayResponse
    | TransactionFailed
    | ServerTransactionEnded
)

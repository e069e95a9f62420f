"""What the transaction layer hands upward: slotted values, one sentence each."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from pbx_sip.address import Flow
from pbx_sip.message.message import Request, Response

Key = tuple[str, ...]
"""Identifies a transaction; opaque to the transaction user."""


class FailureCause(enum.IntEnum):
    """Why a client transaction, or an INVITE server transaction, failed."""

    TIMEOUT = 0
    TRANSPORT = 1


@dataclass(slots=True)
class Transmit:
    """Send these bytes down that flow."""

    data: bytes
    flow: Flow


@dataclass(slots=True)
class RequestReceived:
    """A new request; answer it with `respond`."""

    key: Key
    request: Request
    flow: Flow


@dataclass(slots=True)
class CancelReceived:
    """A CANCEL, answered by the layer (200, or 481 where it matches nothing); `invite_key` is what it cancels."""

    key: Key
    request: Request
    invite_key: Key | None
    invite_owner: Any


@dataclass(slots=True)
class AckReceived:
    """An ACK outside of any transaction: for a 2xx, or for nothing."""

    request: Request
    flow: Flow


@dataclass(slots=True)
class ResponseReceived:
    """A response to a request that was sent; of repetitions only those of a 2xx to INVITE."""

    key: Key
    owner: Any
    response: Response
    flow: Flow


@dataclass(slots=True)
class StrayResponse:
    """A response without a transaction: late, or of another fork."""

    response: Response
    flow: Flow


@dataclass(slots=True)
class TransactionFailed:
    """No final response came or could come; for an INVITE that was received: no ACK came (timer H)."""

    key: Key
    owner: Any
    cause: FailureCause


@dataclass(slots=True)
class ServerTransactionEnded:
    """A server transaction is forgotten."""

    key: Key
    owner: Any


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

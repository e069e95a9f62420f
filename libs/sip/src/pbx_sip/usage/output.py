"""What the usages of this package hand out: what is to be sent, and what happened. All values are frozen.

Every usage has the same verbs:

    usage.start/send/answer...(…, now)      what the user wants
    usage.request_received(…, now)          what the transaction layer brought for it
    usage.response_received(…, now)
    usage.transaction_failed(…, now)
    usage.handle_timeout(now)               when next_timeout is due
    usage.drain()                           what came of it, in order; call it after each of the others
    usage.freeze(clock) / Usage.thaw(…)     the usage as a value that another process goes on with

The first four outputs are for whoever owns the transaction layer, the others for the user.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pbx_sip.address import Flow
from pbx_sip.message.message import Request, Response
from pbx_sip.swift import swift
from pbx_sip.transaction.events import ClientKey, FailureCause, ServerKey

Pairs = tuple[tuple[str, str], ...]
"""Header fields, by name and value."""


@swift
@dataclass(frozen=True, slots=True)
class Send:
    """A request to send in a client transaction of its own; what comes back goes to the usage that said so."""

    request: Request
    flow: Flow
    key: ClientKey
    """Of that transaction."""


@swift
@dataclass(frozen=True, slots=True)
class Respond:
    """A response to send in a server transaction."""

    key: ServerKey
    response: Response


@swift
@dataclass(frozen=True, slots=True)
class SendAck:
    """An ACK for a 2xx: outside of any transaction (RFC 3261 section 13.2.2.4)."""

    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class CancelInvite:
    """An INVITE of ours to cancel, with header fields for its CANCEL."""

    key: ClientKey
    headers: Pairs


@swift
@dataclass(frozen=True, slots=True)
class Progressed:
    """A provisional response to our INVITE."""

    response: Response
    fork: str
    """The peer's tag; empty where the response makes no dialog."""
    rseq: int = 0
    """Not 0: the response is reliable, and `confirm_progress` is due (RFC 3262 section 4)."""


@swift
@dataclass(frozen=True, slots=True)
class Answered:
    """The first 2xx to our INVITE: `acknowledge` is due."""

    response: Response
    fork: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Our INVITE has its final refusal; `again` may try once more."""

    response: Response


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Our INVITE ends without a session: no final response came, or a 2xx crossed our CANCEL and was ended."""

    cause: FailureCause | None
    """None: it was cancelled, and its dialog ended by a BYE."""


@swift
@dataclass(frozen=True, slots=True)
class Asked:
    """A request of the peer inside the dialog that is in order: `reply` is due."""

    key: ServerKey
    request: Request


@dataclass(frozen=True, slots=True)
class Replied:
    """A response to a request of ours inside the dialog; a 2xx to INVITE wants `acknowledge`."""

    key: ClientKey
    request: Request
    response: Response


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request of ours inside the dialog got no final response."""

    key: ClientKey
    request: Request
    cause: FailureCause


@swift
@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The first ACK for a 2xx of ours."""

    request: Request


class Waits(enum.IntEnum):
    """What a peer owes a confirmation for."""

    ANSWER = 0
    PROGRESS = 1


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """No ACK (ANSWER: a BYE is due) or no PRACK (PROGRESS: a refusal with 5xx is due) came in 64*T1."""

    waits: Waits


@dataclass(frozen=True, slots=True)
class ProgressConfirmed:
    """A PRACK confirmed reliable progress of ours; it comes as `Asked` too, and is to be answered."""

    fork: str
    rseq: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The peer cancelled its INVITE: refuse it with 487, unless it has its answer."""

    request: Request
    """The CANCEL."""


@dataclass(frozen=True, slots=True)
class RefreshDue:
    """The session is to be refreshed by a request of ours (RFC 4028 section 7.2)."""

    method: str
    """UPDATE where the peer takes it, else INVITE with the session description that it got last."""


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """Nobody refreshed the session: a BYE is due (RFC 4028 section 10)."""


Down = Send | Respond | SendAck | CancelInvite
Up = (
    Progressed | Answered | Refused | GaveUp | Asked | Replied | Unanswered | Acknowledged | Unconfirmed
    | ProgressConfirmed | Cancelled | RefreshDue | SessionExpired
)  # fmt: skip
Output = Down | Up

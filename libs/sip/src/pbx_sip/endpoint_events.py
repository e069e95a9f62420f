"""What `endpoint.Endpoint` tells its user, and the dialogs that it tells of."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from pbx_sip.address import Flow
from pbx_sip.dialog.dialog import Dialog
from pbx_sip.dialog.reliable import ReliableSender
from pbx_sip.dialog.repetition import Repetition
from pbx_sip.message.message import Request, Response
from pbx_sip.transaction import events as tx
from pbx_sip.transaction.events import ClientKey, ServerKey, Transmit


class Waits(enum.IntEnum):
    """What a dialog's peer owes a confirmation for."""

    ANSWER = 0
    PROGRESS = 1


@dataclass(slots=True, eq=False)
class LiveDialog:
    """A dialog, and what must be remembered around it."""

    dialog: Dialog
    flow: Flow
    acks: dict[int, Request] = field(default_factory=dict)
    """CSeq of an INVITE of ours to the ACK for its 2xx."""
    answer: Response | None = None
    """Our 2xx that waits for its ACK, and the transaction that it answers."""
    answer_key: ServerKey | None = None
    repetition: Repetition | None = None
    progress: ReliableSender | None = None
    """Reliable provisional responses to the peer's INVITE."""
    unconfirmed: dict[int, Response] = field(default_factory=dict)
    """RSeq to the response."""
    progress_key: ServerKey | None = None
    handles: dict[Waits, int] = field(default_factory=dict)


@dataclass(slots=True)
class Received:
    """A new request; `send_response` is due. Inside a dialog it is in order."""

    key: ServerKey
    request: Request
    flow: Flow
    live: LiveDialog | None


@dataclass(slots=True)
class Cancelled:
    """The peer cancelled its INVITE: answer that with 487, unless it has its answer."""

    key: ServerKey


@dataclass(slots=True)
class Acknowledged:
    """The first ACK for a 2xx of ours."""

    live: LiveDialog
    request: Request


@dataclass(slots=True)
class Responded:
    """A response to a request of ours. `rseq` is not 0 where a PRACK is due; a 2xx to INVITE wants `send_ack`."""

    key: ClientKey
    request: Request
    response: Response
    live: LiveDialog | None
    rseq: int = 0


@dataclass(slots=True)
class Failed:
    """A request of ours got no final response, or a refusal of ours no ACK (`request` is None)."""

    key: tx.Key
    request: Request | None
    live: LiveDialog | None
    cause: tx.FailureCause


@dataclass(slots=True)
class Unconfirmed:
    """No ACK (ANSWER: send a BYE) or no PRACK (PROGRESS: refuse the INVITE) came in 64*T1."""

    live: LiveDialog
    waits: Waits


@dataclass(slots=True)
class Stray:
    """A response that belongs to nothing here."""

    response: Response
    flow: Flow


Event = Transmit | Received | Cancelled | Acknowledged | Responded | Failed | Unconfirmed | Stray

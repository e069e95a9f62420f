"""What users of transactions ask of the world, and what the registrar answers about a REGISTER: frozen values.

Each question is self-contained: who carries it out needs nothing of the call that asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbx_sip.swift import swift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbx_signaling.media.stream import Slot, StreamEndpoint
    from pbx_signaling.users.attempt import Attempt
    from pbx_sip.address import Flow
    from pbx_sip.header.contact import RegisterContact


@swift
@dataclass(frozen=True, slots=True)
class Authenticate:
    """Verify credentials: Authenticated, Refused or ServiceFailed."""

    attempt: Attempt
    method: str


@swift
@dataclass(frozen=True, slots=True)
class Find:
    """Look an address-of-record up: Found or LookupFailed."""

    aor: str


@swift
@dataclass(frozen=True, slots=True)
class Reserve:
    """Take a slot of some relay: MediaReady or MediaUnavailable."""

    call_id: str
    endpoints: list[StreamEndpoint]


@swift
@dataclass(frozen=True, slots=True)
class Update:
    """Tell a relay where the media of a call go now. No answer."""

    call_id: str
    slot: Slot
    endpoints: list[StreamEndpoint]


@swift
@dataclass(frozen=True, slots=True)
class Release:
    """Give a slot back. No answer."""

    call_id: str
    slot: Slot


@dataclass(frozen=True, slots=True)
class Register:
    """Put a REGISTER to the registrar: Registered."""

    aor: str
    contacts: Sequence[RegisterContact]
    remove_all: bool
    call_id: str
    cseq: int
    flow: Flow
    path: Sequence[str]
    user_agent: str
    authorization: str
    body: bytes
    nonce_source: str = ""
    """To whom the nonce of its credentials must have been sent."""

    def __repr__(self) -> str:
        """Without the credentials."""
        return f"<Register {self.aor} from {self.flow}>"


Question = Authenticate | Find | Reserve | Update | Release | Register

AFTER_RECORDS: Final = frozenset({Update, Release})
"""What leaves only when the records of its own step are stored: it changes what others see and hear of a call. The
others ask, or set aside what falls back by itself (a slot, when its lease or its silence ends); the call waits for
their answers, and nobody else learns of them."""


@dataclass(frozen=True, slots=True)
class CurrentBinding:
    """A binding as the 200 to a REGISTER lists it."""

    uri: str
    q_thousandths: int
    expires_s: int
    sip_instance: str = ""
    reg_id: int = 0


@dataclass(frozen=True, slots=True)
class Registered:
    """The registrar's answer to a REGISTER."""

    status: int
    reason: str = ""
    bindings: Sequence[CurrentBinding] = field(default_factory=tuple)
    min_expires_s: int = 0
    stale: bool = False
    outbound: bool = False
    retry_after_s: int = 0

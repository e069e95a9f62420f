"""What the pure core needs to know of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from pbx_signaling.call.state import CallPolicy
from pbx_sip.dialog.session_timer import SessionPolicy
from pbx_sip.transaction.timers import Timers


@dataclass(frozen=True, slots=True)
class CoreConfig:
    """Limits and policies of one instance."""

    domain: str
    timers: Timers = field(default_factory=Timers)
    calls: CallPolicy = field(default_factory=CallPolicy)
    sessions: SessionPolicy = field(default_factory=SessionPolicy)
    """Session timers (RFC 4028) of each leg; an interval of 0 means none."""
    calls_max: int = 20_000
    """Live calls. At 20 KiB each this is 400 MiB: what a pod of this size gets. Beyond: 503."""
    transactions_max: int = 200_000
    """Transactions, lingering ones included: 32 s at 1 000 calls/s with six each."""
    authenticate: bool = True
    """Whether INVITE, MESSAGE and REGISTER need a digest; off only on closed networks."""
    registrations_pending_max: int = 5_000
    """REGISTERs that wait for the registrar. Beyond: 503."""
    refused_records_per_s: float = 5.0
    """Attempts with wrong credentials that get a CDR, per source and second; the others are counted."""

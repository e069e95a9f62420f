"""What the pure core needs to know of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from pbx_signaling.border.headers import HeaderPolicy
from pbx_signaling.border.trust import Trust
from pbx_signaling.calls.state import CallPolicy
from pbx_sip.auth.digest import STRONGEST_FIRST
from pbx_sip.dialog.session_timer import SessionPolicy
from pbx_sip.transaction.timers import Timers


@dataclass(frozen=True, slots=True)
class QuotaPolicy:
    """Limits; 0 means none."""

    account_calls: int = 10
    """Calls that an account without a limit of its own makes at once: a phone has a few lines, a person one mouth.
    Threat: one stolen password takes every slot of the relays."""
    account_calls_per_s: float = 30.0
    """Attempts of an account, calls and messages together: a machine that dials, far above what people do."""
    source_calls: int = 1_000
    """Calls that one address makes at once, whoever its accounts are: a large office behind a NAT."""
    source_calls_per_s: float = 300.0
    """Attempts of one address."""
    callee_ringing: int = 30
    """Calls that ring at one account at once. Threat: a phone, and the slots, held by calls that nobody can answer."""


@dataclass(frozen=True, slots=True)
class CoreConfig:
    """Limits and policies of one instance."""

    domain: str
    aliases: frozenset[str] = frozenset()
    """Other names of the domain, in lower case: what phones were told as their registrar."""
    timers: Timers = field(default_factory=Timers)
    calls: CallPolicy = field(default_factory=CallPolicy)
    sessions: SessionPolicy = field(default_factory=SessionPolicy)
    """Session timers (RFC 4028) of each leg; an interval of 0 means none."""
    headers: HeaderPolicy = field(default_factory=HeaderPolicy)
    """Which header fields cross from one leg to the other."""
    trusted: Trust = field(default_factory=Trust)
    """The peers with whom identities are exchanged (RFC 3325)."""
    proxies: Trust = field(default_factory=Trust)
    """The peers whose Path, Record-Route and Contacts may lead elsewhere than to themselves."""
    reachable: Trust = field(default_factory=Trust)
    """Private networks into which those may lead."""
    calls_max: int = 20_000
    """Live calls. At 20 KiB each this is 400 MiB: what a pod of this size gets. Beyond: 503."""
    transactions_max: int = 200_000
    """Transactions, lingering ones included: 32 s at 1 000 calls/s with six each."""
    authenticate: bool = True
    """Whether INVITE, MESSAGE and REGISTER need a digest; off only on closed networks."""
    algorithms: tuple[str, ...] = STRONGEST_FIRST
    """Digest algorithms offered, strongest first (RFC 8760 section 2.4)."""
    force_algorithms: bool = False
    """Whether all of them are offered to every phone (`quirk`)."""
    qop: tuple[str, ...] = ("auth",)
    """Qualities of protection offered. "none" among them: credentials without one are taken too (RFC 2069)."""
    quotas: QuotaPolicy = field(default_factory=QuotaPolicy)
    """What one account and one source may have and ask for."""
    calls_per_s: float = 2_500.0
    """INVITEs with credentials that may begin a call, per second, and at once. Twice what a core carries: beyond, a
    call would only wait until its caller gives up. 0: no limit. Beyond: 503."""
    source_requests_per_s: float = 200.0
    """Requests outside of dialogs that prove nobody, per second and source (`sources`); a busy phone sends one in
    some seconds. 0: no limit. Beyond: 503, then silence."""
    source_burst: float = 2_000.0
    """How many of them at once: an office whose power came back."""
    dialog_requests_per_s: float = 20.0
    """Requests inside a dialog, its BYE aside, per second: digits come at ten a second at the most. 0: no limit.
    Beyond: 503, then silence. Threat: one authorised call as a way around every other limit."""
    registrations_pending_max: int = 5_000
    """REGISTERs that wait for the registrar. Beyond: 503."""
    refused_records_per_s: float = 5.0
    """Attempts with wrong credentials that get a CDR, per source and second; the others are counted."""

"""The rules of registration: what a REGISTER does to the bindings of an address-of-record. Pure.

RFC 3261 section 10.3 (steps 6 to 8) and RFC 5626 section 6: bindings, a request and the time go in, an outcome comes
out, and the whole request takes effect or none of it. Who may register, and where bindings are kept, is not known here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pbx_registrar.contact_uri import same_contact

HOUR_S: Final = 3600
USER_AGENT_MAX: Final = 128
"""Characters kept of a User-Agent; the contract's figure."""
URI_MAX: Final = 1_024
"""Characters of a Contact URI. Threat: storage; phones stay below 300."""
CALL_ID_MAX: Final = 512
SIP_INSTANCE_MAX: Final = 256
"""Characters of +sip.instance. Threat: storage; a URN of a UUID has 45 (RFC 5626 section 4.1)."""
PATH_MAX: Final = 10
"""Path values of a registration; a request to the phone carries them all as Route."""
PATH_VALUE_MAX: Final = 1_024
"""Characters of each. Threat: storage, and requests to the phone that no longer fit a datagram."""
Q_MAX: Final = 1000
REORDERING_MS: Final = 32_000
"""How long a datagram of a transaction may still be under way: 64*T1 (RFC 3261 section 17.1.2.2). A CSeq that is not
higher means a late request within that time, and a phone that began anew after it."""
REORDERED_MAX: Final = 2
"""How far the CSeq of a late request can be behind: a phone has one REGISTER under way (RFC 3261 section 10.2), which
takes two numbers with its challenge. A larger step back is a phone that began anew."""


class ChangeKind(enum.IntEnum):
    """What happened to a binding; the numbers of the contract."""

    ADDED = 1
    REFRESHED = 2
    REMOVED = 3
    EXPIRED = 4
    REPORTED = 5


@dataclass(frozen=True, slots=True)
class Flow:
    """The transport path over which a phone was heard; `transport` is the contract's number."""

    transport: int = 0
    host: str = ""
    port: int = 0
    instance_id: str = ""
    connection_id: int = 0
    listener: str = ""

    def is_same(self, other: Flow) -> bool:
        """Whether both name one path: the connection within its instance, else the addresses (UDP)."""
        if self.connection_id or other.connection_id:
            return (self.connection_id, self.instance_id) == (other.connection_id, other.instance_id)
        return (self.transport, self.host, self.port) == (other.transport, other.host, other.port)


@dataclass(frozen=True, slots=True)
class Contact:
    """One Contact of a REGISTER."""

    uri: str
    expires_s: int | None = None
    """Requested lifetime; None where none was asked for."""
    q_thousandths: int = Q_MAX
    sip_instance: str = ""
    reg_id: int = 0

    @property
    def is_outbound(self) -> bool:
        """Whether it names a flow (RFC 5626); a reg-id without an instance is ignored (section 6)."""
        return bool(self.reg_id and self.sip_instance)


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding of an address-of-record; times in milliseconds since the Unix epoch."""

    aor: str
    uri: str
    q_thousandths: int
    expires_at_ms: int
    flow: Flow
    path: tuple[str, ...]
    call_id: str
    cseq: int
    user_agent: str
    sip_instance: str
    reg_id: int
    registered_at_ms: int
    refreshed_at_ms: int = 0
    """When its last REGISTER came; 0 in records of versions that did not keep it."""
    unreachable_since_ms: int = 0
    """Since when the phone does not answer; 0 where it does, or nothing is known."""
    round_trip_ms: int = 0
    """To the phone and back, when it was last told; 0 where it was not measured."""

    def is_kept_by(self, flow: Flow) -> bool:
        """Whether it came over a flow of that very instance, which looks after it."""
        return self.flow.is_same(flow) and self.flow.instance_id == flow.instance_id

    def is_bound_to(self, contact: Contact) -> bool:
        """Whether the contact is this binding: the same flow of the same phone, or the same URI."""
        if contact.is_outbound and self.reg_id:
            # RFC 5626 section 6: instance and reg-id decide, whatever the URI says now.
            return self.reg_id == contact.reg_id and self.sip_instance.lower() == contact.sip_instance.lower()
        # Deliberately wider than RFC 5626: a phone that turns outbound on or off keeps one binding for one URI.
        return same_contact(self.uri, contact.uri)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A REGISTER; no contacts and no `remove_all` make it a query."""

    aor: str
    contacts: tuple[Contact, ...] = ()
    remove_all: bool = False
    call_id: str = ""
    cseq: int = 0
    flow: Flow = Flow()
    path: tuple[str, ...] = ()
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Lifetimes in seconds, and how many bindings one address-of-record may have."""

    expires_default_s: int = HOUR_S
    expires_min_s: int = 60
    expires_max_s: int = 2 * HOUR_S
    bindings_max: int = 10


@dataclass(frozen=True, slots=True)
class Report:
    """What a keep-alive found out."""

    reachable: bool
    round_trip_ms: int = 0
    """0: not measured."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one binding; the binding after it, before it where it went."""

    kind: ChangeKind
    binding: Binding


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to answer and what to store; `bindings` are those that stand afterwards, best first."""

    status: int
    bindings: tuple[Binding, ...] = ()
    changes: tuple[Change, ...] = ()
    """Empty: nothing is to be stored."""
    reason: str = ""
    min_expires_s: int = 0
    outbound: bool = False


def register(current: Sequence[Binding], request: Registration, policy: Policy, now_ms: int) -> Outcome:
    """Apply a REGISTER to the bindings as they were read."""
    live, expired = split_expired(current, now_ms)
    refusal = _malformed(request) or _too_brief(request, policy) or _out_of_order(live, request, now_ms)
    if refusal is not None:
        return refusal
    if request.remove_all:
        return Outcome(200, (), (*expired, *(Change(ChangeKind.REMOVED, binding) for binding in live)))
    return _with_contacts(live, expired, request, policy, now_ms)


def unregister(current: Sequence[Binding], uri: str, flow: Flow | None, now_ms: int) -> Outcome:
    """Remove bindings without a REGISTER: those of a URI (empty: any) that came over a flow (None: any)."""
    live, expired = split_expired(current, now_ms)
    gone = [binding for binding in live if _is_meant(binding, uri, flow)]
    left = tuple(binding for binding in live if binding not in gone)
    return Outcome(200, left, (*expired, *(Change(ChangeKind.REMOVED, binding) for binding in gone)))


def report(current: Sequence[Binding], flow: Flow, report: Report, now_ms: int) -> Outcome:
    """Note what was found out about the bindings of a flow.

    A REGISTER of the phone makes a fresh binding, which is reachable: so it says itself.
    """
    live, changes = split_expired(current, now_ms)
    for index, binding in enumerate(live):
        if binding.is_kept_by(flow):
            since_ms = 0 if report.reachable else binding.unreachable_since_ms or now_ms
            round_trip_ms = report.round_trip_ms or binding.round_trip_ms
            live[index] = replace(binding, unreachable_since_ms=since_ms, round_trip_ms=round_trip_ms)
            if live[index] != binding:
                changes.append(Change(ChangeKind.REPORTED, live[index]))
    return Outcome(200, tuple(live), tuple(changes))


def expire(current: Sequence[Binding], now_ms: int) -> Outcome:
    """Drop what ran out."""
    live, expired = split_expired(current, now_ms)
    return Outcome(200, tuple(live), tuple(expired))


def split_expired(current: Iterable[Binding], now_ms: int) -> tuple[list[Binding], list[Change]]:
    """The bindings that stand, and the changes that tell of those which do not."""
    live: list[Binding] = []
    expired: list[Change] = []
    for binding in current:
        if binding.expires_at_ms > now_ms:
            live.append(binding)
        else:
            expired.append(Change(ChangeKind.EXPIRED, binding))
    return live, expired


def _is_meant(binding: Binding, uri: str, flow: Flow | None) -> bool:
    return (not uri or same_contact(binding.uri, uri)) and (flow is None or binding.flow.is_same(flow))


def _malformed(request: Registration) -> Outcome | None:
    if request.remove_all and request.contacts:
        return Outcome(400, reason="Contact * Goes Alone")
    too_long = _too_long(request)
    if too_long:
        return Outcome(400, reason=f"{too_long} Too Long")
    lasting_flows = sum(contact.is_outbound and contact.expires_s != 0 for contact in request.contacts)
    if lasting_flows > 1:
        # RFC 5626 section 4.2.1: one flow, one registration.
        return Outcome(400, reason="Several Contacts With reg-id")
    return None


def _too_long(request: Registration) -> str:
    """What of a REGISTER would be stored and is longer than its limit; empty: nothing is.

    The one place where lengths are checked: whatever comes in here is kept for hours, by whoever has an account.
    """
    if any(not 0 < len(contact.uri) <= URI_MAX for contact in request.contacts):
        return "Contact"
    if any(len(contact.sip_instance) > SIP_INSTANCE_MAX for contact in request.contacts):
        return "Instance"
    if len(request.path) > PATH_MAX or any(len(value) > PATH_VALUE_MAX for value in request.path):
        return "Path"
    return "Call-ID" if len(request.call_id) > CALL_ID_MAX else ""


def _too_brief(request: Registration, policy: Policy) -> Outcome | None:
    # RFC 3261 section 10.3 step 7: 423 only for an interval above zero and below one hour.
    for contact in request.contacts:
        asked = contact.expires_s
        if asked is not None and 0 < asked < min(policy.expires_min_s, HOUR_S):
            return Outcome(423, min_expires_s=policy.expires_min_s)
    return None


def _out_of_order(live: Sequence[Binding], request: Registration, now_ms: int) -> Outcome | None:
    """Step 6 and 7: with the same Call-ID only a higher CSeq may touch a binding; else the whole request fails.

    Deliberately not RFC for a phone that keeps its Call-ID and begins to count anew: locked out until its old binding
    ran out, it could not be called for hours.
    """
    for binding in live:
        if binding.call_id != request.call_id or request.cseq > binding.cseq or _began_anew(binding, request, now_ms):
            continue
        if request.remove_all or any(binding.is_bound_to(contact) for contact in request.contacts):
            return Outcome(500, reason="CSeq Out Of Order")
    return None


def _began_anew(binding: Binding, request: Registration, now_ms: int) -> bool:
    """Whether a CSeq that is not higher comes from a phone that rebooted, not from a request that was overtaken."""
    return (
        not binding.flow.is_same(request.flow)
        or binding.cseq - request.cseq > REORDERED_MAX
        or now_ms - (binding.refreshed_at_ms or binding.registered_at_ms) > REORDERING_MS
    )


def _with_contacts(
    live: list[Binding], expired: list[Change], request: Registration, policy: Policy, now_ms: int
) -> Outcome:
    if not request.contacts:
        return Outcome(200, tuple(live))  # a query writes nothing; the expiry loop tells of what ran out
    kept, fresh, changes = list(live), list[Binding](), list(expired)
    for contact in request.contacts:
        _apply(kept, fresh, changes, _Step(request, contact, policy, now_ms))
    while len(fresh) + len(kept) > max(policy.bindings_max, len(live)):
        oldest = _oldest_of_device(kept, request)
        if oldest is None:
            return Outcome(403, reason="Too Many Contacts")
        kept.remove(oldest)
        changes.append(Change(ChangeKind.REMOVED, oldest))
    table = sorted(fresh + kept, key=_worst_q)
    outbound = any(contact.is_outbound and contact.expires_s != 0 for contact in request.contacts)
    return Outcome(200, tuple(table), tuple(changes), outbound=outbound)


def _oldest_of_device(kept: Sequence[Binding], request: Registration) -> Binding | None:
    """The binding that a phone may lose for its new one: its own oldest, of another port that it had before."""
    instances = {contact.sip_instance.lower() for contact in request.contacts} - {""}
    own = [binding for binding in kept if binding.sip_instance.lower() in instances]
    return min(own, key=lambda binding: binding.refreshed_at_ms or binding.registered_at_ms, default=None)


def _worst_q(binding: Binding) -> int:
    return -binding.q_thousandths


@dataclass(frozen=True, slots=True)
class _Step:
    request: Registration
    contact: Contact
    policy: Policy
    now_ms: int

    @property
    def lifetime_s(self) -> int:
        asked = self.contact.expires_s
        return min(self.policy.expires_default_s if asked is None else asked, self.policy.expires_max_s)

    def binding(self, registered_at_ms: int) -> Binding:
        request, contact = self.request, self.contact
        return Binding(
            aor=request.aor,
            uri=contact.uri,
            q_thousandths=min(contact.q_thousandths, Q_MAX),
            expires_at_ms=self.now_ms + self.lifetime_s * 1000,
            flow=request.flow,
            path=request.path,
            call_id=request.call_id,
            cseq=request.cseq,
            user_agent=request.user_agent[:USER_AGENT_MAX],
            sip_instance=contact.sip_instance,
            reg_id=contact.reg_id if contact.is_outbound else 0,
            registered_at_ms=registered_at_ms,
            refreshed_at_ms=self.now_ms,
        )


def _apply(kept: list[Binding], fresh: list[Binding], changes: list[Change], step: _Step) -> None:
    """One contact: what it is bound to goes; unless it is a removal, its binding is a fresh one."""
    bound = [binding for binding in (*fresh, *kept) if binding.is_bound_to(step.contact)]
    for table in (kept, fresh):
        table[:] = [binding for binding in table if binding not in bound]
    if not step.lifetime_s:
        changes.extend(Change(ChangeKind.REMOVED, binding) for binding in bound)
        return
    made = step.binding(min((binding.registered_at_ms for binding in bound), default=step.now_ms))
    measured_ms = [binding.round_trip_ms for binding in bound if binding.flow.is_same(made.flow)]
    if any(measured_ms):
        made = replace(made, round_trip_ms=max(measured_ms))
    fresh.append(made)
    changes.append(Change(ChangeKind.REFRESHED if bound else ChangeKind.ADDED, made))
    # One URI over several flows (RFC 5626), now registered without a flow: the others end.
    changes.extend(Change(ChangeKind.REMOVED, binding) for binding in bound[1:])

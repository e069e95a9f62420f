"""The rules of bindings (RFC 3261 section 10.3, RFC 5626 section 6): pure values in, a decision out.

A REGISTER is atomic: it changes all that it names or nothing. Times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """What a registrar grants."""

    min_expires_s: int = 60
    """Shorter ones get 423: a phone that registers every second is an attack. Asterisk's default too."""
    default_expires_s: int = 3600
    max_expires_s: int = 7200
    """Longer ones are granted this much."""
    contacts_max: int = 10
    """Bindings of one address-of-record. Threat: storage and forking per account; Asterisk's default is 1."""


@dataclass(frozen=True, slots=True)
class FlowValue:
    """Where a phone was heard from; the fields of pbx.registrar.v1.Flow."""

    transport: int
    host: str
    port: int
    instance: str = ""
    connection: int = 0
    listener: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding of an address-of-record."""

    aor: str
    uri: str
    q_thousandths: int
    expires_at_ms: int
    flow: FlowValue
    path: tuple[str, ...]
    call_id: str
    cseq: int
    user_agent: str
    sip_instance: str
    reg_id: int
    registered_at_ms: int

    @property
    def key(self) -> str:
        """What makes it one: the instance and reg-id (RFC 5626 section 6), else the URI."""
        if self.sip_instance and self.reg_id:
            return f"i:{self.sip_instance}:{self.reg_id}"
        return f"u:{self.uri}"


@dataclass(frozen=True, slots=True)
class RequestedContact:
    """One Contact of a REGISTER."""

    uri: str
    expires_s: int | None
    q_thousandths: int = 1000
    sip_instance: str = ""
    reg_id: int = 0

    @property
    def key(self) -> str:
        """The key of the binding that it makes or changes."""
        if self.sip_instance and self.reg_id:
            return f"i:{self.sip_instance}:{self.reg_id}"
        return f"u:{self.uri}"


@dataclass(frozen=True, slots=True)
class Registration:
    """A REGISTER after authentication."""

    aor: str
    contacts: Sequence[RequestedContact]
    remove_all: bool
    call_id: str
    cseq: int
    flow: FlowValue
    path: tuple[str, ...] = ()
    user_agent: str = ""


@dataclass(slots=True)
class Decision:
    """What to store, and what to answer."""

    status: int
    put: dict[str, Binding] = field(default_factory=dict)
    remove: dict[str, Binding] = field(default_factory=dict)
    added: list[Binding] = field(default_factory=list)
    """Those of `put` that were not there before."""
    current: list[Binding] = field(default_factory=list)
    """All bindings after the change."""
    min_expires_s: int = 0
    outbound: bool = False


OUT_OF_ORDER: Final = 500
"""RFC 3261 section 10.3 step 7 wants the request aborted; 500 as for any CSeq out of order (section 12.2.2)."""


def decide(request: Registration, stored: Mapping[str, Binding], limits: Limits, now_ms: int) -> Decision:
    """What a REGISTER does to the bindings of its address-of-record; status 200, 403, 423 or 500."""
    live = {key: binding for key, binding in stored.items() if binding.expires_at_ms > now_ms}
    if request.remove_all:
        return _remove_all(request, live)
    refusal = _refusal(request, live, limits)
    if refusal is not None:
        return refusal
    decision = Decision(200, outbound=any(c.sip_instance and c.reg_id for c in request.contacts))
    for contact in request.contacts:
        _apply(contact, request, live, decision, limits, now_ms)
    after = {key: binding for key, binding in live.items() if key not in decision.remove} | decision.put
    if len(after) > limits.contacts_max:
        return Decision(403, current=ordered(live.values()))
    decision.current = ordered(after.values())
    return decision


def ordered(bindings: Iterable[Binding]) -> list[Binding]:
    """Best q first, then the most recently registered."""
    return sorted(bindings, key=lambda b: (-b.q_thousandths, -b.registered_at_ms, b.uri))


def _remove_all(request: Registration, live: Mapping[str, Binding]) -> Decision:
    if any(_is_stale(request, binding) for binding in live.values()):
        return Decision(OUT_OF_ORDER, current=ordered(live.values()))
    return Decision(200, remove=dict(live))


def _refusal(request: Registration, live: Mapping[str, Binding], limits: Limits) -> Decision | None:
    for contact in request.contacts:
        binding = live.get(contact.key)
        if binding is not None and _is_stale(request, binding):
            return Decision(OUT_OF_ORDER, current=ordered(live.values()))
        wanted = contact.expires_s
        if wanted is not None and 0 < wanted < limits.min_expires_s:
            return Decision(423, min_expires_s=limits.min_expires_s)
    return None


def _is_stale(request: Registration, binding: Binding) -> bool:
    """Same Call-ID and no higher CSeq: an older request that came late (section 10.3 step 7)."""
    return binding.call_id == request.call_id and request.cseq <= binding.cseq


def _apply(
    contact: RequestedContact,
    request: Registration,
    live: Mapping[str, Binding],
    decision: Decision,
    limits: Limits,
    now_ms: int,
) -> None:
    before = live.get(contact.key)
    wanted = limits.default_expires_s if contact.expires_s is None else contact.expires_s
    if wanted == 0:
        if before is not None:
            decision.remove[contact.key] = before
        return
    binding = Binding(
        aor=request.aor,
        uri=contact.uri,
        q_thousandths=contact.q_thousandths,
        expires_at_ms=now_ms + 1000 * min(wanted, limits.max_expires_s),
        flow=request.flow,
        path=request.path,
        call_id=request.call_id,
        cseq=request.cseq,
        user_agent=request.user_agent,
        sip_instance=contact.sip_instance,
        reg_id=contact.reg_id,
        registered_at_ms=now_ms,
    )
    if before is None:
        decision.added.append(binding)
    else:
        binding = replace(binding, registered_at_ms=before.registered_at_ms)
    decision.put[contact.key] = binding

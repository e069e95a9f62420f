"""REGISTER: read here, decided by the registrar (RFC 3261 section 10.3). Pure.

Each request waits in a bounded table for the registrar's answer.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pbx_signaling.border import wire
from pbx_signaling.users.flows import RegisteredFlows
from pbx_signaling.users.questions import Register, Registered
from pbx_signaling.users.refusals import RETRY_AFTER_S
from pbx_signaling.users.step import Ask
from pbx_signaling.users.user import User
from pbx_sip.errors import RemoteError
from pbx_sip.header.contact import RegisterContact, contact_value, expires_of
from pbx_sip.header.date import date_value
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, response_to
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pbx_signaling.border.challenge import Challenges
    from pbx_signaling.config import CoreConfig
    from pbx_signaling.counters import Counters
    from pbx_signaling.domains import Domains
    from pbx_signaling.users.keepalive import KeepAlive
    from pbx_signaling.users.sip import Sip
    from pbx_signaling.users.step import Steps
    from pbx_signaling.users.user import Load
    from pbx_sip.address import Flow, HostPort
    from pbx_sip.message.message import Response
    from pbx_sip.transaction.events import ServerKey

MAX_CONTACTS: Final = 10
"""Contacts of one REGISTER. Threat: work and storage per request; phones send one or two."""


@dataclass(slots=True)
class _Waiting:
    key: ServerKey
    request: Request
    ask: Register
    is_broken: bool = False
    """Its connection went while the registrar was asked."""


@dataclass(frozen=True, slots=True)
class RegistrationsNeed:
    """What REGISTERs need around them."""

    config: CoreConfig
    sip: Sip
    steps: Steps
    challenges: Challenges
    domains: Domains
    counters: Counters
    proved: Callable[[HostPort, float], None]
    """A request outside of a dialog proved its user."""
    unregister: Callable[[str, Flow], None]
    """Removes the bindings of an address-of-record that came over a flow."""
    keepalive: KeepAlive | None = None
    """Where phones behind NATs are kept reachable."""


class Registrations(User):
    """REGISTERs that wait for the registrar."""

    methods = ("REGISTER",)
    challenge = 401

    def __init__(self, need: RegistrationsNeed) -> None:
        self._need = need
        self._sip = need.sip
        self.flows = RegisteredFlows()
        self._waiting: dict[int, _Waiting] = {}
        self._numbers = itertools.count(1)
        self.results: dict[int, int] = {}
        """Final status to its count."""

    @property
    def pending(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def refusal(self, request: Request, flow: Flow, load: Load) -> Response | None:
        """420 where it requires what we do not know."""
        return wire.bad_extension(request, wire.OF_REGISTER)

    def takes(self, load: Load) -> bool:
        """Whether one more may wait; a drain and a stall of events stop no REGISTER."""
        return len(self._waiting) < self._need.config.registrations_pending_max

    def request(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """A REGISTER with credentials (or none needed)."""
        if len(self._waiting) >= self._need.config.registrations_pending_max:
            self._respond(key, request, flow, Registered(503, retry_after_s=RETRY_AFTER_S))
            return
        try:
            ask = self._read(request, flow)
        except RemoteError as error:
            self._respond(key, request, flow, Registered(error.status_hint))
            return
        number = next(self._numbers)
        self._waiting[number] = _Waiting(key, request, ask)
        self._need.steps.ask(Ask(self, number, ask))

    def answered(self, number: str | int, answer: object) -> None:
        """The registrar's answer to a REGISTER."""
        waiting = self._waiting.pop(int(number), None)
        if waiting is None:
            return
        assert isinstance(answer, Registered)
        now = self._sip.now
        if answer.status == 200:
            self._need.proved(waiting.ask.flow.remote, now)
            self._note_flow(waiting, answer, now)
        self._respond(waiting.key, waiting.request, waiting.ask.flow, answer, waiting.ask.path)

    def broken(self, flow: Flow) -> None:
        """A connection is gone: so are the bindings that were made over it (RFC 5626 section 4.2.1).

        Those stay that another connection can reach, to their Contact (RFC 3261 section 18.1.1).
        """
        for waiting in self._waiting.values():
            if waiting.ask.flow == flow:
                waiting.is_broken = True
        for aor in self.flows.broken(flow, self._sip.now):
            self._need.unregister(aor, flow)

    def _note_flow(self, waiting: _Waiting, answer: Registered, now: float) -> None:
        ask = waiting.ask
        if not ask.flow.connection:
            self._note_datagrams(ask, answer, now)
            return
        wanted = any(contact.expires_s != 0 for contact in ask.contacts)
        until = now + max((binding.expires_s for binding in answer.bindings), default=0)
        lasting = not answer.outbound and all(
            self._sip.can_reach(contact.uri, ask.flow) for contact in ask.contacts if contact.expires_s != 0
        )
        if wanted and waiting.is_broken:
            if not lasting:
                self._need.unregister(ask.aor, ask.flow)
        elif wanted:
            self.flows.bind(ask.flow, ask.aor, until, lasting=lasting)
        elif ask.remove_all or (ask.contacts and not answer.bindings):
            self.flows.unbind(ask.flow, ask.aor)

    def _note_datagrams(self, ask: Register, answer: Registered, now: float) -> None:
        keepalive = self._need.keepalive
        if keepalive is None or not (ask.contacts or ask.remove_all):
            return
        lasting = [contact.uri for contact in ask.contacts if contact.expires_s != 0]
        kept = [uri for uri in lasting if keepalive.keeps(ask.flow, uri, ask.path)]
        if kept and answer.bindings:
            until = now + max(binding.expires_s for binding in answer.bindings)
            keepalive.registered(ask.aor, ask.flow, kept[0], until)
        elif not lasting:
            keepalive.unregistered(ask.aor, ask.flow)

    def _respond(
        self, key: ServerKey, request: Request, flow: Flow, answer: Registered, path: Sequence[str] = ()
    ) -> None:
        status = answer.status
        self.results[status] = self.results.get(status, 0) + 1
        response = response_to(request, status, answer.reason, self._sip.tag())
        headers = response.headers
        headers.append("Date", date_value(self._sip.wall_s))  # RFC 3261 section 10.3 step 8
        if status == 200:
            self._list_bindings(headers, answer, path)
        elif status == 401:
            source, agent = self._need.challenges.nonce_source(flow), request.first("User-Agent") or ""
            for value in self._need.challenges.challenge(self._sip.wall_s, source, agent, stale=answer.stale):
                headers.append("WWW-Authenticate", value)
        elif status == 423:
            headers.append("Min-Expires", str(answer.min_expires_s))
        if answer.retry_after_s:
            headers.append("Retry-After", str(answer.retry_after_s))
        self._sip.respond(key, response)

    @staticmethod
    def _list_bindings(headers: Headers, answer: Registered, path: Sequence[str]) -> None:
        for binding in answer.bindings:
            of, device = binding, (binding.sip_instance, binding.reg_id)
            headers.append("Contact", contact_value(of.uri, of.q_thousandths, of.expires_s, *device))
        for value in path:
            headers.append("Path", value)
        if answer.outbound:
            headers.append("Require", "outbound")
            headers.append("Flow-Timer", str(wire.FLOW_TIMER_S))
        headers.append("Supported", "path, outbound")
        headers.append("Server", wire.PRODUCT)

    def _path_of(self, request: Request, flow: Flow) -> list[str]:
        """The Path of a REGISTER, where a proxy that we know sent it; the 200 shows which is kept (RFC 3327 5.3)."""
        path = request.headers.listed("Path")
        if path and not self._need.config.proxies.covers(flow.remote.host):
            self._need.counters.paths_ignored += 1
            return []
        return path

    def _read(self, request: Request, flow: Flow) -> Register:
        """The REGISTER in the registrar's words. Raises RemoteError (400, 416)."""
        headers = request.headers
        to = Uri.parse(NameAddr.parse(request.first("To") or "").uri)
        if not to.is_sip:
            raise RemoteError("an address-of-record that is no SIP URI")
        contacts = headers.listed("Contact")
        remove_all = contacts == ["*"]
        if ("*" in contacts and not remove_all) or (remove_all and request.first("Expires") != "0"):
            raise RemoteError("Contact: * goes alone and with Expires: 0")
        if len(contacts) > MAX_CONTACTS:
            raise RemoteError(f"{len(contacts)} contacts", 403)
        path = self._path_of(request, flow)
        asked = [] if remove_all else [RegisterContact.parse(value) for value in contacts]
        if not _wants_outbound(request, asked):
            asked = [replace(contact, reg_id=0) if contact.reg_id else contact for contact in asked]
        elif _first_hop_lacks_outbound(request, path):
            raise RemoteError("first hop lacks outbound support", 439)
        default = request.first("Expires")
        if default is not None:
            expires_s = expires_of(default.partition(";")[0])
            asked = [replace(of, expires_s=expires_s) if of.expires_s is None else of for of in asked]
        return Register(
            aor=self._need.domains.aor_of(to),
            contacts=asked,
            remove_all=remove_all,
            call_id=request.call_id,
            cseq=request.cseq_number,
            flow=flow,
            nonce_source=self._need.challenges.nonce_source(flow),
            path=path,
            user_agent=(request.first("User-Agent") or "")[:128],
            authorization=self._need.challenges.credentials(request, "Authorization"),
            body=request.body,
        )


def _wants_outbound(request: Request, contacts: list[RegisterContact]) -> bool:
    """Whether a phone asks for outbound, by reg-id and option tag; else reg-id is ignored (RFC 5626 section 6)."""
    if not any(contact.reg_id for contact in contacts):
        return False
    headers = request.headers
    return "outbound" in headers.tokens("Supported") or "outbound" in headers.tokens("Require")


def _first_hop_lacks_outbound(request: Request, path: list[str]) -> bool:
    """Whether it came through a first hop that does not know outbound (RFC 5626 section 6)."""
    if len(request.headers.listed("Via")) < 2:
        return False
    try:
        return not path or "ob" not in Uri.parse(NameAddr.parse(path[-1]).uri).params
    except RemoteError:
        return True

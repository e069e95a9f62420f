"""Admission: what may pass before there is a call. Pure: requests and time in, refusals out.

All that is refused here is answered without a transaction (RFC 3261 section 8.2.7): once for each time that it comes,
with no more than three times its octets, and nothing is remembered. What goes on is an INVITE, MESSAGE or REGISTER
whose credentials hold a nonce that this product sent to the address from which they come: who made its source up has
none. Whether they are right the registrar says; until then a request of a source that proved nobody lately leaves a
part of the transaction table free.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbx_signaling.border import wire
from pbx_signaling.border.asserted import claim_of, insists_in_vain, privacy_of
from pbx_signaling.calls.signals import Limited
from pbx_signaling.domains import Domains, is_plain
from pbx_signaling.legs import body, session
from pbx_signaling.router.quirk import offered
from pbx_signaling.router.sources import UNREAD_AFTER, Bucket, Sources
from pbx_signaling.users.entry import Attempt
from pbx_sip.address import Transport, network_of
from pbx_sip.auth.digest import Challenge, Credentials, account_of, select
from pbx_sip.auth.nonce import LENGTH as NONCE_LENGTH
from pbx_sip.auth.nonce import NonceVerdict
from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.glimpse import Glimpse, glimpse
from pbx_sip.message.message import Message, Request, Response, put_to_tag, response_to
from pbx_sip.message.parse import MAX_MESSAGE, parse
from pbx_sip.message.serialize import serialize
from pbx_sip.message.uri import Uri
from pbx_sip.transaction.key import reply_flow, server_key, take_via

if TYPE_CHECKING:
    from pbx_signaling.border.asserted import Claim
    from pbx_signaling.config import CoreConfig
    from pbx_signaling.identity import Identity
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.router.router import Core
    from pbx_signaling.users.calls import House
    from pbx_sip.address import Flow
    from pbx_sip.auth.nonce import NonceMinter

STARTS: Final = (
    ("SIP/2.0 407 Proxy Authentication Required\r\n", "Proxy-Authenticate: "),
    ("SIP/2.0 401 Unauthorized\r\n", "WWW-Authenticate: "),
)
"""Status line and header of a challenge: to a call, to a REGISTER."""
EMPTY_BODY: Final = "Content-Length: 0\r\n\r\n"
GLANCED: Final = (b"INVITE ", b"REGISTER ", b"MESSAGE ")
"""How a datagram begins at which `Gate.glance` looks."""
CHALLENGED: Final = frozenset({"INVITE", "MESSAGE", "OPTIONS", "REGISTER"})
"""What needs credentials outside of a dialog; OPTIONS where it asks about a user."""
TAKES_SDP: Final = frozenset({"application/sdp", "application/*", "*/*"})
"""Accept values of a caller that an answer of ours fits."""
PROVED_SHARE: Final = 0.25
"""Of the transaction table, kept for requests of sources that proved a user lately and for those inside dialogs.
Threat: strangers who answer challenges with wrong passwords from many addresses of their own."""
GAIN_MAX: Final = 3
"""Octets of an answer to a stranger's datagram, as a multiple of the datagram's. Threat: answers that go to an address
which only its forged source names; RFC 9000 section 8.1 has the same figure."""
OPTIONAL: Final = frozenset({"Server", "Accept", "Supported", "Allow", "Retry-After", "Unsupported", "Warning"})
"""What an answer that would be too long goes without, before it is not sent at all."""
RETRY_AFTER_S: Final = 5
TRUSTED: Final = "trusted"
"""To whom nonces for peers that speak for many are sent: a phone's next request may come through another of them."""
NONCE_WITHIN: Final = 8_192
"""Octets of a muted source's datagram in which a nonce is looked for."""
DIALOG_BURST_S: Final = 5.0
"""How many seconds' requests a dialog may send at once: digits dialled, a reconnecting phone."""
DISPLAY_MAX: Final = 128
"""Characters of a caller's own display name that its callee is shown; as many as an account's may have."""
MAX_BUCKETS: Final = 10_000
"""Sources remembered for rate limits. Threat: spoofed sources filling memory; the oldest are dropped."""


_NONCE: Final = re.compile(rf'(?<![^\s,])nonce\s*=\s*"?([0-9a-f]{{{NONCE_LENGTH}}})(?![^\s,"])', re.IGNORECASE)
"""A nonce that may be ours, found without parsing the credentials around it."""


@dataclass(slots=True)
class _Proof:
    """What the gate can tell of a request's credentials before anybody looks its user up."""

    value: str
    """The credentials for our realm; empty where there are none."""
    nonce: str
    """Their nonce, where it was sent to this source and is young enough: the source is no forged one. Else empty:
    another challenge is the answer, and nothing is counted."""
    source: str
    """To whom it must have been sent."""


@dataclass(slots=True)
class Gate:
    """Admission of one instance."""

    config: CoreConfig
    nonces: NonceMinter
    domains: Domains = field(init=False)
    sources: Sources = field(init=False)
    _refusals: dict[str, Bucket] = field(default_factory=dict)
    _texts: dict[tuple[tuple[str, ...], bool], list[tuple[str, str]]] = field(default_factory=dict)
    """Challenges without their nonce: as many as there are choices of algorithms."""
    _calls: Bucket = field(init=False)
    """Call attempts of all sources together."""
    _sent_last: tuple[str, str, float] = ("", "", 0.0)
    """The nonce that was found good last, its source, and when."""

    def __post_init__(self) -> None:
        config = self.config
        self.domains = Domains(config.domain, config.aliases)
        self.sources = Sources(config.source_requests_per_s, config.source_burst)
        self._calls = Bucket(config.calls_per_s, 0.0)

    def glance(self, data: bytes, flow: Flow, core: Core) -> tuple[bytes, Flow] | None:
        """The answer of `screen` to a request that plainly holds no nonce sent to its source, and where it goes.

        The request is not read whole.

        None: it must be read. What comes to an answer here is what floods are made of.
        """
        if not self.config.authenticate or not data.startswith(GLANCED) or self._plainly_holds_nonce(data, flow, core):
            return None
        seen = glimpse(data)
        if seen is None:
            return None
        request = seen.request
        value = self._own(seen.credentials)
        source = self.nonce_source(flow)
        if value and self._nonce_sent(_NONCE.search(value), source, core):
            return None
        via = take_via(request, flow)
        if core.layer.knows(server_key(request, via)):
            return None
        core.counters.count(request.method)
        if not core.border.trusts(flow) and not self.sources.admits(flow.remote, core.now):
            core.counters.requests_limited += 1
            response = self.unavailable(request)
        elif self._is_closed(request, core):
            response = self.unavailable(request)
        else:
            asked = len(data) if flow.transport is Transport.UDP else MAX_MESSAGE
            octets = self._challenge_at_once(seen, asked, source, core, stale=bool(value))
            return octets, reply_flow(via, flow)
        put_to_tag(response, self._stateless_tag(request))
        return self.answer(response, flow, len(data)), reply_flow(via, flow)

    def _challenge_at_once(self, seen: Glimpse, asked: int, source: str, core: Core, *, stale: bool) -> bytes:
        """The octets of `_challenged`, made without a response in between: what a flood costs is mostly this."""
        request = seen.request
        tag = self._stateless_tag(request)
        head = "".join(
            [
                f"{name}: {value};tag={tag}\r\n" if name == "To" else f"{name}: {value}\r\n"
                for name, value in request.headers
            ]
        )
        start, header = STARTS[request.method == "REGISTER"]
        texts = self._challenges(seen.user_agent, stale)
        length = len(start) + len(head) + len(EMPTY_BODY)
        length += sum(len(header) + len(before) + NONCE_LENGTH + len(behind) + 2 for before, behind in texts)
        if length > GAIN_MAX * asked:
            response = self._challenged(request, core, source, seen.user_agent, stale=stale)
            put_to_tag(response, tag)
            return self._shortened(response, GAIN_MAX * asked)
        core.counters.challenges += 1
        nonce = self.nonces.mint(core.wall_s, source)
        values = "".join([f"{header}{before}{nonce}{behind}\r\n" for before, behind in texts])
        return f"{start}{head}{values}{EMPTY_BODY}".encode()

    def screen(self, request: Request, flow: Flow, core: Core, octets: int) -> bytes | None:
        """The stateless answer to a request that has no transaction yet (empty: none); None: it goes on, in one.

        What belongs to a dialog of ours costs its source nothing, but its dialog; what says so of one that we do not
        know, and a CANCEL of nothing, costs as much as a request outside of any.
        """
        if request.to_tag:
            leg = core.legs.get(request.to_tag)
            if leg is not None and leg.owns(request):
                return self._inside(request, leg, core)
        response = self._outside(request, flow, core)
        if response is None:
            return None
        put_to_tag(response, self._stateless_tag(request))
        return self.answer(response, flow, octets)

    def _inside(self, request: Request, leg: Leg, core: Core) -> bytes | None:
        """What a dialog's requests beyond its budget get: 503, and soon nothing; a BYE always goes on."""
        rate = self.config.dialog_requests_per_s
        if not rate or request.method == "BYE":
            return None
        burst = rate * DIALOG_BURST_S
        bucket = leg.budget
        if bucket is None:
            bucket = leg.budget = Bucket(burst, core.now)
        if bucket.take(rate, burst, core.now):
            return None
        core.counters.requests_limited += 1
        if bucket.refused > UNREAD_AFTER:
            return b""
        response = response_to(request, 503)
        response.headers.append("Retry-After", "1")
        return serialize(response)

    def _outside(self, request: Request, flow: Flow, core: Core) -> Response | None:
        value, source = "", ""
        if request.method in CHALLENGED and self.config.authenticate:
            value = self.credentials(
                request, "Authorization" if request.method == "REGISTER" else "Proxy-Authorization"
            )
            source = self.nonce_source(flow)
        nonce = self._nonce_sent(_NONCE.search(value), source, core) if value else ""
        is_known = core.border.trusts(flow)
        if not is_known and not self.sources.admits(flow.remote, core.now, answers=bool(nonce)):
            core.counters.requests_limited += 1
            return self.unavailable(request)
        return self._refusal(request, flow, core) or self._unproved(request, flow, core, _Proof(value, nonce, source))

    def _refusal(self, request: Request, flow: Flow, core: Core) -> Response | None:
        """What is refused whoever sends it; and OPTIONS to the server, which is answered whoever sends it."""
        method = request.method
        if request.to_tag or method == "CANCEL":
            return response_to(request, 481)
        refusal = self._unusable(request)
        if refusal is not None:
            return refusal
        if method == "OPTIONS" and not is_to_user(request, core.instance):
            return self._options(request, flow, core)
        if method in ("BYE", "PRACK", "UPDATE", "INFO"):
            return response_to(request, 481)
        return None if method in CHALLENGED else wire.not_allowed(request)

    def _unproved(self, request: Request, flow: Flow, core: Core, proof: _Proof) -> Response | None:
        """A stateless answer to what wants a call, a binding or a message passed on: 503, a challenge, 4xx."""
        if self._is_closed(request, core):
            return self.unavailable(request)
        if self.config.authenticate and not proof.nonce:
            # Also after a change of the key: the phone is asked again, its user is not (RFC 7616 section 3.3).
            agent = request.first("User-Agent") or ""
            return self._challenged(request, core, proof.source, agent, stale=bool(proof.value))
        if self.config.authenticate:
            try:
                credentials = Credentials.parse(proof.value)
            except RemoteError:
                return response_to(request, 400, "Bad Credentials")
            if credentials.nonce != proof.nonce or not self._offers(credentials):
                # RFC 8760 section 2.3: credentials that are not acceptable are met with a challenge.
                agent = request.first("User-Agent") or ""
                return self._challenged(request, core, proof.source, agent, stale=False)
        if self._is_crowded(flow, core):
            core.layer.refused += 1
            return self.unavailable(request)
        if request.method != "INVITE":
            return None
        refusal = self._bad_content(request) or session.refusal(request, self.config.sessions)
        if refusal is None and not self.config.authenticate and not self._takes_call(core.now):
            core.counters.calls_refused += 1
            return self.unavailable(request)
        return refusal

    def _is_closed(self, request: Request, core: Core) -> bool:
        """Whether nobody's request of that kind is taken now."""
        method = request.method
        if method == "REGISTER":
            pending_max = self.config.registrations_pending_max
            return core.registration is None or core.registration.pending >= pending_max
        closed = core.draining or core.stalled or len(core.calls) >= self.config.calls_max
        core.counters.calls_refused += closed
        return closed or (method in ("MESSAGE", "OPTIONS") and core.pager is None)

    def _is_crowded(self, flow: Flow, core: Core) -> bool:
        """Whether the rest of the transaction table is kept for others than this source."""
        if not self.config.authenticate:
            return False
        layer = core.layer
        return layer.active >= layer.limit * (1 - PROVED_SHARE) and not self.sources.is_known(flow.remote, core.now)

    def overload(self, now: float) -> Limited | None:
        """What a caller that proved its user meets where the instance begins too many calls; None: it calls."""
        return None if self._takes_call(now) else Limited(503, "overload", RETRY_AFTER_S)

    def _takes_call(self, now: float) -> bool:
        """Charges the instance for a call attempt, after its proof: nobody unproved uses it up."""
        rate = self.config.calls_per_s
        return not rate or self._calls.take(rate, rate, now)

    def _challenged(self, request: Request, core: Core, source: str, user_agent: str, *, stale: bool) -> Response:
        core.counters.challenges += 1
        status, header = (401, "WWW-Authenticate") if request.method == "REGISTER" else (407, "Proxy-Authenticate")
        response = response_to(request, status)
        for value in self.challenge(core.wall_s, source, user_agent, stale=stale):
            response.headers.append(header, value)
        return response

    def nonce_source(self, flow: Flow) -> str:
        """To whom the nonces of a flow's requests are bound."""
        return TRUSTED if self.speaks_for_many(flow) else network_of(flow.remote.host)

    def speaks_for_many(self, flow: Flow) -> bool:
        """Whether a peer is a proxy or trunk of `PBX_SIP_PROXIES` or `PBX_SIP_TRUSTED`."""
        host = flow.remote.host
        return self.config.proxies.covers(host) or self.config.trusted.covers(host)

    def holds_nonce(self, data: bytes, flow: Flow, core: Core) -> bool:
        """Whether a message, not parsed yet, holds a nonce that was sent to its source."""
        head = data[:NONCE_WITHIN].decode("latin-1")
        return bool(self._nonce_sent(_NONCE.search(head), self.nonce_source(flow), core))

    def _plainly_holds_nonce(self, data: bytes, flow: Flow, core: Core) -> bool:
        """Whether a message holds a nonce that was sent to its source, where it is spelled as most phones spell it.

        A cheap look: what answers a challenge is read whole at once. What it misses is looked at as all else.
        """
        at = data.find(b'nonce="')
        while at > 0 and data[at - 1 : at].isalpha():  # cnonce
            at = data.find(b'nonce="', at + 1)
        if at < 0:
            return False
        nonce = data[at + 7 : at + 7 + NONCE_LENGTH].decode("latin-1")
        return self._is_sent(nonce, self.nonce_source(flow), core)

    def _nonce_sent(self, found: re.Match[str] | None, source: str, core: Core) -> str:
        """The nonce that was found, where it was sent to the source and is young enough; else empty."""
        nonce = found[1] if found is not None else ""
        return nonce if nonce and self._is_sent(nonce, source, core) else ""

    def _is_sent(self, nonce: str, source: str, core: Core) -> bool:
        """Whether a nonce was sent to a source and is young enough; that of one message is asked about twice."""
        asked = (nonce, source, core.now)
        if asked != self._sent_last:
            if self.nonces.check(nonce, core.wall_s, source) is not NonceVerdict.VALID:
                return False
            self._sent_last = asked
        return True

    def _offers(self, credentials: Credentials) -> bool:
        """Whether credentials use what challenges offer, and nothing weaker."""
        config = self.config
        return credentials.algorithm in config.algorithms and (credentials.quality or "none") in config.qop

    def answer(self, response: Response, flow: Flow, asked: int) -> bytes:
        """A stateless response as it is sent to a question of so many octets; empty where it would be too long.

        Over UDP alone: who has a connection to us is where it says.
        """
        data, most = serialize(response), GAIN_MAX * asked
        return data if len(data) <= most or flow.transport.reliable else self._shortened(response, most)

    @staticmethod
    def _shortened(response: Response, most: int) -> bytes:
        """A response of at most so many octets: without what is optional, without its weaker challenges, or none."""
        headers = response.headers
        headers.remove(*OPTIONAL)
        challenges = [item for item in headers.items if item[0].endswith("-Authenticate")]
        while len(data := serialize(response)) > most:
            if len(challenges) < 2:
                return b""
            headers.remove_line(*challenges.pop())  # the weakest that is left
        return data

    def attempt(self, request: Request, flow: Flow, identity: Identity, core: Core | House) -> Attempt:
        """Reads what a call attempt needs. `validate_request` has been called, so URIs and From can be read."""
        uri = Uri.parse(request.uri)
        caller = NameAddr.parse(request.first("From") or "")
        claimed = Uri.parse(caller.uri)
        aor = self._aor_called(uri, claimed.host, core)
        claim = claim_of(request, claimed.host.lower(), trusted=core.border.trusts(flow))
        authorization = self.credentials(request, "Proxy-Authorization") if self.config.authenticate else ""
        return Attempt(
            call_id=identity.call_id(core.now),
            dialled=aor.rpartition("@")[0],
            aor=aor,
            claimed=self._claimed(claim, claimed, authorization),
            display_name=caller.display[:DISPLAY_MAX],
            authorization=authorization,
            uri=request.uri,
            max_forwards=_max_forwards(request) - 1,
            source=flow.remote,
            nonce_source=self.nonce_source(flow),
            claim=claim,
            body=request.body if "auth-int" in authorization.lower() else b"",
        )

    def _aor_called(self, uri: Uri, view: str, core: Core | House) -> str:
        """Whom a Request-URI means; somebody at an address that is not ours is nobody here (RFC 3261 16.4): 404."""
        return self.aor_of(uri) if core.means_us(uri.host, view) else f"{uri.user_unescaped}@{uri.host.lower()}"

    def _claimed(self, claim: Claim, uri: Uri, authorization: str) -> str:
        """The address-of-record that credentials are to prove: that of From, or their own where From tells another.

        From tells nobody where the caller is anonymous; a trusted peer writes there whom it asserts. Another host than
        ours is no account of ours, and what the callee sees as From is written by us anyway.
        """
        is_account = uri.is_sip and self.domains.is_ours(uri.host)
        if authorization and (claim.anonymous or claim.asserted or not is_account):
            with contextlib.suppress(RemoteError):  # the registrar will refuse them
                return account_of(Credentials.parse(authorization).username, self.config.domain)
        with contextlib.suppress(RemoteError):
            return self.aor_of(uri)
        return f"{uri.user_unescaped}@{self.config.domain}"  # a number that is none: of nobody whom credentials prove

    def aor_of(self, uri: Uri) -> str:
        """The address-of-record that a URI means here. Raises ParseError (416)."""
        return self.domains.aor_of(uri)

    def challenge(self, now: float, source: str, user_agent: str = "", *, stale: bool = False) -> list[str]:
        """Values for WWW-Authenticate or Proxy-Authenticate, those that the phone is known to bear (`quirk`)."""
        nonce = self.nonces.mint(now, source)
        return [before + nonce + behind for before, behind in self._challenges(user_agent, stale)]

    def _challenges(self, user_agent: str, stale: bool) -> list[tuple[str, str]]:
        """What stands before and behind the nonce in each challenge."""
        algorithms = offered(user_agent, self.config.algorithms, force=self.config.force_algorithms)
        found = self._texts.get((algorithms, stale))
        if found is None:
            realm, qop = self.config.domain, tuple(name for name in self.config.qop if name != "none")
            made = [Challenge(realm, "\0", algorithm, qop, stale) for algorithm in algorithms]
            found = self._texts[algorithms, stale] = [
                (a, b) for a, _, b in (str(each).partition("\0") for each in made)
            ]
        return found

    def may_record_refusal(self, source: str, now: float) -> bool:
        """Whether an attempt with wrong credentials gets a CDR of its own, or is one of a flood."""
        rate = self.config.refused_records_per_s
        bucket = self._refusals.get(source)
        if bucket is None:
            if len(self._refusals) >= MAX_BUCKETS:
                del self._refusals[next(iter(self._refusals))]
            bucket = self._refusals[source] = Bucket(2 * rate, now)
        return bucket.take(rate, 2 * rate, now)

    def answer_to_garbage(self, data: bytes, error: RemoteError) -> Response | None:
        """A response to a request that cannot be accepted, as far as its Via can be read; never one to an ACK."""
        message: Message | None
        try:
            message = parse(data)
        except RemoteError:
            message = _salvaged(data)
        if not isinstance(message, Request) or message.method == "ACK" or not message.top_via:
            return None
        try:
            return response_to(message, error.status_hint, _phrase(error), self._stateless_tag(message))
        except RemoteError:
            return None

    # --- parts

    def credentials(self, request: Request, name: str) -> str:
        """The credentials for our realm; empty where there are none."""
        return self._own(request.headers.all(name))

    def _own(self, values: list[str]) -> str:
        """The first of several credentials that is for our realm."""
        return select(values, self.config.domain) if values else ""

    def _unusable(self, request: Request) -> Response | None:
        """483, 420 (RFC 3261 sections 16.3 and 8.2.2.3), and 500 (RFC 3323 section 4.2)."""
        if request.method not in ("OPTIONS", "REGISTER") and _max_forwards(request) <= 0:
            return response_to(request, 483)
        if request.method in ("INVITE", "MESSAGE"):
            if insists_in_vain(privacy_of(request)):
                return response_to(request, 500)
            if not self._resolves(request.uri):
                return response_to(request, 416)
        return wire.bad_extension(request, wire.OF_REGISTER if request.method == "REGISTER" else wire.EXTENSIONS)

    def _resolves(self, target: str) -> bool:
        """Whether a Request-URI names somebody, or a number (RFC 3261 section 8.2.2.1)."""
        uri = Uri.parse(target)
        try:
            return is_plain(uri) or bool(self.aor_of(uri))
        except RemoteError:
            return False

    def _bad_content(self, request: Request) -> Response | None:
        """What refuses a body that we cannot carry; 406 where no SDP may be answered (RFC 3261 21.4.7)."""
        refusal = body.refusal(request)
        if refusal is not None:
            return refusal
        accepted = request.headers.tokens("Accept")
        if accepted and not {value.partition(";")[0].strip() for value in accepted} & TAKES_SDP:
            response = response_to(request, 406)
            response.headers.append("Warning", '399 pbx "only application/sdp could be answered"')
            return response
        return None

    def _options(self, request: Request, flow: Flow, core: Core) -> Response:
        """Keep-alive and health (RFC 3261 section 11.2): 503 while draining or without Redis."""
        if core.draining or core.stalled:
            return self.unavailable(request)
        return wire.options_answer(request, core.contact(flow, secure=False))

    def unavailable(self, request: Request) -> Response:
        response = response_to(request, 503, "", self._stateless_tag(request))
        response.headers.append("Retry-After", str(RETRY_AFTER_S))
        return response

    @staticmethod
    def _stateless_tag(request: Request) -> str:
        """The same To-tag for each repetition of a request that gets no transaction (RFC 3261 section 8.2.7)."""
        return hashlib.blake2b(
            f"{request.branch} {request.call_id}".encode(errors="replace"), digest_size=8
        ).hexdigest()


def is_to_user(request: Request, instance: str) -> bool:
    """Whether an OPTIONS asks about a user, and not about the server (RFC 3261 section 11): it, or its Contact."""
    uri = Uri.parse(request.uri)
    return uri.user_unescaped not in ("", instance)


def _max_forwards(request: Request) -> int:
    value = request.first("Max-Forwards")
    return int(value) if value is not None and value.isdecimal() and len(value) <= 10 else 70


def _phrase(error: RemoteError) -> str:
    """What was wrong, as a reason phrase; ours alone, nothing of the peer's."""
    return "" if error.status_hint != 400 else "Bad Request"


def _salvaged(data: bytes) -> Request | None:
    """As much of a broken request as a response is made of: header lines that can be read, up to 32 of them."""
    head = data[:8192].partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape")
    first, _, rest = head.partition("\r\n")
    method, _, target = first.partition(" ")
    if not method.isalpha() or not target.rstrip().upper().endswith(("SIP/2.0", "SIP/3.0", "SIP/7.0")):
        return None
    lines = [line for line in rest.split("\r\n")[:32] if ":" in line and line[:1] not in (" ", "\t")]
    try:
        message = parse(
            f"{method} sip:unknown SIP/2.0\r\n{chr(13) + chr(10)}".encode()[:-2]
            + "\r\n".join(line for line in lines if not line.lower().startswith(("content-length", "l:"))).encode(
                "utf-8", "surrogateescape"
            )
            + b"\r\n\r\n"
        )
    except RemoteError:
        return None
    return message if isinstance(message, Request) else None

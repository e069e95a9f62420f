"""Admission: what may pass before there is a call. Pure: requests and time in, refusals out.

Cheap answers come first and keep no state: a challenge, a limit, an unknown extension. What passes is read once into
an `Attempt`. REGISTER and INVITE without credentials are challenged without a transaction (RFC 3261 section 8.2.7), so
that a flood of them costs no memory.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbx_signaling.call import body, session, wire
from pbx_signaling.call.asserted import claim_of, insists_in_vain, privacy_of
from pbx_signaling.call.entry import Attempt
from pbx_signaling.quirk import offered
from pbx_signaling.sources import Bucket, Sources
from pbx_sip.auth.digest import Challenge, Credentials
from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.message import Message, Request, Response, response_to
from pbx_sip.message.parse import parse
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from pbx_signaling.call.asserted import Claim
    from pbx_signaling.config import CoreConfig
    from pbx_signaling.core import Core
    from pbx_signaling.identity import Identity
    from pbx_sip.address import Flow
    from pbx_sip.auth.nonce import NonceMinter

CHALLENGED: Final = frozenset({"INVITE", "MESSAGE", "REGISTER"})
"""What needs credentials outside of a dialog."""
TAKES_SDP: Final = frozenset({"application/sdp", "application/*", "*/*"})
"""Accept values of a caller that an answer of ours fits."""
MAX_BUCKETS: Final = 10_000
"""Sources remembered for rate limits. Threat: spoofed sources filling memory; the oldest are dropped."""


@dataclass(slots=True)
class Gate:
    """Admission of one instance."""

    config: CoreConfig
    nonces: NonceMinter
    sources: Sources = field(init=False)
    _refusals: dict[str, Bucket] = field(default_factory=dict)
    _calls: Bucket = field(init=False)
    """Call attempts of all sources together."""

    def __post_init__(self) -> None:
        config = self.config
        self.sources = Sources(config.source_requests_per_s, config.source_burst)
        self._calls = Bucket(config.calls_per_s, 0.0)

    def first_look(self, request: Request, flow: Flow, core: Core) -> Response | None:
        """A stateless answer to a request that has no transaction yet; None: let it get one.

        What belongs to a dialog of ours costs its source nothing; what says so of one that we do not know, and a
        CANCEL of nothing, costs as much as a request outside of any.
        """
        if request.to_tag:
            leg = core.legs.get(request.to_tag)
            if leg is not None and leg.owns(request):
                return None
        if not self.sources.admits(flow.remote, core.now):
            core.counters.requests_limited += 1
            return self.unavailable(request)
        if request.to_tag or request.method == "CANCEL":
            return response_to(request, 481, "", self._stateless_tag(request))
        return self._new(request, core) if request.method in CHALLENGED else None

    def _new(self, request: Request, core: Core) -> Response | None:
        """A stateless answer to what wants a call or a binding: 503, or a challenge."""
        invite = request.method != "REGISTER"
        if invite and (core.draining or core.stalled or len(core.calls) >= self.config.calls_max):
            core.counters.calls_refused += 1
            return self.unavailable(request)
        if not self.config.authenticate:
            return self._beyond_rate(request, core)
        name, status = ("Proxy-Authorization", 407) if invite else ("Authorization", 401)
        if self.credentials(request, name):
            return self._beyond_rate(request, core)
        if invite and self._unusable(request) is not None:
            return None  # a transaction answers 420, 483, ... with its retransmissions
        core.counters.challenges += 1
        response = response_to(request, status, "", self._stateless_tag(request))
        header = "Proxy-Authenticate" if invite else "WWW-Authenticate"
        for value in self.challenge(core.wall_s, request.first("User-Agent") or ""):
            response.headers.append(header, value)
        return response

    def _beyond_rate(self, request: Request, core: Core) -> Response | None:
        """503 beyond what this instance takes of calls a second, or of REGISTERs that wait."""
        if request.method == "INVITE":
            rate = self.config.calls_per_s
            if not rate or self._calls.take(rate, rate, core.now):
                return None
            core.counters.calls_refused += 1
        elif (
            request.method != "REGISTER"
            or core.registration is None
            or core.registration.pending < self.config.registrations_pending_max
        ):
            return None
        return self.unavailable(request)

    def second_look(self, request: Request, flow: Flow, core: Core) -> Response | None:
        """The answer to a request outside of a dialog that goes no further; None: it goes on."""
        method = request.method
        refusal = self._unusable(request)
        if refusal is not None:
            return refusal
        if method == "OPTIONS":
            return self._options(request, core)
        if method in ("BYE", "PRACK", "UPDATE", "INFO"):
            return response_to(request, 481)
        if method == "INVITE":
            return self._bad_content(request) or session.refusal(request, self.config.sessions)
        if method == "MESSAGE":
            return None if core.pager is not None else self.unavailable(request)
        if method == "REGISTER":
            return None if core.registration is not None else self.unavailable(request)
        return wire.not_allowed(request)

    def attempt(self, request: Request, flow: Flow, identity: Identity, core: Core) -> Attempt:
        """Reads what a call attempt needs. `validate_request` has been called, so URIs and From can be read."""
        uri = Uri.parse(request.uri)
        caller = NameAddr.parse(request.first("From") or "")
        claimed = Uri.parse(caller.uri)
        claim = claim_of(request, claimed.host.lower(), trusted=core.border.trusts(flow))
        authorization = self.credentials(request, "Proxy-Authorization") if self.config.authenticate else ""
        return Attempt(
            call_id=identity.call_id(core.now),
            dialled=uri.user_unescaped or "",
            aor=self.aor_of(uri),
            claimed=self._claimed(claim, claimed, authorization),
            display_name=caller.display,
            authorization=authorization,
            uri=request.uri,
            max_forwards=_max_forwards(request) - 1,
            source=flow.remote,
            claim=claim,
            body=request.body if "auth-int" in authorization else b"",
        )

    def _claimed(self, claim: Claim, uri: Uri, authorization: str) -> str:
        """The address-of-record that credentials are to prove: that of From, or their own where From tells another.

        From tells nobody where the caller is anonymous; a trusted peer writes there whom it asserts.
        """
        if authorization and (claim.anonymous or claim.asserted):
            with contextlib.suppress(RemoteError):  # the registrar will refuse them
                return f"{Credentials.parse(authorization).username}@{self.config.domain}"
        return self.aor_of(uri)

    def aor_of(self, uri: Uri) -> str:
        """The address-of-record that a URI means here: an address literal or "localhost" stands for our domain."""
        host = uri.host.lower()
        if host == "localhost" or wire.is_literal(host):
            host = self.config.domain
        return f"{uri.user_unescaped or ''}@{host}"

    def challenge(self, now: float, user_agent: str = "", *, stale: bool = False) -> list[str]:
        """Values for WWW-Authenticate or Proxy-Authenticate, strongest first; those that the phone can bear."""
        nonce = self.nonces.mint(now)
        realm = self.config.domain
        return [
            str(Challenge(realm=realm, nonce=nonce, algorithm=algorithm, qop=self.config.qop, stale=stale))
            for algorithm in offered(user_agent, self.config.algorithms)
        ]

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
        mark = f'realm="{self.config.domain}"'
        for value in request.headers.all(name):
            if mark in value or f"realm={self.config.domain}" in value:
                return value
        return ""

    def _unusable(self, request: Request) -> Response | None:
        """483, 420 (RFC 3261 sections 16.3 and 8.2.2.3), and 500 (RFC 3323 section 4.2)."""
        if request.method not in ("OPTIONS", "REGISTER") and _max_forwards(request) <= 0:
            return response_to(request, 483)
        if request.method in ("INVITE", "MESSAGE") and insists_in_vain(privacy_of(request)):
            return response_to(request, 500)
        required = request.headers.tokens("Require")
        unsupported = sorted(
            required - wire.EXTENSIONS - ({"path", "outbound"} if request.method == "REGISTER" else set())
        )
        if unsupported:
            response = response_to(request, 420)
            response.headers.append("Unsupported", ", ".join(unsupported))
            return response
        return None

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

    def _options(self, request: Request, core: Core) -> Response:
        """Keep-alive and health (RFC 3261 section 11.2): 503 while draining or without Redis."""
        if core.draining or core.stalled:
            return self.unavailable(request)
        return wire.options_answer(request)

    def unavailable(self, request: Request) -> Response:
        response = response_to(request, 503, "", self._stateless_tag(request))
        response.headers.append("Retry-After", "5")
        return response

    @staticmethod
    def _stateless_tag(request: Request) -> str:
        """The same To-tag for each repetition of a request that gets no transaction (RFC 3261 section 8.2.7)."""
        return hashlib.blake2b(
            f"{request.branch} {request.call_id}".encode(errors="replace"), digest_size=8
        ).hexdigest()


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

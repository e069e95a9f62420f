"""Admission: what may pass before there is a transaction. Pure: requests and the load in; Pass, Refuse or Drop out.

All that is refused here is answered without a transaction (RFC 3261 section 8.2.7): once for each time that it comes,
with no more than three times its octets, and nothing is remembered. What goes on has credentials that hold a nonce of
this product, sent to the address from which they come: who made its source up has none. Whether they are right the
registrar says; until then a request of a source that proved nobody lately leaves a part of the transaction table free.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbx_signaling.border import wire
from pbx_signaling.router.garbage import read_as_far_as_it_goes
from pbx_signaling.router.sources import UNREAD_AFTER
from pbx_signaling.users.refusals import exhausted, unavailable
from pbx_sip.address import Transport
from pbx_sip.auth.digest import Credentials
from pbx_sip.auth.nonce import LENGTH as NONCE_LENGTH
from pbx_sip.errors import RemoteError
from pbx_sip.message.message import Request, Response, put_to_tag, response_to
from pbx_sip.message.parse import MAX_MESSAGE
from pbx_sip.message.serialize import serialize
from pbx_sip.swift import swift
from pbx_sip.transaction.key import reply_flow, via_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbx_signaling.border.border import Border
    from pbx_signaling.border.challenge import Challenges
    from pbx_signaling.bucket import Bucket
    from pbx_signaling.counters import Counters
    from pbx_signaling.router.sources import Sources
    from pbx_signaling.users.user import Load, User
    from pbx_sip.address import Flow
    from pbx_sip.message.glimpse import Glimpse

STARTS: Final = {
    407: ("SIP/2.0 407 Proxy Authentication Required\r\n", "Proxy-Authenticate: "),
    401: ("SIP/2.0 401 Unauthorized\r\n", "WWW-Authenticate: "),
}
"""Status line and header of a challenge."""
ANSWERS: Final = {407: "Proxy-Authorization", 401: "Authorization"}
"""Where its answer stands."""
EMPTY_BODY: Final = "Content-Length: 0\r\n\r\n"
PROVED_SHARE: Final = 0.25
"""Of the transaction table, kept for requests of sources that proved a user lately and for those inside dialogs.
Threat: strangers who answer challenges with wrong passwords from many addresses of their own."""
GAIN_MAX: Final = 3
"""Octets of an answer to a stranger's datagram, as a multiple of the datagram's. Threat: answers that go to an address
which only its forged source names; RFC 9000 section 8.1 has the same figure."""
OPTIONAL: Final = frozenset({"Server", "Accept", "Supported", "Allow", "Retry-After", "Unsupported", "Warning"})
"""What an answer that would be too long goes without, before it is not sent at all."""


@dataclass(frozen=True, slots=True)
class Pass:
    """It goes on, in a transaction."""


@swift
@dataclass(frozen=True, slots=True)
class Refuse:
    """It is answered so, without a transaction."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """It gets no answer."""


Verdict = Pass | Refuse | Drop
PASS: Final = Pass()
DROP: Final = Drop()


class Admission:
    """Admission of one instance."""

    def __init__(
        self,
        users: Mapping[str, User],
        within: frozenset[str],
        challenges: Challenges,
        sources: Sources,
        border: Border,
        counters: Counters,
    ) -> None:
        """`users`: who takes which method outside of dialogs; `within`: methods that mean something only inside."""
        self._users = users
        self._within = within
        self._challenges = challenges
        self._sources = sources
        self._border = border
        self._counters = counters
        self.glanced = tuple(f"{method} ".encode() for method, user in users.items() if user.always_proves)
        """How a datagram begins at which `glance` may look: what needs credentials whatever else stands in it."""
        allowed = wire.ALLOW.split(", ")
        self._allow = ", ".join([*allowed, *(method for method in users if method not in allowed)])

    # --- before a message is read

    def is_unread(self, data: bytes, flow: Flow, load: Load) -> bool:
        """Whether a message is dropped as it is: its source went on after it was refused."""
        sources = self._sources
        return sources.is_unread(data, flow.remote, load.now) and not self._challenges.holds_nonce(
            data, flow, load.now, load.wall_s
        )

    @property
    def leaves_unread(self) -> bool:
        """Whether there is any such source."""
        return bool(self._sources.unread)

    def must_be_read(self, data: bytes, flow: Flow, load: Load) -> bool:
        """Whether `glance` has nothing to say about a message."""
        challenges = self._challenges
        return (
            not challenges.config.authenticate
            or not data.startswith(self.glanced)
            or challenges.plainly_holds_nonce(data, flow, load.now, load.wall_s)
        )

    def glance(self, seen: Glimpse, octets: int, flow: Flow, load: Load) -> Verdict:
        """What `outside` says of a request that plainly holds no nonce sent to its source, which is not read whole.

        Pass: it must be read. What is answered here is what floods are made of.
        """
        request = seen.request
        user = self._users[request.method]
        challenges = self._challenges
        value = challenges.own(seen.credentials)
        source = challenges.nonce_source(flow)
        if not user.needs_auth(request) or (value and challenges.nonce_sent(value, source, load.now, load.wall_s)):
            return PASS
        self._counters.count(request.method)
        if not self._border.trusts(flow) and not self._sources.admits(flow.remote, load.now):
            self._counters.requests_limited += 1
        elif user.takes(load):
            return self._challenge_at_once(seen, octets, flow, source, load, stale=bool(value))
        else:
            self._closed(user)
        return self._sent(unavailable(request, stateless_tag(request)), flow, octets)

    def _challenge_at_once(
        self, seen: Glimpse, octets: int, flow: Flow, source: str, load: Load, *, stale: bool
    ) -> Verdict:
        """The octets of `_challenged`, made without a response in between: what a flood costs is mostly this."""
        request = seen.request
        asked = octets if flow.transport is Transport.UDP else MAX_MESSAGE
        tag = stateless_tag(request)
        head = "".join(
            [
                f"{name}: {value};tag={tag}\r\n" if name == "To" else f"{name}: {value}\r\n"
                for name, value in request.headers
            ]
        )
        start, header = STARTS[self._users[request.method].challenge]
        texts = self._challenges.texts(seen.user_agent, stale)
        length = len(start) + len(head) + len(EMPTY_BODY)
        length += sum(len(header) + len(before) + NONCE_LENGTH + len(behind) + 2 for before, behind in texts)
        if length > GAIN_MAX * asked:
            response = self._challenged(request, load, source, seen.user_agent, stale=stale)
            put_to_tag(response, tag)
            return _verdict(_shortened(response, GAIN_MAX * asked))
        self._counters.challenges += 1
        nonce = self._challenges.mint(load.wall_s, source)
        values = "".join([f"{header}{before}{nonce}{behind}\r\n" for before, behind in texts])
        return Refuse(f"{start}{head}{values}{EMPTY_BODY}".encode())

    def carries(self, flow: Flow, now: float) -> bool:
        """Charges a source for a message that seems to be another replica's; False: drop it."""
        return self._sources.carries(flow.remote, now)

    # --- requests that belong to no transaction yet

    def inside(self, request: Request, spent: Bucket | None) -> Verdict:
        """What a dialog's requests beyond its budget get: 503, and soon nothing.

        What belongs to a dialog of ours costs its source nothing, but its dialog. `spent`: what the dialog has used up.
        """
        if spent is None:
            return PASS
        self._counters.requests_limited += 1
        if spent.refused > UNREAD_AFTER:
            return DROP
        response = response_to(request, 503)
        response.headers.append("Retry-After", "1")
        return Refuse(serialize(response))

    def outside(self, request: Request, flow: Flow, octets: int, load: Load) -> Verdict:
        """What becomes of a request outside of the dialogs that there are; of so many octets."""
        response = self._refused(request, flow, load)
        if response is None:
            return PASS
        put_to_tag(response, stateless_tag(request))
        return self._sent(response, flow, octets)

    def _refused(self, request: Request, flow: Flow, load: Load) -> Response | None:
        user = self._users.get(request.method)
        challenges = self._challenges
        value = source = nonce = ""
        needs_auth = user is not None and challenges.config.authenticate and user.needs_auth(request)
        if user is not None and challenges.config.authenticate:
            value = challenges.credentials(request, ANSWERS[user.challenge])
            source = challenges.nonce_source(flow)
            nonce = challenges.nonce_sent(value, source, load.now, load.wall_s) if value else ""
        if not self._border.trusts(flow) and not self._sources.admits(flow.remote, load.now, answers=bool(nonce)):
            self._counters.requests_limited += 1
            return unavailable(request)
        if request.to_tag or request.method == "CANCEL":
            return response_to(request, 481)  # of a dialog, or an INVITE, that we do not know
        if user is None:
            return self._of_nobody(request)
        refusal = user.refusal(request, flow, load)
        if refusal is not None:
            return refusal
        if not user.takes(load):
            self._closed(user)
            return unavailable(request)
        if needs_auth:
            refusal = self._unproved(request, value, nonce, source, load)
        if refusal is None and challenges.config.authenticate and self._is_crowded(flow, load):
            self._counters.crowded_out += 1
            return unavailable(request)
        return refusal or user.misfit(request, load)

    def _unproved(self, request: Request, value: str, nonce: str, source: str, load: Load) -> Response | None:
        """A challenge, or 400, for what does not prove that its source is no forged one."""
        agent = request.first("User-Agent") or ""
        if not nonce:
            # Also after a change of the key: the phone is asked again, its user is not (RFC 7616 section 3.3).
            return self._challenged(request, load, source, agent, stale=bool(value))
        try:
            credentials = Credentials.parse(value)
        except RemoteError:
            return response_to(request, 400, "Bad Credentials")
        if credentials.nonce != nonce or not self._challenges.offers(credentials):
            # RFC 8760 section 2.3: credentials that are not acceptable are met with a challenge.
            return self._challenged(request, load, source, agent, stale=False)
        return None

    def _closed(self, user: User) -> None:
        if user.challenge != 401:
            self._counters.calls_refused += 1

    def _is_crowded(self, flow: Flow, load: Load) -> bool:
        """Whether the rest of the transaction table is kept for others than this source."""
        return load.crowded and not self._sources.is_known(flow.remote, load.now)

    def _challenged(self, request: Request, load: Load, source: str, user_agent: str, *, stale: bool) -> Response:
        self._counters.challenges += 1
        status = self._users[request.method].challenge
        response = response_to(request, status)
        for value in self._challenges.challenge(load.wall_s, source, user_agent, stale=stale):
            response.headers.append(STARTS[status][1][:-2], value)
        return response

    def _of_nobody(self, request: Request) -> Response:
        """What a method gets that has no user outside of dialogs: 481, 405, or 501 where nobody knows it.

        RFC 3261 sections 8.2.1 and 21.5.2.
        """
        refusal = exhausted(request) or wire.bad_extension(request)
        if refusal is not None:
            return refusal
        if request.method in self._within:
            return response_to(request, 481)
        response = response_to(request, 405 if request.method in wire.KNOWN_METHODS else 501)
        response.headers.append("Allow", self._allow)
        return response

    # --- what is no message

    def garbage(self, data: bytes, error: RemoteError, flow: Flow, load: Load) -> tuple[Verdict, Flow] | None:
        """What becomes of a message that cannot be accepted, and where its answer goes; never one to an ACK.

        None: it cannot be answered, for its Via cannot be read (RFC 3261 section 16.3, RFC 4475).
        """
        self._counters.messages_rejected += 1
        if not self._border.trusts(flow) and not self._sources.admits(flow.remote, load.now):
            return None
        request = read_as_far_as_it_goes(data)
        if request is None:
            return None
        reason = "" if error.status_hint != 400 else "Bad Request"  # ours alone, nothing of the peer's
        try:
            response = response_to(request, error.status_hint, reason, stateless_tag(request))
        except RemoteError:
            return None
        return self._sent(response, flow, len(data)), reply_flow(via_of(response), flow)

    # --- parts

    def _sent(self, response: Response, flow: Flow, asked: int) -> Verdict:
        """A stateless response as it is sent to a question of so many octets; dropped where it would be too long.

        Over UDP alone: who has a connection to us is where it says.
        """
        data, most = serialize(response), GAIN_MAX * asked
        return _verdict(data if len(data) <= most or flow.transport.reliable else _shortened(response, most))


def _verdict(octets: bytes) -> Verdict:
    return Refuse(octets) if octets else DROP


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


def stateless_tag(request: Request) -> str:
    """The same To-tag for each repetition of a request that gets no transaction (RFC 3261 section 8.2.7)."""
    return hashlib.blake2b(f"{request.branch} {request.call_id}".encode(errors="replace"), digest_size=8).hexdigest()

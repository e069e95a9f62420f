"""Small translations between SIP messages and call-control values, shared by the legs."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Collection

    from pbx_signaling.calls.signals import Target
    from pbx_sip.usage.output import Pairs

ALLOW: Final = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, MESSAGE, REGISTER"
ACCEPT: Final = "application/sdp, multipart/mixed"
SUPPORTED: Final = "100rel, timer"
EXTENSIONS: Final = frozenset({"100rel", "timer"})
"""Option tags that a Require may name (RFC 3261 section 8.2.2.3)."""
OF_REGISTER: Final = EXTENSIONS | {"path", "outbound"}
"""Those that one of a REGISTER may name."""
PRODUCT: Final = "sip-pbx"
_AGENT: Final = (("User-Agent", PRODUCT),)
_TARGETING: Final = (("Allow", ALLOW), ("Supported", SUPPORTED), *_AGENT)
INVITATION_MAX_S: Final = 3_600
"""Beyond, an Expires says nothing: nobody rings so long, and a timer of years is only kept."""
FLOW_TIMER_S: Final = 120
"""How often a phone is to send something over its connection (RFC 5626 section 4.4.1: its own recommendation)."""


def fields_of(method: str) -> Pairs:
    """What each request of ours inside a dialog says of us."""
    return _TARGETING if method in ("INVITE", "UPDATE") else _AGENT


def retry_after_s(chance: float) -> int:
    """Seconds to wait after glare with a request of one's own (RFC 3261 section 14.2: at random, 10 at the most).

    Not 0: that would say nothing, and many would come back at once. `chance`: a random number from 0 to 1.
    """
    return 1 + min(9, int(10 * chance))


def quoted(text: str) -> str:
    """Text fit for a quoted-string: printable, escaped."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean.replace("\\", "\\\\").replace('"', '\\"')


def seconds(value: str | None) -> int:
    """The delta-seconds at the head of a Retry-After or Expires value; 0 where there is none."""
    digits = (value or "").partition(";")[0].partition("(")[0].strip()
    return int(digits) if digits.isdecimal() and len(digits) <= 9 else 0


def invitation_s(invite: Request) -> int:
    """How long an INVITE is of use to its caller (RFC 3261 section 13.3.1); 0 where it does not say, or for hours."""
    value = seconds(invite.first("Expires"))
    return value if value <= INVITATION_MAX_S else 0


def options_answer(request: Request, contact: str = "") -> Response:
    """200 to an OPTIONS: what we can do, and where we are (RFC 3261 section 11.2)."""
    response = response_to(request, 200)
    put_capabilities(response, contact)
    return response


def put_capabilities(response: Response, contact: str = "") -> None:
    """Says in the 200 to an OPTIONS what a call through us can do."""
    headers = response.headers
    headers.append("Allow", ALLOW)
    headers.append("Accept", ACCEPT)
    headers.append("Supported", SUPPORTED)
    headers.append("Server", PRODUCT)
    if contact:
        headers.append("Contact", contact)


def not_allowed(request: Request) -> Response:
    """405 with what is allowed, or 501 for a method that nobody knows (RFC 3261 sections 8.2.1 and 21.5.2)."""
    response = response_to(request, 405 if request.method in KNOWN_METHODS else 501)
    response.headers.append("Allow", ALLOW)
    return response


def bad_extension(request: Request, known: Collection[str] = EXTENSIONS) -> Response | None:
    """420 where a request, other than ACK and CANCEL, requires what we do not know (RFC 3261 section 8.2.2.3)."""
    if "Require" not in request.headers:
        return None
    unsupported = sorted(request.headers.tokens("Require").difference(known))
    if not unsupported:
        return None
    response = response_to(request, 420)
    response.headers.append("Unsupported", ", ".join(unsupported))
    return response


def allow_without(method: str) -> str:
    """What is allowed inside a call whose other side does not take a method."""
    return ", ".join(each for each in ALLOW.split(", ") if each != method)


KNOWN_METHODS: Final = frozenset(
    (
        *("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "UPDATE", "PRACK", "INFO", "MESSAGE"),
        *("REFER", "SUBSCRIBE", "NOTIFY", "PUBLISH"),
    )
)


@lru_cache(maxsize=2048)
def is_literal(host: str) -> bool:
    """Whether a host is an IPv4 or IPv6 literal."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def first_hop(request: Request) -> str:
    """The URI that says where requests to the sender of an INVITE go: of its first Record-Route, else its Contact."""
    try:
        return NameAddr.parse(request.first("Record-Route") or request.first("Contact") or "").uri
    except RemoteError:
        return ""


def names_connection(request: Request) -> bool:
    """Whether the Contact of a request wants its sender to be reached by a connection."""
    try:
        uri = Uri.parse(NameAddr.parse(request.first("Contact") or "").uri)
    except RemoteError:
        return False
    return uri.transport is not Transport.UDP


def bound_flow(target: Target) -> Flow:
    """The flow on which a binding was registered, as the registrar knows it."""
    remote = HostPort(target.host, target.port)
    return Flow(Transport(target.transport), remote, f"{target.listener}@{target.instance}", target.connection)


def is_at(target: Target, flow: Flow) -> bool:
    """Whether a binding is the very phone at the end of a flow."""
    if target.transport != flow.transport:
        return False
    if target.connection or flow.connection:
        return (target.connection, target.host) == (flow.connection, flow.remote.host)
    return (target.host, target.port) == flow.remote


def is_secure(target: Target) -> bool:
    """Whether a binding may be reached for a SIPS URI: over TLS, and by a SIPS Contact (RFC 5630 section 5.3)."""
    return Transport(target.transport).secure and target.uri[:5].lower() == "sips:"

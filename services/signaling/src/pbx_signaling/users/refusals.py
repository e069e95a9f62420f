"""What answers a request without a transaction, by rules that several methods share. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_signaling.border import wire
from pbx_signaling.border.asserted import insists_in_vain, privacy_of
from pbx_signaling.domains import is_plain
from pbx_signaling.users.attempt import max_forwards
from pbx_sip.errors import RemoteError
from pbx_sip.message.message import response_to
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from pbx_signaling.domains import Domains
    from pbx_sip.message.message import Request, Response

RETRY_AFTER_S: Final = 5


def unpassable(request: Request, domains: Domains) -> Response | None:
    """What refuses a request that would be passed on to a user: 483, 420 (RFC 3261 sections 16.3 and 8.2.2.3), 416
    (section 8.2.2.1), and 500 (RFC 3323 section 4.2)."""
    refusal = exhausted(request)
    if refusal is not None:
        return refusal
    if insists_in_vain(privacy_of(request)):
        return response_to(request, 500)
    if not _resolves(request.uri, domains):
        return response_to(request, 416)
    return wire.bad_extension(request)


def exhausted(request: Request) -> Response | None:
    """483 where a request may not be passed on any further (RFC 3261 section 16.3)."""
    return response_to(request, 483) if max_forwards(request) <= 0 else None


def _resolves(target: str, domains: Domains) -> bool:
    """Whether a Request-URI names somebody, or a number."""
    uri = Uri.parse(target)
    try:
        return is_plain(uri) or bool(domains.aor_of(uri))
    except RemoteError:
        return False


def unavailable(request: Request, tag: str = "") -> Response:
    """What answers a request that cannot be taken now: 503, and when to try again (RFC 3261 section 21.5.4)."""
    response = response_to(request, 503, "", tag)
    response.headers.append("Retry-After", str(RETRY_AFTER_S))
    return response

"""What a message must have before anything is done with it (RFC 3261 sections 8.1.1, 8.2 and 16.3)."""

from __future__ import annotations

from typing import Final

from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.message import Request, Response
from pbx_sip.message.uri import Uri

SINGLE: Final = ("From", "To", "Call-ID", "CSeq")
MAX_CSEQ: Final = 2**31


def validate_request(request: Request) -> None:
    """Raises RemoteError with the status to answer where a request may not be processed."""
    _mandatory(request)
    uri = Uri.parse(request.uri)
    if not uri.is_sip and uri.scheme != "tel":
        raise RemoteError(f"scheme {uri.scheme[:16]!r}", 416)
    if request.cseq_method != request.method:
        raise RemoteError("CSeq names another method")
    for name in ("From", "To"):
        address = NameAddr.parse(request.headers.first(name) or "")
        Uri.parse(address.uri)
    hops = request.first("Max-Forwards")
    if hops is not None and not (hops.isascii() and hops.isdigit() and len(hops) <= 3 and int(hops) <= 255):
        raise RemoteError("Max-Forwards is no number up to 255")


def validate_response(response: Response) -> None:
    """Raises RemoteError where a response cannot be matched; such a one is dropped."""
    _mandatory(response)


def _mandatory(message: Request | Response) -> None:
    seen = dict.fromkeys(SINGLE, 0)
    for name, _ in message.headers.items:
        if name in seen:
            seen[name] += 1
    for name, count in seen.items():
        if count != 1:
            raise RemoteError(f"{count} {name} headers")
    if not 0 <= message.cseq_number < MAX_CSEQ:
        raise RemoteError("CSeq without a number below 2^31")
    if not message.call_id:
        raise RemoteError("empty Call-ID")
    via = message.top_via
    if not via:
        raise RemoteError("no Via")
    protocol = via.partition(" ")[0].split("/")
    if len(protocol) < 3 or protocol[0].strip().upper() != "SIP":
        raise RemoteError("a Via that is none")

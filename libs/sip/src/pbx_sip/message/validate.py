"""What a message must have before anything is done with it (RFC 3261 sections 8.1.1, 8.2 and 16.3)."""

from __future__ import annotations

from functools import lru_cache
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
    _check_target(request.uri)
    if request.cseq_method != request.method:
        raise RemoteError("CSeq names another method")
    for name in ("From", "To"):
        _check_address(request.headers.first(name) or "")
    hops = request.first("Max-Forwards")
    if hops is not None and not (hops.isascii() and hops.isdigit() and len(hops) <= 3 and int(hops) <= 255):
        raise RemoteError("Max-Forwards is no number up to 255")


def validate_response(response: Response) -> None:
    """Raises RemoteError where a response cannot be matched; such a one is dropped."""
    _mandatory(response)


# What was found right is remembered: the same values come back in every request of a dialog. Errors are not.


@lru_cache(maxsize=2048)
def _check_target(text: str) -> None:
    uri = Uri.parse(text)
    if not uri.is_sip and uri.scheme != "tel":
        raise RemoteError(f"scheme {uri.scheme[:16]!r}", 416)


@lru_cache(maxsize=4096)
def _check_address(value: str) -> None:
    Uri.parse(NameAddr.parse(value).uri)


def _mandatory(message: Request | Response) -> None:
    names = [name for name, _ in message.headers.items]
    for name in SINGLE:
        if names.count(name) != 1:
            raise RemoteError(f"{names.count(name)} {name} headers")
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

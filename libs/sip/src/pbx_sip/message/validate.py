"""What a message must have before anything is done with it (RFC 3261 sections 8.1.1, 8.2 and 16.3)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.message import Request, Response
from pbx_sip.message.uri import Uri

SINGLE: Final = ("From", "To", "Call-ID", "CSeq")
_SINGLE: Final = frozenset(SINGLE)
MAX_CSEQ: Final = 2**31
_VIA: Final = re.compile(r"SIP\s*/\s*[^\s/]+\s*/\s*[^\s/]+\s+\S", re.IGNORECASE)
"""sent-protocol LWS sent-by, with white space where RFC 3261 section 25.1 allows it; the fast path knows none.
No two neighbours of it match the same character: it cannot be made to backtrack (8 KiB of slashes once took 1.2 s)."""
_URI: Final = r"sips?:(?:[-A-Za-z0-9.!*_+'~%]+@)?[A-Za-z0-9][-A-Za-z0-9.]*(?::[1-9][0-9]{0,3})?(?:;[-A-Za-z0-9.=]+)*"
_TARGET: Final = re.compile(_URI)
_ADDRESS: Final = re.compile(rf'(?:"[^"\\<>]*"|[A-Za-z0-9. ]*) ?<{_URI}>(?:;[-A-Za-z0-9.!%*_+`\'~=]+)*')
"""A Request-URI, a From or a To in which nothing is wrong, as nearly all write them; others are read to be judged."""


def validate_request(request: Request) -> None:
    """Raises RemoteError with the status to answer where a request may not be processed."""
    values = _mandatory(request)
    if _TARGET.fullmatch(request.uri) is None:
        _check_target(request.uri)
    if request.cseq[1] != request.method:
        raise RemoteError("CSeq names another method")
    for value in (values["From"], values["To"]):
        if _ADDRESS.fullmatch(value) is None:
            _check_address(value)
    hops = values.get("Max-Forwards", "70")
    if hops != "70" and not (hops.isascii() and hops.isdigit() and len(hops) <= 10 and int(hops) <= 255):
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
    if uri.headers:
        # They would become headers of the request that we send (RFC 3261 section 19.1.1, RFC 4475 section 3.1.2.11).
        raise RemoteError("headers in the Request-URI")


@lru_cache(maxsize=4096)
def _check_address(value: str) -> None:
    Uri.parse(NameAddr.parse(value).uri)


def _mandatory(message: Request | Response) -> dict[str, str]:
    """Checks what requests and responses must have alike; gives the first value of each header."""
    headers = message.headers
    values = headers.index
    if len(values) != len(headers) or not values.keys() >= _SINGLE:
        names = [name for name, _ in headers]
        for name in SINGLE:
            if names.count(name) != 1:
                raise RemoteError(f"{names.count(name)} {name} headers")
    if not 0 <= message.cseq[0] < MAX_CSEQ:
        raise RemoteError("CSeq without a number below 2^31")
    if not values["Call-ID"]:
        raise RemoteError("empty Call-ID")
    via = message.top_via
    if not via:
        raise RemoteError("no Via")
    if not via.startswith("SIP/2.0/") and _VIA.match(via) is None:
        raise RemoteError("a Via that is none")
    if ";;" in via or via.endswith(";"):
        raise RemoteError("a Via with an empty parameter")
    return values

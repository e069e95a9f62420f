"""Where a message carries a session description, and how a response of ours is made: what usages share of messages."""

from __future__ import annotations

from typing import Final

from pbx_sip.message.message import Message, Request, Response, response_to
from pbx_sip.usage.output import Pairs

OFFERING: Final = frozenset({"INVITE", "ACK", "PRACK", "UPDATE"})
"""Methods whose requests and responses carry session descriptions (RFC 3264, 3262, 3311)."""
SDP: Final = "application/sdp"


def has_description(message: Message) -> bool:
    """Whether a message carries a description of the session itself, alone or as a part.

    A body without a type counts as one; one of another disposition (early-session, RFC 3959) does not.
    """
    if not message.body:
        return False
    if (message.method if isinstance(message, Request) else message.cseq_method) not in OFFERING:
        return False
    kind = message.content_type
    if kind.startswith("multipart/"):
        return SDP.encode() in message.body.lower()
    disposition = (message.first("Content-Disposition") or "session").partition(";")[0].strip().lower()
    return kind in (SDP, "") and disposition in ("session", "")


def made_response(
    request: Request, status: int, reason: str, headers: Pairs, body: bytes, *, tag: str = "", contact: str = ""
) -> Response:
    """A response of ours with what a dialog needs of it: our tag, the route that is recorded, our Contact."""
    response = response_to(request, status, reason, tag)
    if contact:
        routes = () if request.to_tag else request.headers.all("Record-Route")
        response.headers.extend([*[("Record-Route", value) for value in routes], ("Contact", contact), *headers])
    else:
        response.headers.extend(headers)
    response.body = body
    return response

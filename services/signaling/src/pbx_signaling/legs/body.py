"""Bodies of messages as call-control values: where the session description is, and what cannot be carried.

The relay stands between the two legs of each session that their bodies describe. So a description is found wherever
RFC 5621 lets a phone put it, and what describes a session that we could not rewrite does not cross.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_signaling.border.wire import ACCEPT
from pbx_signaling.calls.signals import Content
from pbx_sip.errors import RemoteError
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.multipart import is_multipart, parts_of

if TYPE_CHECKING:
    from pbx_sip.message.message import Message
    from pbx_sip.usage.output import Pairs

SDP: Final = "application/sdp"
UNKNOWN: Final = "application/octet-stream"
OFFERING: Final = frozenset({"INVITE", "ACK", "PRACK", "UPDATE"})
"""Methods whose requests and responses carry session descriptions."""
SESSION: Final = ("", "session")
"""Dispositions of a description that belongs to the offer/answer exchange (RFC 3261 section 20.11)."""


def content_of(message: Message) -> Content | None:
    """The body of a message; None where there is none, or one that describes a session beside the one we relay.

    Of a body of several parts such descriptions are left out (early-session, RFC 3959). A body in which the one
    description cannot be told counts as a description as a whole: it is refused where it is read as SDP.
    """
    data = message.body
    if not data:
        return None
    headers = message.headers
    content_type = headers.first("Content-Type") or _assumed(message)
    disposition = headers.first("Content-Disposition") or ""
    if is_multipart(content_type):
        return _content_of_parts(content_type, data, disposition)
    if disposition and content_type.partition(";")[0].strip().lower() == SDP and _kind(disposition) not in SESSION:
        return None
    return Content(content_type, data, disposition)


def _assumed(message: Message) -> str:
    """The type of a body without Content-Type (RFC 3261 section 7.4.1): one where an offer may stand.

    A description that was not taken for one would cross as it is, and the media would go around the relay.
    """
    method = message.method if isinstance(message, Request) else message.cseq_method
    return SDP if method in OFFERING else UNKNOWN


def _content_of_parts(content_type: str, data: bytes, disposition: str) -> Content:
    unclear = Content(content_type, data, disposition, (0, len(data)))
    try:
        found = [part for part in parts_of(content_type, data) if part.content_type == SDP]
    except RemoteError:
        return unclear
    span: tuple[int, int] | None = None
    for part in reversed(found):  # from the end, so that places of parts before stay right
        if part.disposition not in SESSION:
            data = data[: part.delimiter] + data[part.end :]
            cut = part.end - part.delimiter
            span = span and (span[0] - cut, span[1] - cut)
        elif span is None:
            span = (part.start, part.end)
        else:
            return unclear
    return Content(content_type, data, disposition, span)


def fields(content: Content | None) -> Pairs:
    """The header fields of a body."""
    if content is None:
        return ()
    if not content.disposition:
        return (("Content-Type", content.type),)
    return ("Content-Type", content.type), ("Content-Disposition", content.disposition)


def put_content(message: Message, content: Content | None) -> None:
    """Writes a body into a message."""
    if content is None:
        return
    message.headers.append("Content-Type", content.type)
    if content.disposition:
        message.headers.append("Content-Disposition", content.disposition)
    message.body = content.data


def refusal(request: Request) -> Response | None:
    """400, 413 or 415 for the body of an INVITE or UPDATE that we cannot carry (RFC 3261 section 8.2.3); else None.

    What may be ignored ("handling=optional") is never refused: it crosses where it is no session description.
    """
    if not request.body or "handling=optional" in (request.first("Content-Disposition") or "").replace(" ", "").lower():
        return None
    encodings = request.headers.tokens("Content-Encoding") - {"identity"}
    if encodings:
        return _unsupported(request, "Accept-Encoding", "identity")
    if is_multipart(request.first("Content-Type") or ""):
        try:
            parts_of(request.first("Content-Type") or "", request.body)
        except RemoteError as error:
            return response_to(request, error.status_hint)
        return None
    described = request.content_type in (SDP, "") and _kind(request.first("Content-Disposition") or "") in SESSION
    return None if described else _unsupported(request, "Accept", ACCEPT)


def _unsupported(request: Request, header: str, value: str) -> Response:
    response = response_to(request, 415)
    response.headers.append(header, value)
    return response


def _kind(disposition: str) -> str:
    return disposition.partition(";")[0].strip().lower()

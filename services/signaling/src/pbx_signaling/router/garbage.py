"""Reads of a broken request as much as an answer is made of. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_sip.errors import RemoteError
from pbx_sip.message.message import Request
from pbx_sip.message.parse import parse

if TYPE_CHECKING:
    from pbx_sip.message.message import Message

HEAD_MAX: Final = 8_192
LINES_MAX: Final = 32
"""Octets and lines that are looked at. Threat: garbage that costs more than what it is made of."""


def read_as_far_as_it_goes(data: bytes) -> Request | None:
    """A request that can be answered, though it cannot be accepted; None where there is none, or it is an ACK."""
    message: Message | None
    try:
        message = parse(data)
    except RemoteError:
        message = _salvaged(data)
    if not isinstance(message, Request) or message.method == "ACK" or not message.top_via:
        return None
    return message


def _salvaged(data: bytes) -> Request | None:
    """As much of a broken request as a response is made of: header lines that can be read."""
    head = data[:HEAD_MAX].partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape")
    first, _, rest = head.partition("\r\n")
    method, _, target = first.partition(" ")
    if not method.isalpha() or not target.rstrip().upper().endswith(("SIP/2.0", "SIP/3.0", "SIP/7.0")):
        return None
    lines = [line for line in rest.split("\r\n")[:LINES_MAX] if ":" in line and line[:1] not in (" ", "\t")]
    kept = "\r\n".join(line for line in lines if not line.lower().startswith(("content-length", "l:")))
    try:
        message = parse(
            f"{method} sip:unknown SIP/2.0\r\n".encode() + kept.encode("utf-8", "surrogateescape") + b"\r\n\r\n"
        )
    except RemoteError:
        return None
    return message if isinstance(message, Request) else None

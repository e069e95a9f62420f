"""Messages to bytes. Content-Length is always written from the body, as the last header."""

from __future__ import annotations

from pbx_sip.errors import LocalError
from pbx_sip.message.message import Message, Request, Response


def serialize(message: Message) -> bytes:
    """The message as it goes on the wire.

    Any Content-Length among the headers is replaced by the true one. Raises LocalError where a value holds a line
    end: such a value would let one header smuggle in another.
    """
    if type(message) is Request:
        start = f"{message.method} {message.uri} SIP/2.0"
    else:
        assert isinstance(message, Response)
        start = f"SIP/2.0 {message.status} {message.reason}"
    body = message.body
    lines = [start, *map(": ".join, message.headers.items)]
    head = "\r\n".join(lines)
    if "\r\nContent-Length: " in head:
        lines = [start, *(": ".join(item) for item in message.headers.items if item[0] != "Content-Length")]
        head = "\r\n".join(lines)
    text = "".join(lines)
    if "\r" in text or "\n" in text:
        raise LocalError("a header value holds a line end")
    head += f"\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("utf-8", "surrogateescape") + body

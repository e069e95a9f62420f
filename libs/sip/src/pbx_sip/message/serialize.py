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
        parts = [f"{message.method} {message.uri} SIP/2.0\r\n"]
    else:
        assert isinstance(message, Response)
        parts = [f"SIP/2.0 {message.status} {message.reason}\r\n"]
    parts += [f"{name}: {value}\r\n" for name, value in message.headers.items if name != "Content-Length"]
    body = message.body
    parts.append(f"Content-Length: {len(body)}\r\n\r\n")
    head = "".join(parts)
    if head.count("\n") != len(parts) + 1 or head.count("\r") != len(parts) + 1:
        raise LocalError("a header value holds a line end")
    return head.encode("utf-8", "surrogateescape") + body

"""What the parsers promise, as functions of bytes: accepted, or refused with RemoteError; for hypothesis and atheris.

Whatever was accepted must also come back out: serialising what was parsed must not fail, and reading that again must
give the same message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise

from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.digest import Challenge, Credentials
from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.framing import StreamFramer
from pbx_sip.message.message import Message, Request, Response, response_to
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from pbx_sip.message.uri import Uri
from pbx_sip.message.validate import validate_request, validate_response
from pbx_sip.sdp.model import SessionDescription
from pbx_sip.sdp.negotiate import Origin, StreamRewrite, rewrite
from pbx_sip.transaction.key import server_key, take_via

FLOW = Flow(Transport.UDP, HostPort("2001:db8::1", 5060), "udp6")


def message(data: bytes) -> None:
    """A datagram: parsed, checked, keyed, answered and written again."""
    with suppress(RemoteError):
        one = parse(data)
        again = parse(serialize(one))
        assert without_length(again) == without_length(one)
        assert again.body == one.body
        assert serialize(again) == serialize(one)
        headers(one.headers.items)
        if isinstance(one, Response):
            validate_response(one)
            return
        assert isinstance(one, Request)
        validate_request(one)
        server_key(one, take_via(one, FLOW))
        parse(serialize(response_to(one, 400, "", "tag")))


def without_length(one: Message) -> list[tuple[str, str]]:
    """The header lines but for Content-Length, which is always written anew."""
    return [item for item in one.headers.items if item[0] != "Content-Length"]


def headers(items: Sequence[tuple[str, str]]) -> None:
    """Values of any header, given to each reader."""
    for _, value in items:
        for read in (NameAddr.parse, Uri.parse, Credentials.parse, Challenge.parse):
            with suppress(RemoteError):
                read(value)
        with suppress(RemoteError):
            address = NameAddr.parse(value)
            assert NameAddr.parse(str(address)) == address
        with suppress(RemoteError):
            uri = Uri.parse(value)
            assert Uri.parse(str(uri)) == uri
            assert uri.user_unescaped is not None
            assert uri.host_port is not None


def description(data: bytes) -> None:
    """A session description: every view of it, and its way through a relay."""
    with suppress(RemoteError):
        session = SessionDescription.parse(data)
        for media in session.media:
            assert media.rtcp.port >= 0
            assert media.direction
            assert media.payload_types is not None
        streams = [StreamRewrite(4000, 4001) if index < 2 else None for index in range(len(session.media))]
        again = SessionDescription.parse(rewrite(session, streams, "192.0.2.9", Origin(1, 2)))
        assert [media.connection for media in again.media] == ["192.0.2.9"] * len(session.media)
        assert [media.port for media in again.media] == [s.rtp_port if s else 0 for s in streams]


def stream(data: bytes) -> None:
    """A stream, cut at places that its own first octets tell: the same messages as in one piece."""
    cuts = sorted(int(octet) * max(1, len(data) // 256) for octet in data[:4])
    whole, pieces = StreamFramer(), StreamFramer()
    found = [item for a, b in pairwise([0, *cuts, len(data)]) if b >= a for item in pieces.receive(data[a:b])]
    if cuts and cuts[-1] > len(data):
        return
    assert found == whole.receive(data)
    assert (pieces.error is None) == (whole.error is None)
    for item in found:
        if isinstance(item, bytes):
            message(item)


TARGETS: dict[str, Callable[[bytes], None]] = {"message": message, "description": description, "stream": stream}

"""Where a stream of a session description is to be sent, and which places it may not name. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pbx_runtime.media_address import Barred, Use, read
from pbx_signaling.media.stream import DIRECTIONS, Codec, Direction, Media, StreamEndpoint
from pbx_sip.sdp import carry as rules
from pbx_sip.swift import swift

if TYPE_CHECKING:
    from pbx_sip.sdp.model import MediaDescription

NO_RTCP_ABOVE: Final = 65_535


class SessionRefused(Exception):
    """A session description that we cannot carry; `status` is the SIP status that says so."""

    def __init__(self, detail: str, status: int = 488) -> None:
        super().__init__(detail)
        self.status = status


@swift
@dataclass(frozen=True, slots=True)
class Origins:
    """What is known of a side beside its description."""

    source: str
    """The host that its SIP comes from."""
    likely: str
    """The host that its media went to so far; else the same."""
    barred: Barred
    """Addresses that it may not name."""


def endpoint_of(side: int, media: Media, stream: MediaDescription, direction: str, origins: Origins) -> StreamEndpoint:
    """The endpoint of a stream that is carried. Raises SessionRefused."""
    use, host = address_of(stream)
    source, barred = origins.source, origins.barred
    if use is Use.UNSPECIFIED:
        host = origins.likely
    elif use is Use.ELSEWHERE:
        use, host = read(source)
    elif use is Use.HOST and barred.bars(host, source):
        raise SessionRefused("a stream whose address is none of its sender's")
    if use is Use.NONE or not host:
        raise SessionRefused("a stream whose address is no address of one host")
    held = use is Use.UNSPECIFIED
    rtcp_host, rtcp_port = ("", 0) if held else _rtcp(stream, host, origins)
    return StreamEndpoint(
        side=int(side),
        media=media,
        host=host,
        port=stream.port,
        rtcp_host=rtcp_host,
        rtcp_port=rtcp_port,
        direction=DIRECTIONS[direction],
        rtcp_mux=False,
        codecs=tuple(
            Codec(each.number, each.encoding, each.clock_rate_hz, each.channels, each.ptime_ms)
            for each in stream.payload_types
        ),
        signaling_host=source,
        held=held,
    )


def _rtcp(stream: MediaDescription, host: str, origins: Origins) -> tuple[str, int]:
    """Where RTCP goes without rtcp-mux; port 0 where it cannot go anywhere."""
    rtcp = stream.rtcp
    use, named = read(rtcp.host) if rtcp.host else (Use.HOST, host)
    if use is Use.UNSPECIFIED or rtcp.port > NO_RTCP_ABOVE:
        return "", 0
    if use is not Use.HOST or origins.barred.bars(named, origins.source):
        named = host
    return named, rtcp.port


def address_of(stream: MediaDescription) -> tuple[Use, str]:
    """What the address of a stream is good for, and its spelling. Beside ICE an unspecified one says that candidates
    come later (RFC 8840 section 4.1.1), and not that the stream is held."""
    use, host = read(stream.connection)
    if use is Use.UNSPECIFIED and (stream.proto in rules.BROWSER or stream.attribute("ice-ufrag") is not None):
        return Use.ELSEWHERE, host
    return use, host


def muxed(endpoint: StreamEndpoint) -> StreamEndpoint:
    """With RTCP on the port of RTP; where that is, a=rtcp does not matter (RFC 5761 section 5.1.3)."""
    port = 0 if endpoint.held else endpoint.port
    return replace(endpoint, rtcp_mux=True, rtcp_host=endpoint.host, rtcp_port=port)


def declined(endpoint: StreamEndpoint) -> StreamEndpoint:
    """The same medium, carried no more."""
    return StreamEndpoint(endpoint.side, endpoint.media, endpoint.host, 0, "", 0, Direction.INACTIVE, False, ())

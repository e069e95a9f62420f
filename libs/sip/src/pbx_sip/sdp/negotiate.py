"""Rewriting a session description so that its media passes through a relay. Everything else stays byte for byte."""

from __future__ import annotations

from dataclasses import dataclass

from pbx_sip.sdp.model import MediaDescription, SessionDescription


@dataclass(frozen=True, slots=True)
class Origin:
    """What o= says: the session is ours, so its id and version are."""

    session_id: int
    version: int


@dataclass(frozen=True, slots=True)
class StreamRewrite:
    """The relay's ports for one stream."""

    rtp_port: int
    rtcp_port: int


def rewrite(description: SessionDescription, streams: list[StreamRewrite | None], host: str, origin: Origin) -> bytes:
    """The description with `host` and the ports of `streams`; a stream that is None is declined (port 0).

    c= is written once at session level and taken out of the streams; m= ports, a=rtcp and o= are rewritten; a declined
    stream keeps its m= line alone (RFC 3264 section 6). ICE candidates, which would lead around the relay, go.
    """
    family = "IP6" if ":" in host else "IP4"
    lines: list[str] = []
    connection = f"c=IN {family} {host}"
    placed = False
    for line in description.lines:
        kind = line[:2]
        if kind == "o=":
            user = line[2:].partition(" ")[0] or "-"
            lines.append(f"o={user} {origin.session_id} {origin.version} IN {family} {host}")
        elif kind == "c=":
            continue
        else:
            if not placed and kind in _AFTER_CONNECTION:
                lines.append(connection)
                placed = True
            if not _leads_around(line):
                lines.append(line)
    if not placed:
        lines.append(connection)
    for stream, media in zip(streams, description.media, strict=True):
        lines += _declined(media) if stream is None else _relayed(media, stream, family, host)
    end = description.line_end
    return (end.join(lines) + end).encode("utf-8", "surrogateescape")


_AFTER_CONNECTION = frozenset({"b=", "t=", "r=", "z=", "k=", "a="})
"""Lines that stand behind c= (RFC 8866 section 9)."""


def _leads_around(line: str) -> bool:
    return line.startswith(("a=candidate:", "a=ice-", "a=remote-candidates:", "a=end-of-candidates"))


def _declined(media: MediaDescription) -> list[str]:
    return [f"m={media.kind} 0 {media.proto} {' '.join(media.formats)}"]


def _relayed(media: MediaDescription, stream: StreamRewrite, family: str, host: str) -> list[str]:
    lines = [f"m={media.kind} {stream.rtp_port} {media.proto} {' '.join(media.formats)}"]
    for line in media.lines[1:]:
        if line.startswith("c=") or _leads_around(line):
            continue
        if line.startswith("a=rtcp:"):
            port = stream.rtp_port if media.rtcp_mux else stream.rtcp_port
            address = f" IN {family} {host}" if " IN " in line else ""
            line = f"a=rtcp:{port}{address}"
        lines.append(line)
    return lines

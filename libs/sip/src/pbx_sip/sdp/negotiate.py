"""Rewriting a session description so that its media passes through a relay. Everything else stays byte for byte.

What comes out is lawful (RFC 8866 section 9) whatever came in: the lines of the session in their order, none missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pbx_sip.sdp.carry import BROWSER
from pbx_sip.sdp.model import MediaDescription, SessionDescription
from pbx_sip.swift import swift


@swift
@dataclass(frozen=True, slots=True)
class Origin:
    """What o= says: the session is ours, so its id and version are."""

    session_id: int
    version: int


@swift
@dataclass(frozen=True, slots=True)
class StreamRewrite:
    """The relay's ports for one stream, and what else is said anew."""

    rtp_port: int
    rtcp_port: int
    """Written into a=rtcp, where there is one."""
    proto: str = ""
    """Empty: as it is."""
    direction: str = ""
    """Empty: as it is."""
    mux: bool = True
    """Whether a=rtcp-mux may stay."""


def rewrite(
    description: SessionDescription,
    streams: list[StreamRewrite | None],
    host: str,
    origin: Origin,
    media: list[MediaDescription] | None = None,
) -> bytes:
    """The description with `host` and the ports of `streams`; a stream that is None is declined (port 0).

    c= is written once at session level and taken out of the streams; m= ports, a=rtcp and o= are rewritten; a declined
    stream keeps its m= line alone (RFC 3264 section 6). What leads around the relay goes: ICE, the keys and groups
    of browsers. `media` stands for the streams of the description, where an answer left some out.
    """
    media = description.media if media is None else media
    family = "IP6" if ":" in host else "IP4"
    lines = _session(description.lines, family, host, origin, _mids(streams, media))
    for stream, section in zip(streams, media, strict=True):
        lines += _declined(section) if stream is None else _relayed(section, stream, family, host)
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


_RANKS: Final = {
    kind: rank for rank, kinds in enumerate(("i", "u", "e", "p", "c", "b", "tr", "z", "k", "a")) for kind in kinds
}
"""The order of session lines after v=, o= and s= (RFC 8866 section 9); r= belongs to its t=."""
_AROUND: Final = re.compile(
    "a=(?:candidate:|ice-|remote-candidates:|end-of-candidates|fingerprint:|setup:|tls-id:|identity:|dtls-)"
)
"""Attributes that lead around the relay (RFC 8839), or promise keys that do not pass it (RFC 8122, 8842)."""
_OF_BROWSERS: Final = re.compile(
    "a=(?:mid:|msid|ssrc|extmap|rtcp-fb:|rtcp-rsize|rtcp-mux-only|bundle-only|rid:|simulcast:|group:)"
)
"""What says something only beside BUNDLE, feedback and keys (RFC 8829)."""


def _session(lines: list[str], family: str, host: str, origin: Origin, mids: set[str]) -> list[str]:
    user, subject = "-", "s=-"
    rest = [f"c=IN {family} {host}"]
    timed = False
    for line in lines:
        kind = line[0]
        if kind == "o":
            user = line[2:].split(" ", 1)[0] or "-"
        elif kind == "s":
            subject = line if len(line) > 2 else "s=-"
        elif kind in "vc" or (kind == "a" and not _may_stay(line, mids)):
            continue
        else:
            timed = timed or kind == "t"
            rest.append(line)
    if not timed:
        rest.append("t=0 0")
    rest.sort(key=_rank)
    return ["v=0", f"o={user} {origin.session_id} {origin.version} IN {family} {host}", subject, *rest]


def _rank(line: str) -> int:
    return _RANKS.get(line[0], len(_RANKS))


def _may_stay(line: str, mids: set[str]) -> bool:
    """Whether a session attribute does. A group does with all of its streams, but never one that shares a port."""
    if line.startswith("a=group:"):
        semantics, *members = line[8:].split() or [""]
        return semantics.upper() != "BUNDLE" and mids.issuperset(members)
    return not _AROUND.match(line) and not line.startswith(("a=msid-semantic", "a=extmap-allow-mixed"))


def _mids(streams: list[StreamRewrite | None], media: list[MediaDescription]) -> set[str]:
    """The names of the streams that live on."""
    found = {
        section.attribute("mid") or ""
        for stream, section in zip(streams, media, strict=True)
        if stream is not None and section.proto not in BROWSER
    }
    return found - {""}


def _declined(media: MediaDescription) -> list[str]:
    formats = media.formats or ["0" if "RTP" in media.proto else "*"]
    return [f"m={media.kind} 0 {media.proto} {' '.join(formats)}"]


def _relayed(media: MediaDescription, stream: StreamRewrite, family: str, host: str) -> list[str]:
    lines = [f"m={media.kind} {stream.rtp_port} {stream.proto or media.proto} {' '.join(media.formats)}"]
    is_browser = media.proto in BROWSER
    for line in media.lines[1:]:
        if line[0] == "c":
            continue
        if line[0] == "a":
            if _AROUND.match(line) or (is_browser and _OF_BROWSERS.match(line)):
                continue
            if line.startswith("a=rtcp:"):
                address = f" IN {family} {host}" if " IN " in line.upper() else ""
                line = f"a=rtcp:{stream.rtcp_port}{address}"
            elif (line == "a=rtcp-mux" and not stream.mux) or (stream.direction and line in _DIRECTIONS):
                continue
        lines.append(line)
    if stream.direction:
        lines.append(f"a={stream.direction}")
    return lines


_DIRECTIONS: Final = frozenset({"a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"})

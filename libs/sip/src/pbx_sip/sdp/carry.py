"""Which streams of a session a relay carries, and how an answer's lines belong to an offer's (RFC 3264). Pure.

A relay has one place for audio and one for video on either side. Streams that exclude each other share a place: a
phone with optional SRTP offers `RTP/SAVP` and `RTP/AVP` side by side, and its peer takes one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pbx_sip.sdp.model import MediaDescription

KINDS: Final = ("audio", "video")
PLAIN: Final = frozenset({"RTP/AVP", "RTP/AVPF"})
SECURE: Final = frozenset({"RTP/SAVP", "RTP/SAVPF"})
"""With keys in the description (RFC 4568): they cross, and the packets pass as they are."""
BROWSER: Final = frozenset({"UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"})
"""With keys from DTLS, which does not pass the relay: they are carried as what is left, plain RTP."""
SENDS: Final = frozenset({"sendrecv", "sendonly"})
RECEIVES: Final = frozenset({"sendrecv", "recvonly"})


@dataclass(slots=True)
class Line:
    """What is remembered of an offered m= line until its answer comes."""

    kind: str
    proto: str
    formats: list[str]
    place: str
    """Of `KINDS`, where it is carried; empty: it was declined for the answerer."""
    direction: str
    mux: bool


def security_of(proto: str) -> str:
    """How its packets are protected as the relay carries them; empty for a transport that is not carried."""
    if proto in PLAIN or proto in BROWSER:
        return "plain"
    return "secure" if proto in SECURE else ""


def places(media: Sequence[MediaDescription]) -> tuple[str, ...]:
    """The place of each offered stream; empty for those that cannot be carried, or are off.

    A browser's stream is carried where there is no other of its kind: its keys are lost on the way.
    """
    live = [bool(stream.port) and stream.kind in KINDS and bool(security_of(stream.proto)) for stream in media]
    whole = {
        stream.kind for stream, is_live in zip(media, live, strict=True) if is_live and stream.proto not in BROWSER
    }
    found: list[str] = []
    taken: set[tuple[str, str]] = set()
    for stream, is_live in zip(media, live, strict=True):
        key = (stream.kind, security_of(stream.proto))
        if is_live and key not in taken and not (stream.proto in BROWSER and stream.kind in whole):
            taken.add(key)
            found.append(stream.kind)
        else:
            found.append("")
    return tuple(found)


def can_carry(media: Sequence[MediaDescription], found: Sequence[str]) -> bool:
    """Whether something is left of an offer: one that wants streams and gets none is to be refused (488)."""
    return any(found) or not any(stream.port for stream in media)


def aligned(offered: Sequence[Line], answer: Sequence[MediaDescription]) -> list[MediaDescription | None]:
    """The answer to each offered line; None where there is none.

    An answer has as many lines as its offer, in its order (RFC 3264 section 6). Phones that leave lines out, or put
    them in an order of their own, are understood by what the lines are.
    """
    if len(offered) == len(answer) and all(map(_is_of_kind, offered, answer)):
        return list(answer)
    found: list[MediaDescription | None] = [None] * len(offered)
    for stream in answer:
        free = [index for index, line in enumerate(offered) if found[index] is None and _is_of_kind(line, stream)]
        alike = [index for index in free if security_of(offered[index].proto) == security_of(stream.proto)]
        for index in (alike or free)[:1]:
            found[index] = stream
    return found


def _is_of_kind(line: Line, stream: MediaDescription) -> bool:
    return line.kind == stream.kind


def live(offered: Sequence[Line], answers: Sequence[MediaDescription | None]) -> tuple[str, ...]:
    """The place of each stream that both sides have; of lines that share a place the first, and its doubles."""
    found: list[str] = []
    heads: dict[str, MediaDescription] = {}
    for line, stream in zip(offered, answers, strict=True):
        place = line.place if stream is not None and stream.port else ""
        if place and stream is not None:
            head = heads.setdefault(place, stream)
            if (head.connection, head.port) != (stream.connection, stream.port):
                place = ""
        found.append(place)
    return tuple(found)


def answered(offered: str, answer: str) -> str:
    """The direction of an answer as the offer allows it (RFC 3264 section 6.1)."""
    return direction_of(answer in SENDS and offered in RECEIVES, answer in RECEIVES and offered in SENDS)


def direction_of(sends: bool, receives: bool) -> str:
    """The word for it."""
    if sends:
        return "sendrecv" if receives else "sendonly"
    return "recvonly" if receives else "inactive"


def without_receiving(direction: str) -> str:
    """What a stream with an unspecified address does: it may send, and nothing is sent to it (section 8.4)."""
    return direction_of(direction in SENDS, False)


def proto_for_offer(proto: str) -> str:
    """The transport of a stream as the other side is offered it."""
    return "RTP/AVP" if proto in BROWSER else proto


def proto_for_answer(offered: str, answer: str) -> str:
    """The transport of an accepted stream as the offerer hears of it: its own, where the packets are the same."""
    return offered if security_of(offered) == security_of(answer) else answer

"""The offer/answer exchange of a call as its media sees it (RFC 3264): who may be sent what, and where.

Each session description that crosses the call is read once, its endpoints are noted, and it is rewritten so that either
side sees the relay's addresses alone. Endpoints of an offer take effect when the answer comes; a refused offer leaves
everything as it was (RFC 3261 section 14.1). The first audio and the first video stream are relayed; further ones are
declined in both directions. Pure; raises SessionRefused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from pbx_signaling.media.stream import DIRECTIONS, Codec, Direction, Media, Slot, StreamEndpoint
from pbx_sip.errors import RemoteError
from pbx_sip.sdp.model import MediaDescription, SessionDescription
from pbx_sip.sdp.negotiate import Origin, StreamRewrite, rewrite

if TYPE_CHECKING:
    from pbx_signaling.call.events import Side

MAX_STREAMS: Final = 16
"""m= lines of a description. Threat: work per message; WebRTC clients send up to 4."""
KINDS: Final = {"audio": Media.AUDIO, "video": Media.VIDEO}


class SessionRefused(Exception):
    """A session description that we cannot carry; `status` is the SIP status that says so."""

    def __init__(self, detail: str, status: int = 488) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(slots=True)
class Pending:
    """An offer without its answer."""

    by: int
    description: SessionDescription | None
    """Kept only until it was forwarded for the last time."""
    endpoints: list[StreamEndpoint]
    lines: tuple[Media | None, ...]
    """What each m= line is: one of the slot's media, or declined."""
    before: tuple[Media | None, ...]


@dataclass(slots=True)
class MediaSession:
    """Offer/answer state of both sides of one call, and the slot that carries its media."""

    session_id: int
    """For o= of what we send; the two sides get different ones."""
    slot: Slot | None = None
    families: dict[int, int] = field(default_factory=dict)
    """Side to address family (4 or 6) of what is announced to it."""
    hosts: dict[int, str] = field(default_factory=dict)
    """Side to the address that its SIP comes from."""
    lines: tuple[Media | None, ...] = ()
    pending: Pending | None = None
    applied: dict[tuple[int, int], StreamEndpoint] = field(default_factory=dict)
    """(side, media) to the endpoint that the relay knows."""
    versions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Side to the version of o= last sent to it, and a fingerprint of what was sent."""
    initial: bool = True
    """The exchange that the INVITE began is not over."""
    last_answer_by: int = 0

    def place(self, side: int, host: str) -> None:
        """Tells where a side's SIP comes from: the family of what is announced to it, and a hint for the relay."""
        self.families[side] = 6 if ":" in host else 4
        self.hosts[side] = host

    # --- offers

    def first_offer(self, data: bytes) -> list[StreamEndpoint]:
        """Takes the caller's offer in; answers the endpoints that the relay may know at once."""
        pending = self._take_offer(1, data)
        for endpoint in pending.endpoints:
            self.applied[endpoint.side, endpoint.media] = endpoint
        return pending.endpoints

    def forward_offer(self, by: int, data: bytes) -> bytes:
        """The INVITE's offer `data` of a side as the other one gets it; again for each target that is tried.

        What a former target answered or offered on the way to its refusal (in reliable responses, PRACK, UPDATE) is
        void: the next one begins with this offer.
        """
        pending = self.pending
        if pending is None or pending.by != by or pending.description is None:
            self.initial, self.last_answer_by, self.lines = True, 0, ()
            pending = self._take_offer(by, data)
        assert pending.description is not None
        return self._rewritten(pending.description, pending.lines, to=3 - by)

    def offer(self, by: Side, data: bytes) -> bytes:
        """Takes an offer inside the call in, and answers what the other side gets. Glare is refused with 491."""
        if self.pending is not None and not self._is_answered_early():
            raise SessionRefused("another offer is under way", 491)
        self.initial = False
        pending = self._take_offer(by, data)
        assert pending.description is not None
        forwarded = self._rewritten(pending.description, pending.lines, to=by.other)
        pending.description = None
        return forwarded

    def _is_answered_early(self) -> bool:
        """The INVITE's offer was answered in a reliable provisional response: the next offer may come (RFC 6337)."""
        return self.initial and self.last_answer_by != 0

    def _take_offer(self, by: int, data: bytes) -> Pending:
        description = self._parsed(data)
        lines = self._lines_of(description)
        if not any(lines) and not self.lines:
            raise SessionRefused("no audio and no video stream")
        endpoints = self._endpoints(by, description, lines)
        self.pending = Pending(by, description, endpoints, lines, self.lines)
        return self.pending

    # --- answers

    def owes_answer(self, side: Side) -> bool:
        """Whether a description of that side would be an answer."""
        return self.pending is not None and self.pending.by == side.other

    def carry(
        self, side: Side, data: bytes, *, provisional: bool = False, may_offer: bool = True
    ) -> tuple[bytes, list[StreamEndpoint]]:
        """Takes a description of a response or an ACK in.

        It answers the other side's pending offer, repeats an answer, or is itself the offer that was asked for by an
        INVITE without one (`may_offer`). Returns what the other side gets, and the endpoints that changed for the
        relay.
        """
        pending = self.pending
        if pending is not None and pending.by == side.other:
            return self._answer(side, data, pending, provisional)
        if not may_offer or (pending is None and self.last_answer_by == side and provisional):
            return self._repeat(side, data)
        taken = self._take_offer(side, data)
        assert taken.description is not None
        forwarded = self._rewritten(taken.description, taken.lines, to=side.other)
        taken.description = None
        return forwarded, []

    def _answer(
        self, side: Side, data: bytes, pending: Pending, provisional: bool
    ) -> tuple[bytes, list[StreamEndpoint]]:
        description = self._parsed(data)
        if len(description.media) != len(pending.lines):
            raise SessionRefused("the answer has another number of streams than the offer")
        endpoints = self._endpoints(side, description, pending.lines)
        declined = {endpoint.media for endpoint in endpoints if not endpoint.port}
        offered = [_declined(endpoint) if endpoint.media in declined else endpoint for endpoint in pending.endpoints]
        lines = pending.lines
        self.lines = lines
        self.last_answer_by = side
        if not provisional:
            self.pending, self.initial = None, False
        changed = [endpoint for endpoint in (*offered, *endpoints) if self._apply(endpoint)]
        return self._rewritten(description, lines, to=side.other), changed

    def _repeat(self, side: Side, data: bytes) -> tuple[bytes, list[StreamEndpoint]]:
        description = self._parsed(data)
        lines = self._lines_of(description)
        changed = [endpoint for endpoint in self._endpoints(side, description, lines) if self._apply(endpoint)]
        return self._rewritten(description, lines, to=side.other), changed

    def _apply(self, endpoint: StreamEndpoint) -> bool:
        """Notes an endpoint; whether it is news to the relay."""
        key = (endpoint.side, endpoint.media)
        if self.applied.get(key) == endpoint:
            return False
        self.applied[key] = endpoint
        return True

    def rollback(self, by: Side) -> None:
        """An offer of that side was refused: everything stays as it was."""
        if self.pending is not None and self.pending.by == by and not self.initial:
            self.pending = None

    def abandon(self, by: int) -> None:
        """An offer of that side will never be answered: the ACK that should have done it came without an answer."""
        if self.pending is not None and self.pending.by == by:
            self.pending, self.initial = None, False

    def holds(self, side: Side) -> bool:
        """Whether a side has put the other on hold: its audio neither receives."""
        endpoint = self.applied.get((side, Media.AUDIO))
        return endpoint is not None and endpoint.direction in (Direction.SENDONLY, Direction.INACTIVE)

    def codec_of(self, side: int) -> str:
        """The first audio codec that a side named, as "PCMU/8000"; empty before it named any."""
        endpoint = self.applied.get((side, Media.AUDIO))
        if endpoint is None or not endpoint.codecs:
            return ""
        codec = endpoint.codecs[0]
        return f"{codec.encoding}/{codec.clock_rate_hz}"

    # --- reading and writing

    @staticmethod
    def _parsed(data: bytes) -> SessionDescription:
        try:
            description = SessionDescription.parse(data)
        except RemoteError as error:
            raise SessionRefused(str(error), 488) from error
        if len(description.media) > MAX_STREAMS:
            raise SessionRefused(f"{len(description.media)} streams")
        return description

    def _lines_of(self, description: SessionDescription) -> tuple[Media | None, ...]:
        """Which m= line is which medium of the slot: as before where it was one, else the first of its kind."""
        lines: list[Media | None] = []
        taken = {media for media in self.lines[: len(description.media)] if media is not None}
        for index, stream in enumerate(description.media):
            media = KINDS.get(stream.kind)
            if index < len(self.lines) and self.lines[index] is not None:
                lines.append(self.lines[index] if media is self.lines[index] else None)
            elif media is not None and media not in taken and stream.port:
                taken.add(media)
                lines.append(media)
            else:
                lines.append(None)
        return tuple(lines)

    def _endpoints(
        self, side: int, description: SessionDescription, lines: tuple[Media | None, ...]
    ) -> list[StreamEndpoint]:
        return [
            _endpoint(side, media, stream, self.hosts.get(side, ""))
            for media, stream in zip(lines, description.media, strict=False)
            if media is not None
        ]

    def _rewritten(self, description: SessionDescription, lines: tuple[Media | None, ...], *, to: int) -> bytes:
        slot = self.slot
        assert slot is not None
        host = slot.host_for(self.families.get(to, 4))
        streams = [
            StreamRewrite(*slot.ports[to, media]) if media is not None and stream.port else None
            for media, stream in zip(lines, description.media, strict=True)
        ]
        session_id = self.session_id * 2 + (to & 1)
        version, before = self.versions.get(to, (0, 0))
        plain = rewrite(description, streams, host, Origin(session_id, 0))
        # Stored with the call and compared by whoever goes on with it: `hash` differs from process to process.
        fingerprint = int.from_bytes(blake2b(plain, digest_size=8).digest())
        if fingerprint != before:
            version += 1
            self.versions[to] = (version, fingerprint)
        return plain.replace(b" %d 0 IN " % session_id, b" %d %d IN " % (session_id, version), 1)


def _endpoint(side: int, media: Media, stream: MediaDescription, signaling_host: str) -> StreamEndpoint:
    rtcp = stream.rtcp
    direction = DIRECTIONS.get(stream.direction, Direction.SENDRECV)
    host = stream.connection
    if host in ("0.0.0.0", "::"):  # noqa: S104  # the old way to hold (RFC 3264 section 8.4)
        direction = Direction.INACTIVE
    rtcp_host = rtcp.host or host
    if stream.port and not (_is_peer(host) and _is_peer(rtcp_host)):
        raise SessionRefused("a stream whose address is no address of one host")
    return StreamEndpoint(
        side=int(side),
        media=media,
        host=host,
        port=stream.port,
        rtcp_host=rtcp_host,
        rtcp_port=rtcp.port,
        direction=direction,
        rtcp_mux=stream.rtcp_mux,
        codecs=tuple(
            Codec(kind.number, kind.encoding, kind.clock_rate_hz, kind.channels, kind.ptime_ms)
            for kind in stream.payload_types
        ),
        signaling_host=signaling_host,
    )


def _is_peer(host: str) -> bool:
    """Whether media can be sent there: a literal (names are not looked up on the way of a call), and of one host."""
    try:
        return not ip_address(host).is_multicast and host != "255.255.255.255"
    except ValueError:
        return False


def _declined(endpoint: StreamEndpoint) -> StreamEndpoint:
    return StreamEndpoint(endpoint.side, endpoint.media, endpoint.host, 0, "", 0, Direction.INACTIVE, False, ())

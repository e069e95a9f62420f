"""The offer/answer exchange of a call as its media sees it (RFC 3264): who may be sent what, and where.

Each session description that crosses the call is read once, its endpoints are noted, and it is rewritten so that either
side sees the relay's addresses alone. Endpoints of an offer take effect when the answer comes; a refused offer leaves
everything as it was (RFC 3261 section 14.1). Which streams are carried is `pbx_sip.sdp.carry`'s rule, which addresses
may be sent to that of `pbx_runtime.media_address`. Pure; raises SessionRefused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from pbx_runtime.media_address import Barred, Use
from pbx_signaling.media.endpoint import Origins, SessionRefused, address_of, declined, endpoint_of, muxed
from pbx_signaling.media.stream import Direction, Media, Slot, StreamEndpoint
from pbx_sip.errors import RemoteError
from pbx_sip.sdp import carry as rules
from pbx_sip.sdp.carry import Line
from pbx_sip.sdp.model import MediaDescription, SessionDescription
from pbx_sip.sdp.negotiate import Origin, StreamRewrite, rewrite

if TYPE_CHECKING:
    from pbx_signaling.calls.signals import Side

MAX_STREAMS: Final = 16
"""m= lines of a description. Threat: work per message; WebRTC clients send up to 4."""
PLACES: Final = {"audio": Media.AUDIO, "video": Media.VIDEO}


@dataclass(slots=True)
class Pending:
    """An offer without its answer."""

    by: int
    description: SessionDescription | None
    """Kept only until it was forwarded for the last time."""
    endpoints: list[StreamEndpoint | None]
    """Of each m= line that is carried; without rtcp-mux, which the answer decides."""
    lines: list[Line]


@dataclass(slots=True)
class MediaSession:
    """Offer/answer state of both sides of one call, and the slot that carries its media."""

    session_id: int
    """For o= of what we send; the two sides get different ones."""
    slot: Slot | None = None
    families: dict[int, int] = field(default_factory=dict)
    """Side to address family (4 or 6) of what is announced to it: that of its own description, once it has made one."""
    hosts: dict[int, str] = field(default_factory=dict)
    """Side to the address that its SIP comes from."""
    lines: list[Line] = field(default_factory=list)
    """Of the last offer that was answered."""
    pending: Pending | None = None
    applied: dict[tuple[int, int], StreamEndpoint] = field(default_factory=dict)
    """(side, media) to the endpoint that the relay knows."""
    early: dict[str, list[StreamEndpoint]] = field(default_factory=dict)
    """Branch of a forked call to the endpoints of both sides under its provisional answer."""
    versions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Side to the version of o= last sent to it, and a fingerprint of what was sent."""
    initial: bool = True
    """The exchange that the INVITE began is not over."""
    last_answer_by: int = 0

    def place(self, side: int, host: str) -> None:
        """Tells where a side's SIP comes from: a guess at the family of its media, and a hint for the relay."""
        self.families[side] = 6 if ":" in host else 4
        self.hosts[side] = host

    def branch(self, number: int, host: str) -> MediaSession:
        """The session with the callee's phone of that number, from 1: the caller's offer as it was taken in.

        Each phone has its own exchange: what one answered on the way to its refusal does not concern another.
        """
        families, hosts = dict(self.families), dict(self.hosts)
        other = MediaSession(self.session_id + number - 1, self.slot, families, hosts, applied=dict(self.applied))
        other.place(2, host)
        other.pending = self.pending
        return other

    # --- offers

    def first_offer(self, data: bytes, barred: Barred) -> list[StreamEndpoint]:
        """Takes the caller's offer in; answers the endpoints that the relay may know at once."""
        known: dict[int, StreamEndpoint] = {}
        for endpoint in self._take_offer(1, data, barred).endpoints:
            if endpoint is not None:
                known.setdefault(endpoint.media, endpoint)
        for endpoint in known.values():
            self.applied[endpoint.side, endpoint.media] = endpoint
        return list(known.values())

    def forward_offer(self, by: int, data: bytes, barred: Barred) -> bytes:
        """The INVITE's offer `data` of a side as the other one gets it."""
        pending = self.pending
        if pending is None or pending.by != by or pending.description is None:
            pending = self._take_offer(by, data, barred)
        forwarded = self._forwarded(pending, to=3 - by)
        self.pending = replace(pending, description=None)
        return forwarded

    def offer(self, by: Side, data: bytes, barred: Barred) -> bytes:
        """Takes an offer inside the call in, and answers what the other side gets. Glare is refused with 491."""
        if self.pending is not None and not self._is_answered_early():
            raise SessionRefused("another offer is under way", 491)
        pending = self._take_offer(by, data, barred)
        self.initial = False
        self.early.clear()
        forwarded = self._forwarded(pending, to=by.other)
        pending.description = None
        return forwarded

    def _is_answered_early(self) -> bool:
        """The INVITE's offer was answered in a reliable provisional response: the next offer may come (RFC 6337)."""
        return self.initial and self.last_answer_by != 0

    def _take_offer(self, by: int, data: bytes, barred: Barred) -> Pending:
        description = self._parsed(data)
        places = rules.places(description.media)
        if not rules.can_carry(description.media, places):
            raise SessionRefused("no audio and no video stream that can be carried")
        lines, endpoints = [], []
        for stream, place in zip(description.media, places, strict=True):
            direction = stream.direction
            if place and address_of(stream)[0] is Use.UNSPECIFIED:
                direction = rules.without_receiving(direction)
            lines.append(Line(stream.kind, stream.proto, stream.formats, place, direction, stream.rtcp_mux))
            endpoints.append(self._endpoint(by, place, stream, direction, barred) if place else None)
        self.pending = Pending(by, description, endpoints, lines)
        return self.pending

    def _forwarded(self, pending: Pending, *, to: int) -> bytes:
        description, slot = pending.description, self.slot
        assert description is not None
        assert slot is not None
        streams: list[StreamRewrite | None] = []
        for line, stream in zip(pending.lines, description.media, strict=True):
            if not line.place:
                streams.append(None)
                continue
            ports = slot.ports[to, PLACES[line.place]]
            direction = line.direction if line.direction != stream.direction else ""
            streams.append(StreamRewrite(*ports, rules.proto_for_offer(line.proto), direction))
        return self._written(description, streams, description.media, to=to)

    # --- answers

    def owes_answer(self, side: Side) -> bool:
        """Whether a description of that side would be an answer."""
        return self.pending is not None and self.pending.by == side.other

    def carry(
        self,
        side: Side,
        data: bytes,
        barred: Barred,
        *,
        provisional: bool = False,
        may_offer: bool = True,
        fork: str = "",
    ) -> tuple[bytes, list[StreamEndpoint]]:
        """Takes a description of a response or an ACK in.

        It answers the other side's pending offer, repeats an answer, or is itself the offer that was asked for by an
        INVITE without one (`may_offer`). Returns what the other side gets, and the endpoints that changed for the
        relay. `fork` names the branch of the call that a provisional answer belongs to.
        """
        pending = self.pending
        if pending is not None and pending.by == side.other:
            return self._answer(side, data, barred, pending, fork if provisional else None)
        if not may_offer or (pending is None and self.last_answer_by == side and provisional):
            return self._repeat(side, data, barred)
        taken = self._take_offer(side, data, barred)
        forwarded = self._forwarded(taken, to=side.other)
        taken.description = None
        return forwarded, []

    def _answer(
        self, side: Side, data: bytes, barred: Barred, pending: Pending, fork: str | None
    ) -> tuple[bytes, list[StreamEndpoint]]:
        forwarded, endpoints = self._answered(side, data, barred, pending.lines, pending.endpoints)
        reopens = not self.initial
        self.lines, self.last_answer_by = pending.lines, side
        if fork is None:
            self._settle()
        elif self.initial:
            self.early[fork] = endpoints
        return forwarded, self._applied(endpoints, reopens)

    def _repeat(self, side: Side, data: bytes, barred: Barred) -> tuple[bytes, list[StreamEndpoint]]:
        lines = self.lines
        if side != self.last_answer_by:  # it says again what it offered: no answer of its own limits that
            lines = [replace(line, direction="sendrecv") for line in lines]
        mine: list[StreamEndpoint | None] = [None] * len(lines)
        forwarded, endpoints = self._answered(side, data, barred, lines, mine)
        return forwarded, self._applied([endpoint for endpoint in endpoints if endpoint.side == side], False)

    def _answered(
        self,
        side: Side,
        data: bytes,
        barred: Barred,
        lines: list[Line],
        offered: list[StreamEndpoint | None],
    ) -> tuple[bytes, list[StreamEndpoint]]:
        """What the offerer gets, and the endpoints of both sides that follow."""
        description = self._parsed(data)
        answers = rules.aligned(lines, description.media)
        places = rules.live(lines, answers)
        streams: list[StreamRewrite | None] = []
        media: list[MediaDescription] = []
        found: dict[tuple[int, int], StreamEndpoint] = {}
        for line, stream, place, former in zip(lines, answers, places, offered, strict=True):
            if stream is None or not place:
                streams.append(None)
                media.append(MediaDescription(line.kind, 0, line.proto, line.formats, [], "", ""))
                continue
            says = stream.direction
            direction = rules.answered(line.direction, says)
            if address_of(stream)[0] is Use.UNSPECIFIED:
                direction = rules.without_receiving(direction)
            mux = line.mux and stream.rtcp_mux
            endpoint = self._endpoint(side, place, stream, direction, barred)
            found.setdefault((side, endpoint.media), muxed(endpoint) if mux else endpoint)
            if former is not None:
                found.setdefault((former.side, former.media), muxed(former) if mux else former)
            streams.append(self._stream(line, stream, direction if direction != says else "", mux, to=side.other))
            media.append(stream)
        self._learn_family(side, found.values())
        self._learn_family(side.other, found.values())
        for key, endpoint in self.applied.items():
            if endpoint.port and not any(place and PLACES[place] == key[1] for place in places):
                found[key] = declined(endpoint)
        return self._written(description, streams, media, to=side.other), list(found.values())

    def _stream(self, line: Line, stream: MediaDescription, direction: str, mux: bool, *, to: int) -> StreamRewrite:
        assert self.slot is not None
        rtp, rtcp = self.slot.ports[to, PLACES[line.place]]
        proto = rules.proto_for_answer(line.proto, stream.proto)
        return StreamRewrite(rtp, rtp if mux else rtcp, proto, direction, mux)

    def settle(self, fork: str) -> list[StreamEndpoint]:
        """The callee accepted without a description: its branch's provisional answer is the answer (RFC 3262 5).

        Returns the endpoints that changed for the relay, to which another branch may have spoken last.
        """
        if not self.initial or self.pending is None or self.pending.by == 2:
            return []
        endpoints = self.early.get(fork, [])
        self._settle()
        return self._applied(endpoints, False)

    def _settle(self) -> None:
        self.pending, self.initial = None, False
        self.early.clear()

    def _applied(self, endpoints: Iterable[StreamEndpoint], all_of_them: bool) -> list[StreamEndpoint]:
        """Notes endpoints; answers those that are news to the relay, or all.

        After an exchange inside the call all are told, though they say what they said: the phone may have lost its
        place in a NAT, and the relay is to learn anew where it is (RFC 7362 section 4).
        """
        changed = []
        for endpoint in endpoints:
            key = (endpoint.side, endpoint.media)
            if (all_of_them and endpoint.port) or self.applied.get(key) != endpoint:
                self.applied[key] = endpoint
                changed.append(endpoint)
        return changed

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

    def is_open(self, side: Side) -> bool:
        """Whether a side's audio goes both ways as far as it is concerned."""
        endpoint = self.applied.get((side, Media.AUDIO))
        return endpoint is not None and endpoint.direction is Direction.SENDRECV

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

    def _learn_family(self, side: int, endpoints: Iterable[StreamEndpoint | None]) -> None:
        """A side is told the family that it speaks of itself, whatever its SIP comes by (RFC 6157 section 4.2)."""
        for endpoint in endpoints:
            if endpoint is not None and endpoint.side == side and not endpoint.held:
                self.families[side] = 6 if ":" in endpoint.host else 4
                return

    def _endpoint(
        self, side: int, place: str, stream: MediaDescription, direction: str, barred: Barred
    ) -> StreamEndpoint:
        media, source = PLACES[place], self.hosts.get(side, "").partition("%")[0]
        former = self.applied.get((side, media))
        likely = former.host if former is not None else source
        return endpoint_of(side, media, stream, direction, Origins(source, likely, barred))

    def _written(
        self,
        description: SessionDescription,
        streams: list[StreamRewrite | None],
        media: list[MediaDescription],
        *,
        to: int,
    ) -> bytes:
        slot = self.slot
        assert slot is not None
        host = slot.host_for(self.families.get(to, 4))
        session_id = self.session_id * 2 + (to & 1)
        version, before = self.versions.get(to, (0, 0))
        plain = rewrite(description, streams, host, Origin(session_id, 0), media)
        # Stored with the call and compared by whoever goes on with it: `hash` differs from process to process.
        fingerprint = int.from_bytes(blake2b(plain, digest_size=8).digest())
        if fingerprint != before:
            version += 1
            self.versions[to] = (version, fingerprint)
        return plain.replace(b" %d 0 IN " % session_id, b" %d %d IN " % (session_id, version), 1)

"""The session table: which calls hold which slots, what their streams are, and the `Forward`s that follow.
Pure.

Allocate, update and release are idempotent by call id. Nothing here touches ports, sockets or clocks:
`relay.py` carries out what this table says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from pbx_media_relay.forward import EVERY_PAYLOAD_TYPE, PORTS_PER_SLOT, Forward, payload_mask
from pbx_media_relay.latching import LATCH_WINDOW_NS
from pbx_media_relay.rtp import COMFORT_NOISE
from pbx_media_relay.stream import Direction, Latching, Stream
from pbx_runtime.media_address import is_loopback

STREAMS_PER_SLOT: Final = 4
"""Two media on two sides. Forward numbers are RTP ports divided by 2, so the peer's differs in bit 1."""
SENDING: Final = (Direction.SENDRECV, Direction.SENDONLY)
RECEIVING: Final = (Direction.SENDRECV, Direction.RECVONLY)


@dataclass(frozen=True, slots=True)
class Terms:
    """How a call is to be treated."""

    media_timeout_ns: int
    """Silence in both directions that is reported; 0: never."""
    latching: Latching = Latching.AUTO


@dataclass(frozen=True, slots=True)
class Rules:
    """What this relay's settings say of all calls."""

    own_hosts: frozenset[str] = frozenset()
    """The relay's addresses, bound and announced; loopback counts in any case."""
    asymmetric: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where endpoints are that send from other ports than they receive on."""
    any_host: bool = False
    """Whether a phone behind a NAT may be latched at any host: some have several public addresses."""

    @classmethod
    def of(cls, own_hosts: Iterable[str], asymmetric: Iterable[str], any_host: bool) -> Rules:
        """From texts. Raises ValueError for what is no network."""
        networks = tuple(ip_network(text, strict=False) for text in asymmetric)
        return cls(frozenset(own_hosts), networks, any_host)

    def is_own(self, host: str) -> bool:
        """Whether packets sent to a host come back to this relay's machine."""
        return host in self.own_hosts or is_loopback(host)

    def is_asymmetric(self, host: str) -> bool:
        """Whether what is sent to a host goes where it was announced, whatever it sends from."""
        return bool(self.asymmetric) and any(ip_address(host) in network for network in self.asymmetric)

    def hint_of(self, stream: Stream) -> str:
        """The host that the latch is to prefer, and to keep to; empty: none."""
        if not self.any_host or stream.rtp is None or stream.rtp.host == stream.signaling_host:
            return stream.signaling_host
        return "" if ip_address(stream.rtp.host).is_private else stream.signaling_host


@dataclass(frozen=True, slots=True)
class Refusal:
    """An endpoint that was not taken over; the rest of its command was."""

    stream: Stream
    detail: str


@dataclass(slots=True)
class Call:
    """A call that holds a slot. Owned by the table; others read it."""

    id: str
    slot: int
    instance_id: str
    terms: Terms
    allocated_at_ns: int
    streams: dict[int, Stream] = field(default_factory=dict)
    """What signaling said last, by `Stream.index`."""
    forwards: dict[int, Forward] = field(default_factory=dict)
    """What the datapath should hold for this call, by forward id."""
    tapped: bool = False
    """Whether copies of its packets are wanted."""
    refused: tuple[Refusal, ...] = ()
    """Of the last command."""

    @property
    def slot_port(self) -> int:
        """The first port of the slot."""
        return self.slot * PORTS_PER_SLOT

    def forward_id(self, index: int) -> int:
        """Number of the forward of the stream at that index."""
        return self.slot * STREAMS_PER_SLOT + index

    def expects_media(self) -> bool:
        """Whether both sides should be sending: some medium is sendrecv on both. Hold and ringing are
        exempt."""
        streams = self.streams
        return any(_talks(streams.get(index)) and _talks(streams.get(index + 2)) for index in (0, 1))


@dataclass(frozen=True, slots=True)
class Change:
    """What the datapath has to be told after an update."""

    upsert: tuple[Forward, ...] = ()
    remove: tuple[int, ...] = ()


class CallTable:
    """All calls by id, and by the signaling instance that owns them."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._owned: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls.values())

    def __repr__(self) -> str:
        return f"<CallTable {len(self._calls)} calls of {len(self._owned)} instances>"

    def get(self, call_id: str) -> Call | None:
        """The call, if it holds a slot."""
        return self._calls.get(call_id)

    def owned_by(self, instance_id: str) -> list[Call]:
        """The calls of one signaling instance."""
        return [self._calls[call_id] for call_id in self._owned.get(instance_id, ())]

    def add(self, call: Call) -> None:
        """A call took its slot."""
        assert call.id not in self._calls
        self._calls[call.id] = call
        self._owned.setdefault(call.instance_id, set()).add(call.id)

    def own(self, call: Call, instance_id: str) -> None:
        """Whoever speaks of a call last owns it: an adopting instance takes it over from a dead one."""
        if call.instance_id == instance_id:
            return
        self._disown(call)
        call.instance_id = instance_id
        self._owned.setdefault(instance_id, set()).add(call.id)

    def remove(self, call_id: str) -> Call | None:
        """The call gave its slot back; None for an unknown one."""
        call = self._calls.pop(call_id, None)
        if call is not None:
            self._disown(call)
        return call

    def _disown(self, call: Call) -> None:
        owned = self._owned[call.instance_id]
        owned.discard(call.id)
        if not owned:
            del self._owned[call.instance_id]


def update(call: Call, streams: Iterable[Stream], now_ns: int, rules: Rules = Rules()) -> Change:  # frozen
    """Take over what signaling says of some streams and answer what the datapath must do."""
    changed: dict[int, Forward] = {}
    removed = []
    for stream in streams:
        number = call.forward_id(stream.index)
        known = call.forwards.get(number)
        call.streams[stream.index] = stream
        if stream.rtp is None:
            if call.forwards.pop(number, None) is not None:
                removed.append(number)
            continue
        forward = _forward(call, stream, known, now_ns, rules)
        if known is None:
            _reopen_peer(call, number, changed, now_ns)
        _tell_peer(call, number, stream, changed)
        if forward != known:
            call.forwards[number] = changed[number] = forward
    return Change(tuple(changed.values()), tuple(removed))


def refusals(
    call: Call, streams: Iterable[Stream], is_held: Callable[[int], bool], rules: Rules
) -> tuple[Refusal, ...]:
    """The streams whose endpoint is a port of a slot of ours that a call holds, under whatever address of ours.

    No phone can be there. What is sent there comes in again, and would go round for ever where calls name each other.
    """
    found = []
    for stream in streams:
        for endpoint in (stream.rtp, stream.rtcp):
            slot = endpoint.port // PORTS_PER_SLOT if endpoint is not None and rules.is_own(endpoint.host) else -1
            if endpoint is not None and (slot == call.slot or (slot >= 0 and is_held(slot))):
                found.append(Refusal(stream, f"{endpoint} is a port of a call's slot"))
                break
    return tuple(found)


def without(streams: Iterable[Stream], refused: Iterable[Refusal]) -> tuple[Stream, ...]:
    """The same with nothing known of those that were refused: what was announced before holds no more."""
    gone = {refusal.stream.index for refusal in refused}
    return tuple(
        Stream(stream.side, stream.medium, direction=stream.direction) if stream.index in gone else stream
        for stream in streams
    )


def restore(
    call: Call,
    streams: Iterable[Stream],
    windows: Iterable[tuple[int, int, int]],
    rules: Rules = Rules(),  # frozen
) -> None:
    """Make a call what it was in a former process: its streams, and the latch state of each forward."""
    known = {number: (generation, until_ns) for number, generation, until_ns in windows}
    told = tuple(streams)
    call.streams.update((stream.index, stream) for stream in told)
    for stream in told:
        number = call.forward_id(stream.index)
        if stream.rtp is not None and number in known:
            generation, until_ns = known[number]
            call.forwards[number] = replace(
                _forward(call, stream, None, 0, rules), generation=generation, latch_until_ns=until_ns
            )


def tap(call: Call, tapped: bool) -> Change:
    """Begin or end the copying of a call's packets."""
    call.tapped = tapped
    changed = []
    for forward in list(call.forwards.values()):
        if forward.tap != tapped:
            call.forwards[forward.id] = replaced = replace(forward, tap=tapped)
            changed.append(replaced)
    return Change(tuple(changed))


def _talks(stream: Stream | None) -> bool:
    return stream is not None and stream.rtp is not None and stream.direction is Direction.SENDRECV


def own_slots(streams: Iterable[Stream], rules: Rules = Rules()) -> set[int]:  # frozen
    """The slots, of whatever shard, in which endpoints on this host say to be: none of them may carry their call."""
    endpoints = (endpoint for stream in streams for endpoint in (stream.rtp, stream.rtcp))
    return {
        endpoint.port // PORTS_PER_SLOT
        for endpoint in endpoints
        if endpoint is not None and rules.is_own(endpoint.host)
    }


def _forward(call: Call, stream: Stream, known: Forward | None, now_ns: int, rules: Rules) -> Forward:
    rtp, rtcp = stream.rtp, stream.rtcp_endpoint
    assert rtp is not None
    if known is None or stream.relatch or known.rtp != rtp or known.rtcp != rtcp:
        until_ns = 0 if call.terms.latching is Latching.STRICT else now_ns + LATCH_WINDOW_NS
        generation = known.generation + 1 if known else 0
    else:
        until_ns, generation = known.latch_until_ns, known.generation
    codec = stream.codec
    number = call.forward_id(stream.index)
    return Forward(
        id=number,
        peer=number ^ 2,
        port=number * 2,
        rtp=rtp,
        rtcp=rtcp,
        rtcp_mux=stream.rtcp_mux,
        receive=stream.direction in SENDING,
        send=stream.direction in RECEIVING,
        latch_until_ns=until_ns,
        generation=generation,
        no_rtcp=stream.no_rtcp,
        fixed=rules.is_asymmetric(rtp.host),
        hint_host=rules.hint_of(stream),
        payload_types=_plausible(stream, call.streams.get(stream.index ^ 2)),
        clock_rate_hz=codec.clock_rate_hz if codec else 0,
        tap=call.tapped,
    )


def _plausible(stream: Stream, peer: Stream | None) -> int:
    """The payload types that it may send: numbers are the receiver's (RFC 3264 section 5.1), so its peer's too."""
    if not stream.payload_types:
        return EVERY_PAYLOAD_TYPE
    named = [*stream.payload_types, *(peer.payload_types if peer is not None else ())]
    return payload_mask([*(payload_type[0] for payload_type in named), *COMFORT_NOISE])


def _tell_peer(call: Call, number: int, stream: Stream, changed: dict[int, Forward]) -> None:
    """What a stream names may be sent by its peer."""
    peer, told = call.forwards.get(number ^ 2), call.streams.get(stream.index ^ 2)
    if peer is None or told is None:
        return
    plausible = _plausible(told, stream)
    if plausible != peer.payload_types:
        widened = replace(peer, payload_types=plausible)
        call.forwards[peer.id] = changed[peer.id] = widened


def _reopen_peer(call: Call, number: int, changed: dict[int, Forward], now_ns: int) -> None:
    """The answer came: a caller that could not send before has its window from now on, unless it is
    latched."""
    peer = call.forwards.get(number ^ 2)
    if peer is not None and 0 < peer.latch_until_ns < now_ns + LATCH_WINDOW_NS:
        reopened = replace(peer, latch_until_ns=now_ns + LATCH_WINDOW_NS)
        call.forwards[peer.id] = changed[peer.id] = reopened

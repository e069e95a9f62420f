"""One leg's sound on the clock: packets in as they come, samples out without a gap. Pure: time is an
argument.

Theory of operation. A packet's place in the track is its RTP timestamp, counted from an anchor: the arrival
of the packet that set it. A packet waits `HOLD_NS`, so that others may overtake it, and is then written at
its place; what is missing before it is concealed where packets were lost and silent where none were sent. The
anchor is set anew when the sender starts over (SSRC, timestamp jump), when packets come before their place
(the anchor was a late packet, or the sender's clock is fast), and when for a second none came near its place
(the sender paused its timestamps).
"""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from collections.abc import Iterable
from typing import Final

from pbx_media_relay.recording.codec import RATE, Decoder, UnsupportedCodecError, decoder_of
from pbx_media_relay.rtp import header, is_rtp, payload
from pbx_media_relay.stream import PayloadType

SECOND_NS: Final = 1_000_000_000
HOLD_NS: Final = 200_000_000
"""How long a packet waits for others to come before it: more reordering than this is loss to a phone, too."""
WAITING_MAX: Final = 1000
"""Packets waiting: five times what the fastest codec sends in `HOLD_NS`."""
EARLY_S: Final = 0.04
LATE_S: Final = 0.3
LATE_PACKETS: Final = 50
"""A second of G.711: a shorter delay is a stalled network, which catches up."""
JUMP_S: Final = 5
CONCEAL_SAMPLES: Final = RATE * 100 // 1000
"""Longer losses are silence: nothing that could be made up for them is true."""
STATIC: Final = (PayloadType(0, "PCMU", 8000), PayloadType(8, "PCMA", 8000), PayloadType(9, "G722", 8000))
"""RFC 3551's static types, where signaling told none."""


class Track:
    """The samples of one leg, from `start_ns` on."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._codecs: dict[int, PayloadType] = {each.number: each for each in STATIC}
        self._decoders: dict[int, Decoder | None] = {}
        self._waiting: list[tuple[int, int, bytes]] = []
        self._highest: int | None = None
        self._done: int | None = None
        self._ssrc: int | None = None
        self._anchor: tuple[int, int] | None = None
        self._lateness: deque[int] = deque(maxlen=LATE_PACKETS)
        self._decoder: Decoder | None = None
        self._samples: array[int] = array("h")
        self._position = 0
        """Samples written out and in `_samples`, from the start."""

    def __repr__(self) -> str:
        return f"<Track at {self._position / RATE:.2f} s, {len(self._waiting)} packets waiting>"

    def use(self, payload_types: Iterable[PayloadType]) -> None:
        """What the numbers mean from now on."""
        for payload_type in payload_types:
            if self._codecs.get(payload_type.number) != payload_type:
                self._codecs[payload_type.number] = payload_type
                self._decoders.pop(payload_type.number, None)

    def receive(self, packet: bytes, at_ns: int) -> None:
        """A packet came; call `samples_until` now and then."""
        if not is_rtp(packet) or len(self._waiting) >= WAITING_MAX:
            return
        head = header(packet)
        if head.ssrc != self._ssrc:
            self._drain()
            self._ssrc, self._highest, self._done, self._anchor = head.ssrc, None, None, None
        heapq.heappush(self._waiting, (self._extended(head.sequence), at_ns, packet))

    def samples_until(self, now_ns: int) -> array[int]:
        """All samples up to `now_ns` less the hold; exactly as many as the clock says."""
        ripe_ns = now_ns - HOLD_NS
        wanted = self._place_of(ripe_ns)
        # A packet that came later than its place says is not ripe yet, but nothing else can fill that place.
        while self._waiting and (self._position < wanted or min(at_ns for _, at_ns, _ in self._waiting) <= ripe_ns):
            self._write(*heapq.heappop(self._waiting))
        if wanted > self._position:
            self._fill(wanted - self._position, lost=False)
        surplus = self._position - wanted
        ready = self._samples[: len(self._samples) - surplus] if surplus > 0 else self._samples
        self._samples = self._samples[len(ready) :]
        return ready

    def _place_of(self, at_ns: int) -> int:
        return max(0, (at_ns - self._start_ns) * RATE // SECOND_NS)

    def _extended(self, sequence: int) -> int:
        if self._highest is None:
            self._highest = sequence + 0x10000
            return self._highest
        step = (sequence - self._highest) & 0xFFFF
        extended = self._highest + (step if step < 0x8000 else step - 0x10000)
        self._highest = max(self._highest, extended)
        return extended

    def _drain(self) -> None:
        while self._waiting:
            self._write(*heapq.heappop(self._waiting))

    def _write(self, number: int, at_ns: int, packet: bytes) -> None:
        """Put one packet at its place, unless its turn is over."""
        if self._done is not None and number <= self._done:
            return
        lost = self._done is not None and number > self._done + 1
        self._done = number
        head = header(packet)
        codec = self._codecs.get(head.payload_type)
        decoder = self._decoder_of(head.payload_type)
        if codec is None or decoder is None:
            return
        samples = decoder.decode(payload(packet))
        place = self._anchored(head.timestamp, codec.clock_rate_hz, at_ns)
        if place > self._position:
            self._fill(place - self._position, lost)
        self._decoder = decoder
        overlap = self._position - place
        self._samples.extend(samples[overlap:] if overlap > 0 else samples)
        self._position += max(0, len(samples) - overlap)

    def _decoder_of(self, number: int) -> Decoder | None:
        if number not in self._decoders:
            codec = self._codecs.get(number)
            try:
                self._decoders[number] = decoder_of(codec) if codec else None
            except UnsupportedCodecError:
                self._decoders[number] = None
        return self._decoders[number]

    def _anchored(self, timestamp: int, clock_rate_hz: int, at_ns: int) -> int:
        """The place that the timestamp means."""
        arrival = self._place_of(at_ns)
        if self._anchor is not None:
            step = (timestamp - self._anchor[0]) & 0xFFFFFFFF
            step -= 0x100000000 if step >= 0x80000000 else 0
            place = self._anchor[1] + step * RATE // clock_rate_hz
            self._lateness.append(arrival - place)
            if not self._is_off(arrival - place):
                self._anchor = (timestamp, place)
                return place
        self._lateness.clear()
        self._anchor = (timestamp, arrival)
        return arrival

    def _is_off(self, late: int) -> bool:
        if late < -EARLY_S * RATE or late > JUMP_S * RATE:
            return True
        return len(self._lateness) == LATE_PACKETS and min(self._lateness) > LATE_S * RATE

    def _fill(self, count: int, lost: bool) -> None:
        """Make up `count` samples: what was lost is concealed for a while, the rest is silence."""
        concealed = min(count, CONCEAL_SAMPLES) if self._decoder is not None else 0
        if concealed and self._decoder is not None:
            made = self._decoder.conceal(concealed)
            if not lost:
                _fade(made)
                self._decoder = None
            self._samples.extend(made)
        self._samples.frombytes(bytes(2 * (count - concealed)))
        self._position += count


def _fade(samples: array[int]) -> None:
    """Let a sound that simply ended ring out within 5 ms instead of stopping with a click."""
    ramp = min(len(samples), RATE // 200)
    for at in range(len(samples)):
        samples[at] = samples[at] * (ramp - at) // ramp if at < ramp else 0

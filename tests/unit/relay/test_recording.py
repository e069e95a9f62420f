"""Decoders against reference values, tracks against the clock, files against what a player reads."""

from __future__ import annotations

import ctypes.util
import random
import socket
import sys
import wave
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pbx_media_relay.forward import Side
from pbx_media_relay.recording import codec, messages
from pbx_media_relay.recording.codec import ALAW, G711, G722, RATE, ULAW, Opus, UnsupportedCodecError, decoder_of
from pbx_media_relay.recording.room import LOOK_NS, Bounds, Room
from pbx_media_relay.recording.track import HOLD_NS, Track
from pbx_media_relay.recording.wav import StereoWav
from pbx_media_relay.recording.worker import Worker
from pbx_media_relay.rtp import Header, build
from pbx_media_relay.stream import PayloadType
from support.speech import OpusEncoder, jump_max, pcma, pcmu, strength, tone

MS = 1_000_000
START = 5_000_000_000
PCMU, OPUS = PayloadType(0, "PCMU", 8000), PayloadType(96, "opus", 48000, 2)


@pytest.mark.parametrize(
    ("table", "code", "sample"),
    [
        (ULAW, 0xFF, 0), (ULAW, 0x7F, 0), (ULAW, 0x00, -32124), (ULAW, 0x80, 32124),
        (ULAW, 0xF0, 120), (ULAW, 0x6F, -132),
        (ALAW, 0xD5, 8), (ALAW, 0x55, -8), (ALAW, 0x2A, -32256), (ALAW, 0xAA, 32256),
        (ALAW, 0x00, -5504), (ALAW, 0x91, 2624),
    ],
)  # fmt: skip
def test_g711_reference_values(table: tuple[int, ...], code: int, sample: int) -> None:
    assert table[code] == sample


@pytest.mark.parametrize("table", [ULAW, ALAW])
def test_g711_is_odd_and_rises(table: tuple[int, ...]) -> None:
    assert sorted(table) == sorted(-sample for sample in table)
    assert len(set(table)) in (255, 256)


def test_g711_interpolates_to_twice_the_rate() -> None:
    samples = G711(ULAW).decode(bytes([0x80, 0x80, 0xFF]))
    assert list(samples) == [16062, 32124, 32124, 32124, 16062, 0]


def test_a_lost_packet_is_repeated_and_fades() -> None:
    decoder = G711(ULAW)
    assert not any(decoder.conceal(100))
    decoder.decode(pcmu(400, 0))
    made = decoder.conceal(RATE // 10)
    assert max(made[:320]) > 5000
    assert not any(made[960:])
    decoder.decode(b"")


def test_opus_and_its_concealment() -> None:
    try:
        encoder, decoder = OpusEncoder(), Opus()
    except (OSError, UnsupportedCodecError) as missing:
        pytest.skip(str(missing))
    out = array("h")
    for frame in range(50):
        out += decoder.decode(encoder.encode(tone(600, 960, 48000, frame * 960)))
    assert len(out) == RATE
    assert strength(out[1600:], 600) > 0.8
    assert len(decoder.conceal(320)) == 320
    assert len(decoder.conceal(77)) == 77
    assert len(decoder.decode(b"\xff\xff\xff")) in (0, 320, 640, 960, 1920)


def test_g722_decodes_to_wideband() -> None:
    try:
        decoder = G722()
    except UnsupportedCodecError as missing:
        pytest.skip(str(missing))
    assert len(decoder.decode(bytes(160))) == 320
    assert len(decoder.conceal(320)) == 320


@pytest.mark.parametrize("encoding", ["telephone-event", "H264", ""])
def test_no_decoder_says_so(encoding: str) -> None:
    with pytest.raises(UnsupportedCodecError):
        decoder_of(PayloadType(101, encoding, 8000))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(codec.ctypes, "CDLL", missing)
    with pytest.raises(UnsupportedCodecError, match=r"G\.722 needs libspandsp"):
        G722()


def test_opus_without_its_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """opuslib looks for libopus when it is imported, and raises an Exception of no kind where there is none."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "opuslib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(UnsupportedCodecError, match="opus needs libopus"):
        Opus()


def test_opus_is_decoded_by_opuslib() -> None:
    try:
        decoder = Opus()
    except UnsupportedCodecError as missing:
        pytest.skip(str(missing))
    assert type(decoder._decoder).__module__.startswith("opuslib")


class Sender:
    """Packets of 20 ms, numbered and stamped."""

    def __init__(self, track: Track, frequency: int = 400, ssrc: int = 7) -> None:
        self.track = track
        self.frequency = frequency
        self.ssrc = ssrc

    def send(self, frame: int, at_ms: float, law: str = "u") -> None:
        body = pcmu(self.frequency, frame) if law == "u" else pcma(self.frequency, frame)
        head = Header(0 if law == "u" else 8, False, 65500 + frame, frame * 160, self.ssrc)
        self.track.receive(build(head, body), START + int(at_ms * MS))


def collect(track: Track, until_ms: int) -> array[int]:
    out = array("h")
    for at_ms in range(0, until_ms + 1, 100):
        out += track.samples_until(START + at_ms * MS + HOLD_NS)
    return out


def run(track: Track, arrivals: list[tuple[int, float]], until_ms: int, **how: str) -> array[int]:
    """Feed in order of arrival, reading out as the worker does."""
    sender, out = Sender(track), array("h")
    pending = sorted(arrivals, key=lambda each: each[1])
    for now_ms in range(0, until_ms + 1 + HOLD_NS // MS, 50):
        while pending and pending[0][1] <= now_ms:
            sender.send(*pending.pop(0), **how)
        out += track.samples_until(START + now_ms * MS)
    return out


def test_a_steady_stream_is_as_long_as_the_clock_and_without_clicks() -> None:
    samples = run(Track(START), [(frame, frame * 20) for frame in range(150)], 3000)
    assert len(samples) == 3 * RATE
    assert strength(samples[800 : 800 + RATE], 400) > 0.95
    assert jump_max(samples[:-1600]) < 2500


def test_jitter_and_reordering_do_not_move_a_sample() -> None:
    rng = random.Random(3)
    arrivals = [(frame, frame * 20 + rng.uniform(0, 60)) for frame in range(1, 150)]
    samples = run(Track(START), [(0, 0.0), *arrivals], 3000)
    assert len(samples) == 3 * RATE
    assert jump_max(samples[:-1600]) < 2500


def test_packets_that_all_come_later_than_the_first_leave_no_dip() -> None:
    samples = run(Track(START), [(frame, frame * 20 + (17 if frame else 0)) for frame in range(150)], 3000)
    parts = [samples[at : at + RATE // 50] for at in range(RATE // 10, 2 * RATE, RATE // 50)]
    assert min(strength(part, 400) for part in parts) > 0.9


def test_a_lost_packet_is_no_click_beyond_its_concealment() -> None:
    samples = run(Track(START), [(frame, frame * 20) for frame in range(150) if frame != 50], 3000)
    assert len(samples) == 3 * RATE
    assert jump_max(samples[:-1600]) < 9000
    assert strength(samples[RATE : RATE + 320], 400) > 0.3, "concealed"


def test_silence_keeps_its_length() -> None:
    frames = [frame for frame in range(150) if not 50 <= frame < 100]
    sender_numbers = {frame: index for index, frame in enumerate(frames)}
    track, out = Track(START), array("h")
    for now_ms in range(0, 3201, 20):
        frame = now_ms // 20
        if frame in sender_numbers:
            head = Header(0, False, sender_numbers[frame], frame * 160, 7)
            track.receive(build(head, pcmu(400, frame)), START + now_ms * MS)
        out += track.samples_until(START + now_ms * MS)
    assert len(out) == 3 * RATE
    assert not any(out[RATE + 400 : 2 * RATE - 1])
    assert strength(out[2 * RATE + 400 : 3 * RATE - 400], 400) > 0.95


def test_a_sender_that_starts_over_goes_on_in_step() -> None:
    track, out = Track(START), array("h")
    first, second = Sender(track), Sender(track, ssrc=9)
    for now_ms in range(0, 3201, 20):
        frame = now_ms // 20
        if frame < 75:
            first.send(frame, now_ms)
        elif frame < 150:
            second.send(frame - 75, now_ms, law="a")
        out += track.samples_until(START + now_ms * MS)
    assert len(out) == 3 * RATE
    assert strength(out[2 * RATE : 3 * RATE - 640], 400) > 0.9


def test_a_stalled_network_catches_up_and_a_late_anchor_is_mended() -> None:
    stalled = [(frame, frame * 20 if not 40 <= frame < 60 else 1200) for frame in range(150)]
    assert len(run(Track(START), stalled, 3000)) == 3 * RATE
    late = [(0, 150.0), *[(frame, frame * 20) for frame in range(8, 150)]]
    samples = run(Track(START), [each for each in late if each[0] != 1], 3000)
    assert len(samples) == 3 * RATE
    assert strength(samples[RATE : 2 * RATE], 400) > 0.95


def test_opus_then_pcmu_in_one_track() -> None:
    try:
        encoder = OpusEncoder()
    except OSError as missing:
        pytest.skip(str(missing))
    track, out = Track(START), array("h")
    track.use((OPUS, PCMU))
    for now_ms in range(0, 3201, 20):
        frame = now_ms // 20
        if frame < 75:
            body = encoder.encode(tone(500, 960, 48000, frame * 960))
            track.receive(build(Header(96, False, frame, frame * 960, 7), body), START + now_ms * MS)
        elif frame < 150:
            track.receive(
                build(Header(0, False, frame, 75 * 960 + (frame - 75) * 160, 7), pcmu(400, frame)), START + now_ms * MS
            )
        out += track.samples_until(START + now_ms * MS)
    assert len(out) == 3 * RATE
    assert strength(out[4000 : RATE + 4000], 500) > 0.8
    assert strength(out[2 * RATE : 3 * RATE - 640], 400) > 0.9


def test_noise_makes_silence_and_no_crash() -> None:
    rng, track, out = random.Random(1), Track(START), array("h")
    for now_ms in range(0, 2201, 10):
        body = rng.randbytes(rng.randrange(0, 200))
        track.receive(body, START + now_ms * MS)
        kind = rng.choice([0, 8, 9, 13, 101])
        head = Header(kind, False, rng.randrange(65536), rng.randrange(1 << 32), rng.randrange(3))
        track.receive(build(head, body), START + now_ms * MS)
        out += track.samples_until(START + now_ms * MS)
    assert len(out) == 2 * RATE


def test_a_wav_file_that_others_read(tmp_path: Path) -> None:
    file = StereoWav(tmp_path / "deep" / "x.wav")
    file.write(array("h", [1, 2, 3]), array("h", [-1, -2, -3]))
    file.sync_header()
    file.write(array("h", [4]), array("h", [-4]))
    file.close()
    with wave.open(str(tmp_path / "deep" / "x.wav")) as read:
        assert read.getparams()[:4] == (2, 2, RATE, 4)
        assert array("h", read.readframes(9)).tolist() == [1, -1, 2, -2, 3, -3, 4, -4]


@pytest.mark.parametrize(
    "message",
    [
        messages.Open(1, "/x.wav", 7, ((PCMU,), (OPUS, PCMU))),
        messages.Codecs(1, Side.B, (PCMU,)),
        messages.End(1, 9),
        messages.Packet(1, Side.A, 5, b"\x80rtp"),
    ],
)
def test_messages_survive(message: messages.Word | messages.Packet) -> None:
    assert messages.decode(messages.encode(message)) == message


def test_what_the_worker_says_survives() -> None:
    stored = messages.Stored(1, "/x.wav", 20, 44, "disk full")
    assert messages.decode_stored(messages.encode(stored)) == stored


Make = Callable[[int], tuple[Worker, socket.socket]]


@pytest.fixture
def worker_of(tmp_path: Path) -> Iterator[Make]:
    """`worker_of(bytes_max)` answers a worker with that room, and the relay's end of its socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield lambda bytes_max: (Worker(theirs, Room(tmp_path, Bounds(bytes_max, free_min=0.0))), ours)


def test_recordings_end_at_the_size_of_their_volume_and_what_there_is_plays(tmp_path: Path, worker_of: Make) -> None:
    second = RATE * 4
    worker, relay = worker_of(3 * second)
    path = tmp_path / "one.wav"
    worker.handle(messages.Open(1, str(path), START, ((PCMU,), (PCMU,))))
    recording = worker._recordings[1]
    for at_ms in range(0, 5000, 250):
        worker._step(recording, START + at_ms * MS + HOLD_NS)
        if not worker._recordings:
            break
    stored = messages.decode_stored(relay.recv(messages.MESSAGE_MAX))
    assert f"of {3 * second} bytes" in stored.error
    assert path.stat().st_size == stored.bytes <= 3 * second
    with wave.open(str(path)) as file:
        assert file.getnframes() == stored.duration_ms * RATE // 1000 > 2 * RATE


def test_room_is_there_again_once_files_were_taken_away(tmp_path: Path) -> None:
    room = Room(tmp_path, Bounds(1000, free_min=0.0))
    (tmp_path / "old.wav").write_bytes(bytes(900))
    with pytest.raises(OSError, match="hold 900 of 1000 bytes"):
        room.take(200, START)
    (tmp_path / "old.wav").unlink()
    room.take(200, START + LOOK_NS)
    with pytest.raises(OSError, match="hold 200 of 1000 bytes"):
        room.take(900, START + LOOK_NS)


def test_a_part_of_the_disk_is_left_to_others(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="less than 100% of the disk is free"):
        Room(tmp_path, Bounds(free_min=1.0)).take(1, START)
    Room(tmp_path, Bounds(free_min=0.0)).take(1 << 40, START)


def test_without_room_no_recording_begins(tmp_path: Path, worker_of: Make) -> None:
    worker, relay = worker_of(10)
    worker.handle(messages.Open(1, str(tmp_path / "one.wav"), START, ((PCMU,), (PCMU,))))
    stored = messages.decode_stored(relay.recv(messages.MESSAGE_MAX))
    assert (stored.key, stored.bytes, bool(stored.error)) == (1, 0, True)
    assert not list(tmp_path.iterdir())

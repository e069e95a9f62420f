"""The recording worker: a process of its own that turns copied packets into files. Run by `recorder`, never
by hand.

It ends when the relay closes the socket, after closing all files. Where the room for recordings is used up (`room`), or
the disk refuses, the recordings that it hits end; calls go on.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

from pbx_media_relay.forward import Side
from pbx_media_relay.recording.messages import (
    MESSAGE_MAX,
    Codecs,
    End,
    Open,
    Packet,
    Stored,
    Word,
    decode,
    encode,
)
from pbx_media_relay.recording.room import Bounds, Room
from pbx_media_relay.recording.track import HOLD_NS, Track
from pbx_media_relay.recording.wav import BYTES_PER_FRAME, HEADER, StereoWav

STEP_S: Final = 0.25
"""How often sound is written; packets wait for 0.2 s anyway."""
HEADER_S: Final = 10
"""How often a header is made true: what a killed worker may lose of a file."""
BURST: Final = 256
"""Messages taken in a row before sound is written."""


class Recording:
    """One call: two tracks and a file."""

    def __init__(self, opened: Open, room: Room) -> None:
        """Raises OSError where there is no room, or the file cannot be made."""
        self.key = opened.key
        self._room = room
        room.take(HEADER.size, opened.start_ns)
        self.wav = StereoWav(Path(opened.path))
        self.tracks = {side: Track(opened.start_ns) for side in Side}
        self._header_ns = opened.start_ns
        for side in Side:
            self.tracks[side].use(opened.codecs[side])

    def write_until(self, now_ns: int) -> None:
        """Write both sides up to that time. Raises OSError."""
        left = self.tracks[Side.A].samples_until(now_ns)
        right = self.tracks[Side.B].samples_until(now_ns)
        if not self.wav.is_full:
            self._room.take(BYTES_PER_FRAME * len(left), now_ns)
        self.wav.write(left, right)
        if now_ns - self._header_ns > HEADER_S * 1_000_000_000:
            self._header_ns = now_ns
            self.wav.sync_header()

    def close(self, end_ns: int) -> Stored:
        """Write what is left and close the file."""
        try:
            self.write_until(end_ns + HOLD_NS)
            self.wav.close()
        except OSError as error:
            self.abandon()
            return self.stored(str(error))
        return self.stored()

    def abandon(self) -> None:
        """Close the file with what there is: it plays as far as it goes."""
        with contextlib.suppress(OSError):  # a full disk may refuse even that
            self.wav.close()

    def stored(self, error: str = "") -> Stored:
        """What to say of the file."""
        return Stored(self.key, str(self.wav.path), self.wav.duration_ms, self.wav.data_bytes + 44, error)


class Worker:
    """All recordings of one relay."""

    def __init__(self, link: socket.socket, room: Room) -> None:
        self._link = link
        self._room = room
        # poll, not select: a busy relay's descriptors pass 1023, and this one keeps its number.
        self._poll = select.poll()
        self._poll.register(link, select.POLLIN)
        self._recordings: dict[int, Recording] = {}
        self._ending: dict[int, int] = {}

    def run(self) -> None:
        """Work until the relay closes its end."""
        while self._take_messages():
            now_ns = time.monotonic_ns()
            for recording in list(self._recordings.values()):
                self._step(recording, now_ns)
        for key in list(self._recordings):
            self._close(key, time.monotonic_ns())

    def handle(self, message: Word | Packet) -> None:
        """Do what the relay said."""
        match message:
            case Packet():
                recording = self._recordings.get(message.key)
                if recording is not None:
                    recording.tracks[message.side].receive(message.rtp, message.at_ns)
            case Open():
                self._open(message)
            case Codecs():
                recording = self._recordings.get(message.key)
                if recording is not None:
                    recording.tracks[message.side].use(message.payload_types)
            case End():
                self._close(message.key, message.end_ns)

    def _open(self, opened: Open) -> None:
        try:
            self._recordings[opened.key] = Recording(opened, self._room)
        except OSError as error:
            self._say(Stored(opened.key, opened.path, 0, 0, str(error)))

    def _step(self, recording: Recording, now_ns: int) -> None:
        try:
            recording.write_until(now_ns)
        except OSError as error:
            del self._recordings[recording.key]
            recording.abandon()
            self._say(recording.stored(str(error)))

    def _close(self, key: int, end_ns: int) -> None:
        recording = self._recordings.pop(key, None)
        if recording is not None:
            self._say(recording.close(end_ns))

    def _take_messages(self) -> bool:
        """Handle what is there, waiting a step for the first; False once the relay is gone."""
        if not self._poll.poll(STEP_S * 1000):
            return True
        for _ in range(BURST):
            try:
                data = self._link.recv(MESSAGE_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self.handle(decode(data))
        return True

    def _say(self, stored: Stored) -> None:
        try:
            self._link.send(encode(stored))
        except OSError:
            return  # the relay is gone: nobody is left to tell


def main(descriptor: int, directory: str, bytes_max: int, free_min: float) -> None:
    """Work on the inherited socket."""
    # A terminal's Ctrl-C goes to the whole group: the relay ends this process by closing the socket, after
    # its calls.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as link:
        Worker(link, Room(Path(directory), Bounds(bytes_max, free_min))).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))

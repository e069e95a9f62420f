"""A stereo WAV file that grows: 16-bit PCM, its header made true now and then, so that a cut file still
plays."""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from typing import Final

from pbx_media_relay.recording.codec import RATE

HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
CHANNELS: Final = 2
BYTES_PER_FRAME: Final = CHANNELS * 2
DATA_BYTES_MAX: Final = 1 << 30
"""4 h 39 min; a WAV file's sizes are 32 bits, and a forgotten recording must end."""


class StereoWav:
    """One file being written. Raises OSError where the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data_bytes = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._file.write(_header(0))

    def __repr__(self) -> str:
        return f"<StereoWav {self.path.name} {self.duration_ms} ms>"

    @property
    def duration_ms(self) -> int:
        """How long it plays."""
        return self.data_bytes * 1000 // (BYTES_PER_FRAME * RATE)

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached: nothing more is written."""
        return self.data_bytes >= DATA_BYTES_MAX

    def write(self, left: array[int], right: array[int]) -> None:
        """Append samples; both sides have the same number."""
        if self.is_full:
            return
        both = array("h", bytes(2 * CHANNELS * len(left)))
        both[0::2], both[1::2] = left, right
        self._file.write(both.tobytes())
        self.data_bytes += len(both) * 2

    def sync_header(self) -> None:
        """Write what there is, with the header that says so."""
        self._file.seek(0)
        self._file.write(_header(self.data_bytes))
        self._file.seek(0, 2)
        self._file.flush()

    def close(self) -> None:
        """Make the header true and close."""
        self.sync_header()
        self._file.close()


def _header(data_bytes: int) -> bytes:
    return HEADER.pack(
        b"RIFF", HEADER.size - 8 + data_bytes, b"WAVE", b"fmt ", 16, 1, CHANNELS, RATE,
        RATE * BYTES_PER_FRAME, BYTES_PER_FRAME, 16, b"data", data_bytes,
    )  # fmt: skip

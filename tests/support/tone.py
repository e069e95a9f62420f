"""Tones in WAV files: makes one, and finds how much of a frequency there is in one (Goertzel's algorithm).

Linear 16-bit, which is what baresip's aufile writes.
"""

from __future__ import annotations

import array
import math
import wave
from dataclasses import dataclass
from pathlib import Path

RATE_HZ = 8000
_AMPLITUDE = 8000


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples of one channel."""

    samples: tuple[int, ...]
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate_hz

    def power(self) -> float:
        """Mean square of the samples."""
        return sum(s * s for s in self.samples) / max(1, len(self.samples))

    def share_of(self, frequency_hz: float) -> float:
        """How much of the sound's power lies at a frequency: 0 to 1; 0 for silence."""
        total = self.power()
        if total == 0:
            return 0.0
        w = 2 * math.pi * frequency_hz / self.rate_hz
        coefficient, s1, s2 = 2 * math.cos(w), 0.0, 0.0
        for sample in self.samples:
            s1, s2 = sample + coefficient * s1 - s2, s1
        energy = s1 * s1 + s2 * s2 - coefficient * s1 * s2
        return 2 * energy / (len(self.samples) ** 2 * total)

    def cut(self, start_s: float, end_s: float) -> Sound:
        """The part between two times."""
        return Sound(self.samples[int(start_s * self.rate_hz) : int(end_s * self.rate_hz)], self.rate_hz)


def write_tone(path: Path, frequency_hz: float, seconds: float, rate_hz: int = RATE_HZ, channels: int = 1) -> None:
    """Write a sine tone, the same on all channels."""
    step = 2 * math.pi * frequency_hz / rate_hz
    wave_of = (round(_AMPLITUDE * math.sin(step * n)) for n in range(int(seconds * rate_hz)))
    samples = array.array("h", (sample for sample in wave_of for _ in range(channels)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


def read(path: Path) -> Sound:
    """Read the first channel of a 16-bit WAV file."""
    with wave.open(str(path), "rb") as file:
        assert file.getsampwidth() == 2, path
        samples = array.array("h", file.readframes(file.getnframes()))
        return Sound(tuple(samples[:: file.getnchannels()]), file.getframerate())

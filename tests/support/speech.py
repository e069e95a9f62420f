"""Tones as RTP payloads, and a way to hear which tone a recording holds."""

from __future__ import annotations

import importlib
import itertools
import math
from array import array

from pbx_media_relay.recording.codec import ALAW, RATE, ULAW

AMPLITUDE = 10000


def tone(frequency: int, count: int, rate: int, start: int = 0) -> array[int]:
    """A sine wave."""
    step = 2 * math.pi * frequency / rate
    return array("h", [round(AMPLITUDE * math.sin(step * (start + at))) for at in range(count)])


def g711(samples: array[int], table: tuple[int, ...]) -> bytes:
    """The nearest code of each sample: slow and certainly right."""
    nearest = {sample: min(range(256), key=lambda code: abs(table[code] - sample)) for sample in set(samples)}
    return bytes(nearest[sample] for sample in samples)


def pcmu(frequency: int, frame: int) -> bytes:
    """20 ms of a tone, mu-law."""
    return g711(tone(frequency, 160, 8000, frame * 160), ULAW)


def pcma(frequency: int, frame: int) -> bytes:
    """20 ms of a tone, A-law."""
    return g711(tone(frequency, 160, 8000, frame * 160), ALAW)


class OpusEncoder:
    """libopus's encoder, 48 kHz mono. Raises OSError where the library is missing."""

    def __init__(self) -> None:
        try:
            opuslib = importlib.import_module("opuslib")
        except Exception as error:  # opuslib raises no other kind without libopus
            raise OSError(str(error)) from error
        self._encoder = opuslib.Encoder(48000, 1, "voip")

    def encode(self, samples: array[int]) -> bytes:
        """One frame."""
        encoded: bytes = self._encoder.encode(samples.tobytes(), len(samples))
        return encoded


def strength(samples: array[int], frequency: int) -> float:
    """How much of a tone is in the samples (Goertzel), 1.0 for `tone` itself."""
    omega = 2 * math.pi * frequency / RATE
    real = sum(sample * math.cos(omega * at) for at, sample in enumerate(samples))
    imaginary = sum(sample * math.sin(omega * at) for at, sample in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / len(samples) / AMPLITUDE if samples else 0.0


def jump_max(samples: array[int]) -> int:
    """The largest step between neighbours: a click is one far above the tone's own."""
    return max((abs(b - a) for a, b in itertools.pairwise(samples)), default=0)

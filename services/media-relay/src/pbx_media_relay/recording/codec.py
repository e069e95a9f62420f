"""Decoders to 16-bit samples at 16 kHz: G.711 in itself, G.722 and Opus where their C libraries are installed.

A decoder belongs to one stream and keeps its state. `conceal` makes up what a lost packet held.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from array import array
from typing import Any, Final, Protocol

from pbx_media_relay.stream import PayloadType

RATE: Final = 16000
"""Samples per second of every track: what G.722 and wideband Opus carry; narrowband is interpolated."""
FRAME_MAX: Final = RATE * 120 // 1000
"""Longest Opus packet (RFC 6716 section 3.2.5)."""
FADE_SAMPLES: Final = RATE * 60 // 1000
"""Repeated speech fades to silence within 60 ms, as G.711 appendix I has it."""
G722_BITRATE: Final = 64000
Samples = array  # of "h"


class UnsupportedCodecError(Exception):
    """No decoder for this payload type on this machine; the text says why."""


class Decoder(Protocol):
    """One stream's decoder."""

    def decode(self, payload: bytes) -> array[int]:
        """The samples of a payload; empty where it makes no sense."""

    def conceal(self, count: int) -> array[int]:
        """So many samples in the place of lost ones."""


def ulaw(code: int) -> int:
    """One mu-law octet as a 16-bit sample (ITU-T G.711 table 2, 14 bits scaled to 16)."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)
    return 0x84 - magnitude if code & 0x80 else magnitude - 0x84


def alaw(code: int) -> int:
    """One A-law octet as a 16-bit sample (ITU-T G.711 table 1, 13 bits scaled to 16)."""
    code ^= 0x55
    exponent, mantissa = code >> 4 & 7, code & 0x0F
    magnitude = (mantissa << 4) + 8 if exponent == 0 else ((mantissa << 4) + 0x108) << (exponent - 1)
    return magnitude if code & 0x80 else -magnitude


ULAW: Final = tuple(map(ulaw, range(256)))
ALAW: Final = tuple(map(alaw, range(256)))


class _Repeating:
    """Concealment by repetition: the last 20 ms again, fading."""

    def __init__(self) -> None:
        self._last: array[int] = array("h")
        self._faded = 0

    def remember(self, samples: array[int]) -> array[int]:
        """Take note of what was decoded."""
        if samples:
            self._last, self._faded = samples[-RATE // 50 :], 0
        return samples

    def conceal(self, count: int) -> array[int]:
        """See `Decoder`."""
        made = array("h", bytes(2 * count))
        if not self._last:
            return made
        for at in range(min(count, FADE_SAMPLES - self._faded)):
            left = FADE_SAMPLES - self._faded - at
            made[at] = self._last[(self._faded + at) % len(self._last)] * left // FADE_SAMPLES
        self._faded = min(FADE_SAMPLES, self._faded + count)
        return made


class G711(_Repeating):
    """Mu-law or A-law, one octet a sample at 8 kHz, interpolated to 16 kHz."""

    def __init__(self, table: tuple[int, ...]) -> None:
        super().__init__()
        self._table = table
        self._before = 0

    def decode(self, payload: bytes) -> array[int]:
        """See `Decoder`."""
        table, before = self._table, self._before
        samples = array("h", bytes(4 * len(payload)))
        narrow = array("h", [table[code] for code in payload])
        if narrow:
            shifted = array("h", [before]) + narrow[:-1]
            samples[0::2] = array("h", [(a + b) >> 1 for a, b in zip(shifted, narrow, strict=True)])
            samples[1::2] = narrow
            self._before = narrow[-1]
        return self.remember(samples)


class Opus:
    """RFC 6716 by opuslib and the libopus that it finds, which conceals by itself."""

    def __init__(self) -> None:
        opuslib = _opuslib()
        self._error = opuslib.exceptions.OpusError
        self._decoder = opuslib.Decoder(RATE, 1)

    def decode(self, payload: bytes) -> array[int]:
        """See `Decoder`."""
        return self._decode(payload, FRAME_MAX) if payload else array("h")

    def conceal(self, count: int) -> array[int]:
        """See `Decoder`; libopus works in steps of 2.5 ms."""
        step = RATE // 400
        whole = min(-(-count // step) * step, FRAME_MAX)
        made = self._decode(b"", whole)[:count]  # no octets: the packet was lost
        return made + array("h", bytes(2 * (count - len(made))))

    def _decode(self, payload: bytes, room: int) -> array[int]:
        samples = array("h")
        with contextlib.suppress(self._error):  # it is no Opus packet
            samples.frombytes(self._decoder.decode(payload, room))
        return samples


class G722(_Repeating):
    """ITU-T G.722 at 64 kbit/s by libspandsp."""

    def __init__(self) -> None:
        super().__init__()
        self._library = _load("libspandsp.so.2", "G.722")
        self._library.g722_decode_init.restype = ctypes.c_void_p
        self._state = ctypes.c_void_p(self._library.g722_decode_init(None, G722_BITRATE, 0))

    def __del__(self) -> None:
        if hasattr(self, "_state"):
            self._library.g722_decode_free(self._state)

    def decode(self, payload: bytes) -> array[int]:
        """See `Decoder`."""
        buffer = (ctypes.c_int16 * (2 * len(payload) + 2))()
        count = self._library.g722_decode(self._state, buffer, payload, len(payload))
        samples = array("h")
        samples.frombytes(bytes(buffer)[: 2 * max(count, 0)])
        return self.remember(samples)


def decoder_of(payload_type: PayloadType) -> Decoder:
    """A new decoder. Raises UnsupportedCodecError."""
    match payload_type.encoding.upper():
        case "PCMU":
            return G711(ULAW)
        case "PCMA":
            return G711(ALAW)
        case "OPUS":
            return Opus()
        case "G722":
            return G722()
        case other:
            raise UnsupportedCodecError(f"no decoder for {other!r}")


def _opuslib() -> Any:
    """opuslib, which loads libopus as it is imported. Raises UnsupportedCodecError."""
    try:
        return importlib.import_module("opuslib")
    except Exception as error:  # without libopus it raises no other kind
        raise UnsupportedCodecError(f"opus needs libopus: {error}") from error


def _load(name: str, codec: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise UnsupportedCodecError(f"{codec} needs {name}: {error}") from error

"""Lines that were read before: phones write the same ones over and over, in their heads and in their descriptions.

A table from a line's octets to what is read out of it. Bounded, and forgotten as a whole where it is full: what all
calls have is learned again at once, and nothing has to be kept in an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

OCTETS: Final = 128
"""The longest line that is remembered: credentials, candidates and fingerprints are longer, and new each time."""


class Odd(Exception):
    """A line that is not plain: it takes the reading of any line to say what it means, or that it is wrong."""


class Remembered(dict[bytes, T]):
    """What lines mean: subscribing reads a line where it was not read before. Raises Odd where its reader does."""

    def __init__(self, read: Callable[[bytes], T], most: int) -> None:
        super().__init__()
        self._read = read
        self._most = most

    def __missing__(self, line: bytes) -> T:
        meaning = self._read(line)
        if len(line) <= OCTETS:
            if len(self) >= self._most:
                self.clear()
            self[line] = meaning
        return meaning


def plain_text(line: bytes) -> str:
    """A line of ASCII without control characters other than tabs, as text. Raises Odd for any other."""
    if line.isascii():
        text = line.decode("ascii")
        if text.isprintable() or text.replace("\t", "").isprintable():
            return text
    raise Odd

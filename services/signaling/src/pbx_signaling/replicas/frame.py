"""What processes that share an address say to each other in datagrams, as octets. Pure.

A datagram holds one frame or several, one behind the other: a fixed head, then sender, asker, listener, host and the
SIP message. Both ends are of one installation; a frame of another version is refused, and its datagram with it.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from pbx_sip.address import Flow, HostPort, Transport

VERSION: Final = 1
_HEAD: Final = struct.Struct("!BBBBBBBHQI")
"""Version, word, transport, lengths of sender, asker, listener and host, port, connection, length of the message."""
OVERHEAD_MAX: Final = _HEAD.size + 4 * 255


class Word(enum.IntEnum):
    """What is to be done; the first three are those of `peering.Carriage`."""

    SEND = 1
    RECEIVED = 2
    BROKEN = 3
    ASKED = 4
    """Is this CANCEL for a call of yours? Else ask the next one."""
    HELLO = 5
    """I am there (again)."""


class Frame(NamedTuple):
    """One of them."""

    word: Word
    sender: str
    flow: Flow
    """As the instance that has it names it."""
    data: bytes = b""
    asker: str = ""
    """Who asked first: the flow is its own."""


NOWHERE: Final = Flow(Transport.UDP, HostPort("", 0))


def encode(frame: Frame) -> bytes:
    """As octets. Raises ValueError for a name of more than 255 octets: none of ours is."""
    word, sender, flow, data, asker = frame
    texts = [sender.encode(), asker.encode(), flow.listener.encode(), flow.remote.host.encode()]
    try:
        head = _HEAD.pack(VERSION, word, flow.transport, *map(len, texts), flow.remote.port, flow.connection, len(data))
    except struct.error as error:
        raise ValueError(f"{frame.word.name} for {flow}: {error}") from None
    return b"".join((head, *texts, data))


def decode(datagram: bytes) -> Iterator[Frame]:
    """The frames of a datagram in order. Raises ValueError where it is none of ours, from there on."""
    at, end = 0, len(datagram)
    while at < end:
        try:
            version, word, transport, sender, asker, listener, host, port, connection, size = _HEAD.unpack_from(
                datagram, at
            )
        except struct.error:
            raise ValueError(f"{end - at} octets are no frame") from None
        if version != VERSION:
            raise ValueError(f"frame of version {version}")
        at += _HEAD.size
        texts = []
        for length in (sender, asker, listener, host):
            texts.append(datagram[at : at + length].decode())
            at += length
        data = datagram[at : at + size]
        at += size
        if at > end:
            raise ValueError(f"{at - end} octets of a frame are missing")
        flow = Flow(Transport(transport), HostPort(texts[3], port), texts[2], connection)
        yield Frame(Word(word), texts[0], flow, data, texts[1])

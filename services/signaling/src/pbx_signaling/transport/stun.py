"""STUN Binding over the SIP port (RFC 8489, RFC 5626 section 8): the keep-alive of phones on UDP. Pure.

Only that: a Binding request is answered with the address that it came from. No credentials, no other method.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pbx_sip.address import HostPort

HEADER: Final = 20
COOKIE: Final = 0x2112A442
_BINDING_REQUEST: Final = 0x0001
_BINDING_SUCCESS: Final = 0x0101
_XOR_MAPPED_ADDRESS: Final = 0x0020


def answer(data: bytes, source: HostPort) -> bytes | None:
    """The response to a Binding request; None for anything else, which gets silence.

    Never larger than 44 octets: nothing is won by asking in another's name.
    """
    if len(data) < HEADER:
        return None
    kind, length, cookie = struct.unpack_from("!HHI", data)
    if kind != _BINDING_REQUEST or cookie != COOKIE or length != len(data) - HEADER or length % 4:
        return None
    transaction = data[8:HEADER]
    address = ip_address(source.host.partition("%")[0])
    mask = (COOKIE.to_bytes(4, "big") + transaction)[: len(address.packed)]
    masked = bytes(octet ^ key for octet, key in zip(address.packed, mask, strict=True))
    family = 2 if address.version == 6 else 1
    value = struct.pack("!BBH", 0, family, source.port ^ (COOKIE >> 16)) + masked
    attribute = struct.pack("!HH", _XOR_MAPPED_ADDRESS, len(value)) + value
    return struct.pack("!HHI", _BINDING_SUCCESS, len(attribute), COOKIE) + transaction + attribute

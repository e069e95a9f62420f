"""The socket of a TCP server, for whatever is spoken on it."""

from __future__ import annotations

import socket
from typing import Final

from pbx_runtime.address import Listen

BACKLOG: Final = 512
"""Connections that wait to be accepted: a burst of phones that come back at once."""


def listening(listen: Listen) -> socket.socket:
    """A non-blocking TCP socket that listens; one of IPv6 takes IPv6 alone, so that both families may have a port.

    Raises OSError whose message names the address.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, proto)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.setblocking(False)
            bound.bind(address)
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror or error}") from error
    return bound

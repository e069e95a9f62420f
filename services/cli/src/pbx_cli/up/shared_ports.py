"""The SIP sockets of several signaling processes at one address, opened here and kept while processes come and go.

UDP: one socket a process, in a group of the kernel (`SO_REUSEPORT`), which stays as it is when a process ends: a source
keeps its process, and what comes for one that is started anew waits in its socket. TCP, TLS and WebSocket: one socket
that listens, from which whoever has time takes the next connection. And memory in which they note what the others
must know (`pbx_signaling.replicas.board`); it outlives each of them as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from pbx_cli.errors import CliError
from pbx_cli.up import steering
from pbx_cli.up.plan import Share
from pbx_cli.up.sip_ports import SipPort
from pbx_runtime import logs
from pbx_runtime.address import Listen

SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""socket(7); Python's module has no name for it."""
RECEIVE_BUFFER: Final = 4 << 20
"""Octets of kernel buffer asked for, as signaling asks for sockets of its own."""
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"

_log = logs.get_logger("ports")


class SharedPorts:
    """The sockets; close them when everything has ended."""

    def __init__(self, ports: Iterable[SipPort], replicas: int, *, steer: bool = True) -> None:
        """Binds them all. Raises CliError that names the address. `steer`: let the kernel look for names of ours."""
        self._family = "".join(secrets.choice(_ALPHABET) for _ in range(steering.FAMILY_LENGTH))
        self._names = steering.names(self._family, replicas)
        self._udp: list[tuple[Listen, Sequence[socket.socket]]] = []
        self._stream: list[tuple[SipPort, socket.socket]] = []
        self._board = os.memfd_create("sip-pbx board")
        try:
            for port in ports:
                if port.transport == "udp":
                    group = [_bound(port.listen, socket.SOCK_DGRAM) for _ in range(replicas)]
                    self._udp.append((port.listen, group))
                    if steer:
                        self._steer(port.listen, group[-1])
                else:
                    self._stream.append((port, _bound(port.listen, socket.SOCK_STREAM)))
        except OSError as error:
            self.close()
            raise CliError(f"cannot listen on {port.listen} ({port.transport}): {error.strerror or error}") from None

    def _steer(self, listen: Listen, member: socket.socket) -> None:
        code = ctypes.create_string_buffer(steering.program(self._family, len(self._names)))
        size = (len(code) - 1) // 8
        try:
            member.setsockopt(
                socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", size, ctypes.addressof(code))
            )
        except OSError as error:  # an old kernel, or a sandbox: the processes hand over what is not theirs
            _log.warning("the kernel does not steer messages", listen=str(listen), reason=error.strerror)

    @property
    def shares(self) -> tuple[Share, ...]:
        """What each process is given, in order."""
        return tuple(self._share(index) for index in range(len(self._names)))

    def _share(self, index: int) -> Share:
        given = [("udp", listen, group[index]) for listen, group in self._udp]
        given += [(port.transport, port.listen, opened) for port, opened in self._stream]
        return Share(
            instance=self._names[index],
            sockets=",".join(f"{transport}/{listen}={opened.fileno()}" for transport, listen, opened in given),
            board=self._board,
            descriptors=(self._board, *(opened.fileno() for _, _, opened in given)),
        )

    def empty(self, index: int) -> int:
        """Drops what waits in the UDP sockets of a process that was away for long: who sent it gave up. How many."""
        dropped = 0
        for _, group in self._udp:
            with contextlib.suppress(BlockingIOError):
                while True:
                    group[index].recv(1)
                    dropped += 1
        return dropped

    def close(self) -> None:
        """Closes them here."""
        os.close(self._board)
        for opened in (*(each for _, group in self._udp for each in group), *(each for _, each in self._stream)):
            opened.close()


def _bound(listen: Listen, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET  # a name means IPv4, as in signaling
    address = socket.getaddrinfo(listen.host, listen.port, family, kind, flags=socket.AI_PASSIVE)[0][4]
    opened = socket.socket(family, kind)
    try:
        opened.setblocking(False)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_DGRAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    return opened

"""Sockets that whoever started this process opened for it: those of an address that several processes share.

The supervisor of one machine opens them and keeps them, so that an address is never without its sockets while a process
is started anew: what comes meanwhile waits, and each source goes to the same process as before.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pbx_runtime.address import Listen
from pbx_runtime.tcp import BACKLOG
from pbx_sip.address import TRANSPORTS, Transport

FORM: Final = "TRANSPORT/HOST:PORT=DESCRIPTOR (for example udp/127.0.0.1:5060=7)"


@dataclass(frozen=True, slots=True)
class Inherited:
    """Descriptors by transport and address."""

    descriptors: Mapping[tuple[Transport, Listen], int] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Inherited:
        """Reads the values of a setting. Raises ValueError that shows the form wanted."""
        found = {}
        for text in texts:
            where, equals, number = text.rpartition("=")
            word, slash, address = where.partition("/")
            if not equals or not slash or word not in TRANSPORTS or not number.isascii() or not number.isdigit():
                raise ValueError(f"{text!r} is not {FORM}")
            found[TRANSPORTS[word], Listen.parse(address)] = int(number)
        return cls(found)

    def udp(self, listen: Listen) -> socket.socket | None:
        """The bound socket of an address; None where this process opens its own. Raises OSError that names it."""
        return self._take(Transport.UDP, listen)

    def stream(self, transport: Transport, listen: Listen) -> socket.socket | None:
        """The same of a transport with connections; it listens from now on, and other processes may share it."""
        found = self._take(transport, listen)
        if found is not None:
            found.listen(BACKLOG)
        return found

    def _take(self, transport: Transport, listen: Listen) -> socket.socket | None:
        number = self.descriptors.get((transport, listen))
        if number is None:
            return None
        try:
            found = socket.socket(fileno=number)
        except OSError as error:
            where = f"{transport.name.lower()}/{listen}={number}"
            raise OSError(error.errno, f"PBX_SIP_SOCKETS: {where} is no socket: {error.strerror}") from error
        found.setblocking(False)
        found.set_inheritable(False)
        return found


def shared_memory(descriptor: int, octets: int) -> memoryview:
    """Memory that all processes see which were given the descriptor. Raises OSError that names the setting."""
    try:
        if os.fstat(descriptor).st_size < octets:
            os.ftruncate(descriptor, octets)
        mapped = mmap.mmap(descriptor, octets)
        os.close(descriptor)  # the mapping has its own
    except (OSError, ValueError) as error:
        raise OSError(getattr(error, "errno", None), f"PBX_SIP_BOARD: {descriptor} is no memory: {error}") from error
    return memoryview(mapped)

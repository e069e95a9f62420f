"""Links to the processes that share our addresses: unix datagrams, one socket to take in, one to each of the others.

A datagram costs a few microseconds where a message over gRPC costs some hundreds, and wakes nobody but its receiver. A
receiver that is busy takes ten datagrams (`net.unix.max_dgram_qlen`), so what comes on top waits here and leaves in as
few datagrams as hold it. That a process is gone is known at once: the kernel refuses. Nobody is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from pbx_runtime import logs
from pbx_signaling.replicas.frame import NOWHERE, OVERHEAD_MAX, Frame, Word, decode, encode
from pbx_signaling.replicas.peering import Carriage, at
from pbx_sip.address import Flow
from pbx_sip.message.parse import MAX_MESSAGE

WAITING_MAX: Final = 10_000
"""Frames that wait for a sibling, as many as for a peer elsewhere. Beyond, they are dropped: SIP repeats."""
TOGETHER: Final = 60_000
"""Octets of frames that waited and leave in one datagram, but for one that alone is longer."""
LARGEST: Final = TOGETHER + MAX_MESSAGE + OVERHEAD_MAX
BUFFER: Final = 1 << 20
"""Octets that may be on their way to a sibling; the kernel may grant less."""
DRAIN_MAX: Final = 64
"""Datagrams taken in per wake-up."""

_log = logs.get_logger("siblings")


class Siblings:
    """The links of one process."""

    def __init__(
        self,
        instance: str,
        places: Mapping[str, str],
        handler: Callable[[Frame], None],
        broken: Callable[[Flow], None],
        lost: Callable[[str], None],
    ) -> None:
        """`places`: the socket of every instance, ours too. `handler` gets what comes; `broken` is told of flows that
        cannot be used because their process is gone, `lost` of that process."""
        self.dropped = 0
        """Frames that reached nobody."""
        self.carried = 0
        self._instance = instance
        self._place = places.get(instance, "")
        self._handler = handler
        self._broken = broken
        self._lost = lost
        self._lines = {name: _Line(path) for name, path in places.items() if name != instance}
        self._socket: socket.socket | None = None
        self._buffer = bytearray(LARGEST if self._lines else 0)
        self._loop = asyncio.get_running_loop()

    @property
    def names(self) -> frozenset[str]:
        """The other instances."""
        return frozenset(self._lines)

    def open(self) -> None:
        """Takes in from now on, and says so to the others. Raises OSError that names the path."""
        if not self._lines:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._place)  # of our predecessor
        taking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        taking.setblocking(False)
        try:
            taking.bind(self._place)
        except OSError as error:
            taking.close()
            raise OSError(error.errno, f"cannot take datagrams at {self._place}: {error.strerror}") from error
        self._socket = taking
        self._loop.add_reader(taking.fileno(), self._readable)
        for name in self._lines:
            self.put(name, Frame(Word.HELLO, self._instance, NOWHERE))

    def close(self) -> None:
        """Takes nothing in any more; what waits is dropped."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._place)
        for line in self._lines.values():
            self._close_line(line)

    def carry(self, instance: str, carriage: Carriage, data: bytes, flow: Flow) -> None:
        """See peering.Carrier; for the instances in `names`."""
        self.put(instance, Frame(Word(carriage), self._instance, flow, data))

    def put(self, instance: str, frame: Frame) -> None:
        """Sends a frame, or keeps it while its receiver is busy; never blocks, never raises."""
        line = self._lines[instance]
        if line.waiting:
            if len(line.waiting) >= WAITING_MAX:
                self.dropped += 1
                return
            line.waiting.append((encode(frame), frame))
            return
        octets = encode(frame)
        try:
            self._send(line, octets)
        except BlockingIOError:
            line.waiting.append((octets, frame))
            assert line.socket is not None
            self._loop.add_writer(line.socket.fileno(), self._writable, instance, line)
        except OSError as error:
            self._give_up(instance, line, [frame], error)
        else:
            self.carried += frame.word is not Word.HELLO

    def _send(self, line: _Line, octets: bytes) -> None:
        """Raises OSError; where our socket is that of a process that is gone, its successor's is tried."""
        if line.socket is not None:
            try:
                line.socket.send(octets)
            except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
                self._close_socket(line)
            else:
                return
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        fresh.setblocking(False)
        fresh.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        try:
            fresh.connect(line.path)
        except OSError:
            fresh.close()
            raise
        line.socket = fresh
        fresh.send(octets)

    def _writable(self, instance: str, line: _Line) -> None:
        waiting = line.waiting
        while waiting:
            together, size = [waiting.popleft()], 0
            size = len(together[0][0])
            while waiting and size + len(waiting[0][0]) <= TOGETHER:
                together.append(waiting.popleft())
                size += len(together[-1][0])
            try:
                self._send(line, b"".join([octets for octets, _ in together]))
            except BlockingIOError:
                waiting.extendleft(reversed(together))
                return
            except OSError as error:
                frames = [frame for _, frame in (*together, *waiting)]
                self._close_line(line)
                self._give_up(instance, line, frames, error)
                return
            self.carried += len(together)
        assert line.socket is not None
        self._loop.remove_writer(line.socket.fileno())

    def _give_up(self, instance: str, line: _Line, frames: list[Frame], error: OSError) -> None:
        """Its process is gone: so are the connections that it had, as far as this one can tell."""
        hellos = sum(frame.word is Word.HELLO for frame in frames)
        self.dropped += len(frames) - hellos
        if len(frames) > hellos:
            _log.info("a process of the same address is gone", instance=instance, reason=error.strerror)
        self._lost(instance)
        for frame in frames:
            if frame.word is Word.SEND:
                self._broken(at(instance, frame.flow))

    def _close_line(self, line: _Line) -> None:
        line.waiting.clear()
        self._close_socket(line)

    def _close_socket(self, line: _Line) -> None:
        if line.socket is not None:
            self._loop.remove_writer(line.socket.fileno())
            line.socket.close()
            line.socket = None

    def _readable(self) -> None:
        for _ in range(DRAIN_MAX):
            if self._socket is None:
                return
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            try:
                for frame in decode(bytes(memoryview(self._buffer)[:size])):
                    self._handler(frame)
            except ValueError as error:  # of another version
                self.dropped += 1
                _log.warning("what a process of the same address says cannot be read", reason=str(error))


class _Line:
    """The way to one of the others."""

    __slots__ = ("path", "socket", "waiting")

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket: socket.socket | None = None
        self.waiting: deque[tuple[bytes, Frame]] = deque()

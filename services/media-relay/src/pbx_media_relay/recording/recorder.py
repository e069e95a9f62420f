"""The relay's end of recording: starts the worker, hands it copies, learns what was stored. Never blocks a
call."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pbx_media_relay.forward import Medium, Side, forward_id
from pbx_media_relay.recording.messages import (
    MESSAGE_MAX,
    Codecs,
    End,
    Open,
    Packet,
    Stored,
    Word,
    decode_stored,
    encode,
)
from pbx_media_relay.recording.room import Bounds
from pbx_media_relay.session import Call
from pbx_media_relay.stream import PayloadType
from pbx_runtime import errors, logs

RECORDINGS_MAX: Final = 100
"""At once: what one core decodes of G.711, with room."""
UNSENT_MAX: Final = 1000
"""Words (not packets) that the worker did not take: ten for each recording; beyond it is stuck and is
ended."""
SOCKET_BYTES: Final = 4 * 1024 * 1024
"""Room for about two seconds of 100 calls, where the system's limit allows it."""
END_S: Final = 2.0
UNSAFE: Final = re.compile(r"[^A-Za-z0-9_@-]")
_log = logs.get_logger("recording")


@dataclass(slots=True)
class _Taped:
    """One recording in progress."""

    key: int
    call_id: str
    path: Path
    forwards: dict[int, Side]
    dropped: int = 0


class Recorder:
    """All recordings of this relay."""

    def __init__(self, directory: Path, stored: Callable[[str, Stored], None], bounds: Bounds | None = None) -> None:
        """Write into `directory` within `bounds`; `stored` is told the call id and the file, when one is closed."""
        self._directory = directory
        self._bounds = bounds or Bounds()
        self._stored = stored
        self._by_call: dict[str, _Taped] = {}
        self._by_forward: dict[int, _Taped] = {}
        self._by_key: dict[int, _Taped] = {}
        self._next_key = 1
        self._link: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._gone: list[subprocess.Popen[bytes]] = []
        """Workers that were lost and whose exit status is not collected yet."""
        self._unsent: deque[bytes] = deque()
        self._is_closing = False
        """The worker was told to end: that it does is no loss."""
        self.packets_dropped = 0
        """Copies that the worker could not take; they are missing in files, not in calls."""

    def __repr__(self) -> str:
        return f"<Recorder {len(self._by_call)} calls, {self.packets_dropped} copies dropped>"

    def start(self, call: Call, now_ns: int) -> Path:
        """Begin to record a call and answer the path; again for the same call, the same path.

        Raises ResourceExhausted.
        """
        self._ensure_worker()
        known = self._by_call.get(call.id)
        if known is not None:
            return known.path
        if len(self._by_call) >= RECORDINGS_MAX:
            raise errors.ResourceExhausted(f"{RECORDINGS_MAX} recordings at once")
        taped = self._register(call)
        codecs = tuple(self._payload_types(call, side) for side in Side)
        self._say(Open(taped.key, str(taped.path), now_ns, (codecs[0], codecs[1])))
        return taped.path

    def updated(self, call: Call) -> None:
        """The call's streams changed."""
        taped = self._by_call.get(call.id)
        if taped is not None:
            for side in Side:
                self._say(Codecs(taped.key, side, self._payload_types(call, side)))

    def packet(self, forward: int, data: bytes, at_ns: int) -> None:
        """A copy of a packet; dropped where the worker is behind."""
        taped = self._by_forward.get(forward)
        if taped is None or self._link is None:
            return
        try:
            self._link.send(encode(Packet(taped.key, taped.forwards[forward], at_ns, data)))
        except OSError:
            self.packets_dropped += 1

    def stop(self, call_id: str, now_ns: int) -> None:
        """End a recording; the file is closed soon after. Nothing happens where there is none."""
        taped = self._by_call.pop(call_id, None)
        if taped is not None:
            for forward in taped.forwards:
                self._by_forward.pop(forward, None)
            self._say(End(taped.key, now_ns))

    def tick(self) -> None:
        """Send what could not be sent, and collect the exit status of lost workers; to be called now and then."""
        if self._gone:
            self._gone = [process for process in self._gone if process.poll() is None]
        while self._unsent and self._link is not None:
            try:
                self._link.send(self._unsent[0])
            except OSError:
                return
            self._unsent.popleft()

    async def close(self) -> None:
        """End all recordings and wait for the worker to close its files."""
        for call_id in list(self._by_call):
            self.stop(call_id, time.monotonic_ns())
        self.tick()
        for process in self._gone:
            await self._wait_for(process)
        if self._link is None or self._process is None:
            return
        self._is_closing = True
        self._link.shutdown(socket.SHUT_WR)
        await self._wait_for(self._process)
        self._read_stored()
        self._unlink()

    async def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        try:
            await asyncio.to_thread(process.wait, END_S)
        except subprocess.TimeoutExpired:
            _log.error("recording worker does not end")
            process.kill()

    def _register(self, call: Call) -> _Taped:
        name = UNSAFE.sub("_", call.id)[:100]
        path = self._directory / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{name}-{self._next_key}.wav"
        forwards = {forward_id(call.slot, side, Medium.AUDIO): side for side in Side}
        taped = _Taped(self._next_key, call.id, path, forwards)
        self._next_key += 1
        self._by_call[call.id] = self._by_key[taped.key] = taped
        self._by_forward.update(dict.fromkeys(forwards, taped))
        return taped

    def _payload_types(self, call: Call, side: Side) -> tuple[PayloadType, ...]:
        stream = call.streams.get(side * 2)
        return stream.payload_types if stream else ()

    def _say(self, word: Word) -> None:
        if len(self._unsent) >= UNSENT_MAX:
            self._lost("the worker takes nothing")
            return
        self._unsent.append(encode(word))
        self.tick()

    def _ensure_worker(self) -> None:
        # A worker whose link is lost is gone, also before its exit status is collected.
        if self._link is not None and self._process is not None:
            if self._process.poll() is None:
                return
            self._read_stored()
            if self._link is not None:
                self._lost("the worker ended")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            # By vfork, as the standard library does it. uvloop's own forks: gRPC's handlers then run in the child and
            # now and then abort it before it begins.
            limits = (str(self._bounds.bytes_max), str(self._bounds.free_min))
            name = "pbx_media_relay.recording.worker"
            command = [sys.executable, "-m", name, str(theirs.fileno()), str(self._directory), *limits]
            self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))  # noqa: S603  # this package's own module
        self._link = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read_stored)

    def _read_stored(self) -> None:
        while self._link is not None:
            try:
                data = self._link.recv(MESSAGE_MAX)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(str(error))
                return
            if not data:
                if self._is_closing:
                    self._unlink()
                else:
                    self._lost("the worker ended")
                return
            stored = decode_stored(data)
            taped = self._by_key.pop(stored.key, None)
            if taped is not None:
                self._forget(taped)
                self._stored(taped.call_id, stored)

    def _forget(self, taped: _Taped) -> None:
        if self._by_call.get(taped.call_id) is taped:
            del self._by_call[taped.call_id]
            for forward in taped.forwards:
                self._by_forward.pop(forward, None)

    def _lost(self, reason: str) -> None:
        """The worker is gone, and the files that it had open end where it did."""
        status = self._process.poll() if self._process is not None else None
        _log.error("recording worker lost", reason=reason, recordings=len(self._by_key), exit_status=status)
        self._by_call.clear()
        self._by_forward.clear()
        self._by_key.clear()
        if self._process is not None:
            self._process.kill()  # it may be stuck instead of gone
            self._gone.append(self._process)
            self._process = None
        self._unlink()

    def _unlink(self) -> None:
        self._unsent.clear()
        if self._link is not None:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._link.close()
            self._link = None

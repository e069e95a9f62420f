"""The calls on disk, so that a relay that was killed knows them again: its datapath may have outlived it.

An append-only file of call snapshots; the last word about a call counts. Bound to the boot, because the times
in it are CLOCK_MONOTONIC. Not for durability: nothing is synced, since after a crash of the machine there are
no calls. One write per turn of the loop; the file is written anew when it has grown past what lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

import msgspec

from pbx_media_relay.session import Call, Terms
from pbx_media_relay.stream import Stream
from pbx_runtime import logs

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
RECORD_MAX: Final = 65536
"""A call with four streams of 128 payload types each is below this; a longer record is no record."""
GARBAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""About 10 000 calls' worth of words that no longer count."""
_log = logs.get_logger("journal")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A call as it is stored."""

    id: str
    slot: int
    instance_id: str
    terms: Terms
    allocated_at_ns: int
    streams: tuple[Stream, ...]
    windows: tuple[tuple[int, int, int], ...]
    """Forward number, latch generation and end of the latch window: what the streams alone do not tell."""


class Journal(Protocol):
    """Where the session table is kept beyond the process."""

    def store(self, call: Call) -> None:
        """The call is now like this."""

    def forget(self, call_id: str) -> None:
        """The call is over."""

    def flush(self) -> None:
        """What was said is kept when this returns: call it before anybody is told of it."""


class NoJournal:
    """Keeps nothing."""

    def store(self, call: Call) -> None:
        """See `Journal`."""

    def forget(self, call_id: str) -> None:
        """See `Journal`."""

    def flush(self) -> None:
        """See `Journal`."""


def snapshot_of(call: Call) -> Snapshot:
    """What is to be stored of a call."""
    windows = [(each.id, each.generation, each.latch_until_ns) for each in call.forwards.values()]
    streams = tuple(call.streams.values())
    return Snapshot(call.id, call.slot, call.instance_id, call.terms, call.allocated_at_ns, streams, tuple(windows))


class FileJournal:
    """A journal in one file. Disk errors are logged once and end the journal, never the relaying."""

    def __init__(self, path: Path, defer: Callable[[Callable[[], None]], object], boot_id: str | None = None) -> None:
        """`defer` calls back at the end of this turn of the loop (`loop.call_soon`)."""
        self._path = path
        self._defer = defer
        self._boot_id = boot_id if boot_id is not None else _boot_id()
        self._encoder = msgspec.msgpack.Encoder()
        self._live: dict[str, bytes] = {}
        self._pending: list[bytes] = []
        self._garbage = 0
        self._file: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"<FileJournal {self._path}, {len(self._live)} calls, {self._garbage} bytes of garbage>"

    def load(self) -> list[Snapshot]:
        """The calls of the former process, and a fresh file with them in it."""
        found = _read(self._path, self._boot_id)
        self._live = {each.id: self._record(each) for each in found}
        self._rewrite()
        return found

    def store(self, call: Call) -> None:
        """See `Journal`; written by the next `flush`, at the end of this turn at the latest."""
        self._replace(call.id, self._record(snapshot_of(call)))

    def forget(self, call_id: str) -> None:
        """See `Journal`; written by the next `flush`."""
        if call_id in self._live:
            self._replace(call_id, b"")
            record = self._record(call_id)
            self._garbage += len(record)
            self._append(record)

    def flush(self) -> None:
        """See `Journal`."""
        if self._file is None or not self._pending:
            self._pending = []
            return
        if self._garbage > GARBAGE_BYTES_MAX:
            self._rewrite()
            return
        data, self._pending = b"".join(self._pending), []
        try:
            self._file.write(data)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _replace(self, call_id: str, record: bytes) -> None:
        self._garbage += len(self._live.pop(call_id, b""))
        if record:
            self._live[call_id] = record
            self._append(record)

    def _append(self, record: bytes) -> None:
        if not self._pending:
            self._defer(self.flush)
        self._pending.append(record)

    def _record(self, word: Snapshot | str) -> bytes:
        body = self._encoder.encode(word)
        return len(body).to_bytes(4, "big") + body

    def _rewrite(self) -> None:
        """Write the live calls into a new file and put it in the old one's place: whole or not at all."""
        self._pending, self._garbage = [], 0
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = fresh.open("wb", buffering=0)
            file.write(b"".join([self._record(self._boot_id), *self._live.values()]))
            os.replace(fresh, self._path)
        except OSError as error:
            self._give_up(error)
            return
        if self._file is not None:
            self._file.close()
        self._file = file

    def _give_up(self, error: OSError) -> None:
        _log.error("journal given up: calls will not outlive this process", error=str(error))
        if self._file is not None:
            self._file.close()
            self._file = None


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return "unknown"


def _read(path: Path, boot_id: str) -> list[Snapshot]:
    try:
        data = path.read_bytes()
    except OSError:
        return []
    words = _words(data)
    if next(words, None) != boot_id:
        return []
    calls: dict[str, Snapshot] = {}
    for word in words:
        if isinstance(word, str):
            calls.pop(word, None)
        else:
            calls[word.id] = word
    return list(calls.values())


def _words(data: bytes) -> Iterator[Snapshot | str]:
    """The records up to the first that is cut or makes no sense: a killed process may leave half a one."""
    decoder = msgspec.msgpack.Decoder(Snapshot | str)
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if not 0 < size <= RECORD_MAX or at + 4 + size > len(data):
            return
        try:
            yield decoder.decode(data[at + 4 : at + 4 + size])
        except msgspec.MsgspecError:
            return
        at += 4 + size

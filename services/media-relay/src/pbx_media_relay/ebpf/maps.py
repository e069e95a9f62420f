"""The program and its maps: made, or taken over from the pins of a former process; and the links that attach it.

    <PBX_RELAY_PINS>/v<layout>/<relay>-<network namespace>/{places,forwards,streams,locals,control,link-<ifindex>}

A program is loaded anew at every start, over the maps that are there, and put into the links that are there: between
two packets, not between two breaths. Without a name nothing is pinned, and all ends with the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from pbx_media_relay.ebpf import abi, clsact, elf, syscall

BPF_MAGIC: Final = "bpf"
OBJECT: Final = "relay.bpf.elf"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a map is."""

    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int = 0


def shapes(forwards: int) -> dict[str, Shape]:
    """The maps for so many forwards, as relay.bpf.c declares them."""
    return {
        "places": Shape(syscall.ARRAY, 4, 8, abi.PLACES),
        "forwards": Shape(syscall.ARRAY, 4, ctypes.sizeof(abi.ForwardC), 2 * forwards),
        "streams": Shape(syscall.ARRAY, 4, ctypes.sizeof(abi.StreamC), forwards, syscall.MMAPABLE),
        "locals": Shape(syscall.HASH, ctypes.sizeof(abi.HostC), 4, abi.LOCALS_MAX),
        "control": Shape(syscall.ARRAY, 4, ctypes.sizeof(abi.ControlC), 1, syscall.MMAPABLE),
    }


def pin_directory(name: str, root: Path | None) -> Path | None:
    """Where a relay of that name keeps its objects; None where there is no bpf file system for them."""
    if not name or root is None or not is_bpffs(root):
        return None
    namespace = os.stat("/proc/thread-self/ns/net").st_ino
    return root / f"v{abi.ABI_VERSION}" / f"{name}-{namespace}"


def is_bpffs(path: Path) -> bool:
    """Whether a path is, or would be, on a bpf file system."""
    best, kind = "", ""
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        mounted, file_system = line.split()[1:3]
        if (path == Path(mounted) or Path(mounted) in path.parents) and len(mounted) >= len(best):
            best, kind = mounted, file_system
    return kind == BPF_MAGIC


class Maps:
    """Open maps; those of a former process where `directory` has them all and they fit."""

    def __init__(self, forwards: int, directory: Path | None) -> None:
        self.directory = directory
        self.fds: dict[str, int] = {}
        self.forwards = forwards
        self.is_taken_over = False
        wanted = shapes(forwards)
        if directory is not None:
            self._take_over(directory, wanted)
        if not self.is_taken_over:
            self._make(wanted)
        stream_bytes = ctypes.sizeof(abi.StreamC) * self.forwards
        self.streams = mmap.mmap(self.fds["streams"], _pages(stream_bytes))
        self._control = mmap.mmap(self.fds["control"], mmap.PAGESIZE)
        self.control = abi.ControlC.from_buffer(self._control)

    def _take_over(self, directory: Path, wanted: dict[str, Shape]) -> None:
        try:
            for name in wanted:
                self.fds[name] = syscall.pinned(str(directory / name))
        except OSError:
            self._close_fds()
            return
        self.forwards = _entries(self.fds["streams"])
        self.is_taken_over = True

    def _make(self, wanted: dict[str, Shape]) -> None:
        for name, shape in wanted.items():
            self.fds[name] = syscall.map_create(
                shape.kind, shape.key_size, shape.value_size, shape.entries, shape.flags, f"pbx_{name}"
            )
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        for entry in self.directory.iterdir():
            entry.unlink()
        for name, fd in self.fds.items():
            syscall.pin(fd, str(self.directory / name))

    def update(self, name: str, key: bytes, value: bytes) -> None:
        """Write one entry of a map."""
        syscall.map_update(self.fds[name], key, value)

    def lookup(self, name: str, key: int, size: int) -> bytes:
        """Read one entry of an array."""
        value = syscall.map_lookup(self.fds[name], key.to_bytes(4, "little"), size)
        assert value is not None, f"{name} is an array"
        return value

    def set_locals(self, hosts: Iterable[str]) -> None:
        """These are the addresses at which packets are the relay's."""
        wanted = {bytes(abi.host_c(host)) for host in list(hosts)[: abi.LOCALS_MAX]}
        size = ctypes.sizeof(abi.HostC)
        known = set(syscall.map_keys(self.fds["locals"], size, abi.LOCALS_MAX))
        for key in known - wanted:
            syscall.map_delete(self.fds["locals"], key)
        for key in wanted - known:
            self.update("locals", key, bytes(4))

    def live_until(self, moment_ns: int) -> None:
        """Let the program relay until then: one store, for the program reads at any moment.

        (struct.pack_into clears the bytes first; a softirq between the two found a process that was long gone, and
        left the whole load to user space.)
        """
        self.control.alive_until_ns = moment_ns

    def close(self, forget: bool) -> None:
        """Close; `forget` takes the pins away too."""
        self.streams.close()
        del self.control  # it holds the mapping
        self._control.close()
        self._close_fds()
        if forget and self.directory is not None:
            for name in shapes(1):
                with contextlib.suppress(FileNotFoundError):
                    (self.directory / name).unlink()
            with contextlib.suppress(OSError):
                self.directory.rmdir()

    def _close_fds(self) -> None:
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}


def load(maps: Maps) -> int:
    """The program over these maps. Raises OSError, ObjectError."""
    program = elf.parse(resources.files("pbx_media_relay.ebpf").joinpath(OBJECT).read_bytes())
    abi.check(program.layout)
    return syscall.program_load(program.bound(maps.fds), program.licence, "pbx_relay")


class Links:
    """The program's place on the ingress of interfaces: a tcx link each, or a clsact filter before kernel 6.6."""

    def __init__(self, program: int, directory: Path | None) -> None:
        self._program = program
        self._directory = directory
        self._links: dict[int, int] = {}
        self._filters: set[int] = set()
        # Several relays may share a node: a filter is replaced by its owner's successor alone.
        self._handle = zlib.crc32(str(directory or os.getpid()).encode()) & 0x7FFFFFFF | 1
        if directory is not None:
            self._take_over(directory)

    @property
    def interfaces(self) -> set[int]:
        """Where the program is attached."""
        return set(self._links) | self._filters

    def attach(self, ifindex: int) -> None:
        """Attach to one more interface. Raises OSError."""
        if ifindex in self.interfaces:
            return
        try:
            link = syscall.link_create(self._program, ifindex)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            clsact.attach(self._program, ifindex, self._handle)
            self._filters.add(ifindex)
            return
        self._links[ifindex] = link
        if self._directory is not None:
            syscall.pin(link, str(self._directory / f"link-{ifindex}"))

    def detach(self, ifindex: int) -> None:
        """Leave an interface."""
        link = self._links.pop(ifindex, None)
        if link is not None:
            os.close(link)
            if self._directory is not None:
                with contextlib.suppress(FileNotFoundError):
                    (self._directory / f"link-{ifindex}").unlink()
        if ifindex in self._filters:
            self._filters.discard(ifindex)
            with contextlib.suppress(OSError):
                clsact.detach(ifindex, self._handle)

    def close(self, forget: bool) -> None:
        """Close; what is pinned goes on, unless it is to be forgotten."""
        for ifindex in list(self.interfaces):
            if forget or self._directory is None:
                self.detach(ifindex)
        for link in self._links.values():
            os.close(link)
        self._links = {}
        os.close(self._program)

    def _take_over(self, directory: Path) -> None:
        for path in directory.glob("link-*"):
            link = syscall.pinned(str(path))
            ifindex = syscall.link_interface(link)
            if not ifindex:  # the interface is gone, and its link with it
                os.close(link)
                path.unlink()
                continue
            syscall.link_update(link, self._program)
            self._links[ifindex] = link


def _entries(fd: int) -> int:
    with Path(f"/proc/self/fdinfo/{fd}").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("max_entries"))


def _pages(size: int) -> int:
    return (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE

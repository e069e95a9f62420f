"""Which datapath moves the packets: what was asked for, or the best that this machine allows, and why."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pbx_media_relay.datapath.base import Datapath
from pbx_media_relay.datapath.null import NullDatapath
from pbx_media_relay.datapath.python import PythonDatapath
from pbx_media_relay.ports import Shard

FALLBACKS: Final[dict[str, tuple[str, ...]]] = {
    "auto": ("native", "python"),
    "ebpf": ("ebpf", "native", "python"),
    "native": ("native", "python"),
}
"""What is tried, in order. The kernel is programmed only where that was asked for; a missing feature or privilege
costs speed, never calls."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a datapath is made of."""

    bind_hosts: tuple[str, ...]
    shard: Shard
    cores: tuple[int, ...] = ()
    """Where a datapath with threads of its own runs them; empty: on every core that the process may use."""
    name: str = ""
    """The relay's fixed id, under which what outlives the process is kept; empty: nothing does."""
    pins: Path | None = None
    """Where the kernel's objects are kept, on a bpf file system; None: nowhere."""


class UnsupportedError(Exception):
    """The machine lacks a feature that a datapath needs; the text names it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The datapath chosen."""

    datapath: Datapath
    reason: str
    """For one log line: why this one, and why none of the better ones."""


def _python(wanted: Wanted) -> Datapath:
    return PythonDatapath(wanted.bind_hosts)


def _null(wanted: Wanted) -> Datapath:
    return NullDatapath()


def _from_module(name: str) -> Callable[[Wanted], Datapath]:
    def make(wanted: Wanted) -> Datapath:
        try:
            module = importlib.import_module(f"pbx_media_relay.datapath.{name}")
        except ImportError as error:
            raise UnsupportedError(f"not built ({error})") from error
        made: Datapath = module.make(wanted)
        return made

    return make


FACTORIES: Final[dict[str, Callable[[Wanted], Datapath]]] = {
    "ebpf": _from_module("ebpf"),
    "native": _from_module("native"),
    "python": _python,
    "null": _null,
}
"""A module of its own answers `make(Wanted) -> Datapath`, or raises UnsupportedError."""


def select(name: str, wanted: Wanted) -> Selection:
    """The datapath of that name, or the next best that works. Raises UnsupportedError."""
    return best_of(FALLBACKS.get(name, (name,)), wanted, "best" if name == "auto" else "asked for")


def best_of(names: tuple[str, ...], wanted: Wanted, reason: str = "best") -> Selection:
    """The first of these that works. Raises UnsupportedError."""
    missing = []
    for candidate in names:
        try:
            datapath = FACTORIES[candidate](wanted)
        except UnsupportedError as error:
            missing.append(f"{candidate}: {error}")
        else:
            return Selection(datapath, "; ".join(missing) or reason)
    raise UnsupportedError("; ".join(missing))

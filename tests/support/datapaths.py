"""The implementations that the conformance suite holds to one behaviour. A new datapath adds a line to
FACTORIES."""

from __future__ import annotations

import os
from collections.abc import Callable

from pbx_media_relay.datapath import native as native_module
from pbx_media_relay.datapath.base import Datapath
from pbx_media_relay.datapath.python import PythonDatapath
from pbx_media_relay.datapath.select import UnsupportedError, Wanted
from pbx_media_relay.ports import Shard

BIND_HOSTS = ("127.0.0.1", "::1")


class Unsupported(Exception):
    """The machine lacks a feature that the datapath needs; the text names it."""


def python() -> Datapath:
    """The oracle."""
    return PythonDatapath(BIND_HOSTS)


def native() -> Datapath:
    """The C library, on one thread."""
    try:
        return native_module.make(Wanted(BIND_HOSTS, Shard(41000, 60000), cores=(min(os.sched_getaffinity(0)),)))
    except UnsupportedError as missing:
        raise Unsupported(str(missing)) from missing


FACTORIES: dict[str, Callable[[], Datapath]] = {"python": python, "native": native}
"""Each answers a new datapath bound to loopback in both families, or raises Unsupported."""

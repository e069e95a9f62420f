"""The implementations that the conformance suite holds to one behaviour. A new datapath adds a line to
FACTORIES."""

from __future__ import annotations

import os
from collections.abc import Callable

from pbx_media_relay.datapath import native as native_module
from pbx_media_relay.datapath.base import Datapath
from pbx_media_relay.datapath.ebpf import make_over
from pbx_media_relay.datapath.python import PythonDatapath
from pbx_media_relay.datapath.select import UnsupportedError
from support.namespace import Namespace

BIND_HOSTS = ("127.0.0.1", "::1")


class Unsupported(Exception):
    """The machine lacks a feature that the datapath needs; the text names it."""


def python() -> Datapath:
    """The oracle."""
    return PythonDatapath(BIND_HOSTS)


def native(steer: bool = True) -> Datapath:
    """The C library, on one thread; all ports in one socket where the kernel allows it."""
    try:
        return native_module.NativeDatapath(BIND_HOSTS, (min(os.sched_getaffinity(0)),), steer)
    except UnsupportedError as missing:
        raise Unsupported(str(missing)) from missing


def native_sockets() -> Datapath:
    """The same with a socket read per port, as without privileges."""
    return native(steer=False)


def ebpf() -> Datapath:
    """The kernel's over the oracle, in a network namespace of its own until it is closed."""
    try:
        namespace = Namespace()
    except PermissionError as error:
        raise Unsupported(str(error)) from error
    try:
        datapath = make_over(PythonDatapath(BIND_HOSTS), BIND_HOSTS)
    except UnsupportedError as error:
        namespace.leave()
        raise Unsupported(str(error)) from error
    close = datapath.close

    def close_and_leave() -> None:
        close()
        namespace.leave()

    datapath.close = close_and_leave  # type: ignore[method-assign]
    return datapath


FACTORIES: dict[str, Callable[[], Datapath]] = {
    "python": python,
    "native": native,
    "native-sockets": native_sockets,
    "ebpf": ebpf,
}
"""Each answers a new datapath bound to loopback in both families, or raises Unsupported."""

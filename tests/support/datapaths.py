"""The implementations that the conformance suite holds to one behaviour. A new datapath adds a line to
FACTORIES."""

from __future__ import annotations

from collections.abc import Callable

from pbx_media_relay.datapath.base import Datapath
from pbx_media_relay.datapath.python import PythonDatapath

BIND_HOSTS = ("127.0.0.1", "::1")


class Unsupported(Exception):
    """The machine lacks a feature that the datapath needs; the text names it."""


def python() -> Datapath:
    """The oracle."""
    return PythonDatapath(BIND_HOSTS)


FACTORIES: dict[str, Callable[[], Datapath]] = {"python": python}
"""Each answers a new datapath bound to loopback in both families, or raises Unsupported."""

"""Where copies of a call's packets go: the Protocol, and the one that takes none."""

from __future__ import annotations

from typing import Protocol

from pbx_media_relay.session import Call


class Tap(Protocol):
    """Told of tapped calls; must never block."""

    def packet(self, forward: int, data: bytes, at_ns: int) -> None:
        """A copy of an accepted RTP packet of a forward."""

    def updated(self, call: Call) -> None:
        """A tapped call's streams changed."""

    def stop(self, call_id: str, now_ns: int) -> None:
        """The call is over, or no longer tapped."""


class NoTap:
    """Takes nothing."""

    def packet(self, forward: int, data: bytes, at_ns: int) -> None:
        """See `Tap`."""

    def updated(self, call: Call) -> None:
        """See `Tap`."""

    def stop(self, call_id: str, now_ns: int) -> None:
        """See `Tap`."""

"""Desired against installed forwards, after a restart. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pbx_media_relay.session import Call


def orphans(installed: Iterable[int], calls: Iterable[Call]) -> set[int]:
    """Forwards in the datapath that no call wants: left by calls that ended while nobody watched."""
    return set(installed).difference(number for call in calls for number in call.forwards)

"""Who this relay is to others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """Fixed at start."""

    relay_id: str
    hosts: tuple[str, ...]
    """Addresses to announce to phones."""
    datapath: str
    """Name of the datapath in use."""
    node: str = ""

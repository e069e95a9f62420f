"""What one input of the core caused: a step to carry out, or a question to the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbx_signaling.calls import commands as c
    from pbx_signaling.users.entry import Entry
    from pbx_sip.address import Flow


@dataclass(slots=True)
class Step:
    """What one input caused: write `records` first, in order, then send `transmits`."""

    entry: Entry | None
    records: list[c.Emit] = field(default_factory=list)
    transmits: list[tuple[bytes, Flow]] = field(default_factory=list)


@dataclass(slots=True)
class Ask:
    """A question to the world about a call; `Core.signal` takes the answer."""

    entry: Entry
    command: c.Authenticate | c.FindTargets | c.ReserveMedia | c.UpdateMedia | c.ReleaseMedia


Output = Step | Ask

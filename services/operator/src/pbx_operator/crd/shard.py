"""`RelayShard`: one relay's node and ports. Written once by the operator, never recomputed."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from pbx_operator.crd.base import Spec, cel
from pbx_operator.crd.pool import PortRange


class DrainReason(enum.StrEnum):
    """Why a relay is drained."""

    UPGRADE = "Upgrade"
    """Its pod is replaced on the same node and ports."""
    SCALE_IN = "ScaleIn"
    """It goes for good."""
    NODE_DRAIN = "NodeDrain"
    """Its node is cordoned or no longer fits: it goes, another one comes elsewhere."""
    MOVE = "Move"
    """The pool's ports have changed: it goes, another one comes with ports of today."""
    REFUSED = "Refused"
    """The scheduler refuses its pod there, or another relay holds its ports: it goes, another one comes elsewhere."""


class ShardDrain(Spec):
    """A drain under way. It stands here, not in memory, so that a restart of the operator goes on with it."""

    reason: DrainReason = Field(description="Why.")
    since: datetime = Field(description="Since when.")
    deadline: datetime = Field(description="Calls left then are dropped.")


class RelayShardSpec(Spec):
    """Where a relay lives."""

    pool: str = Field(min_length=1, max_length=63, description="The MediaRelayPool it belongs to.")
    node: str = Field(min_length=1, max_length=253, description="Node that holds the ports.")
    ports: PortRange = Field(description="Media ports (UDP).")
    control_ports: PortRange = Field(description="Ports for gRPC and HTTP (TCP).")
    drain: ShardDrain | None = Field(default=None, description="Set while the relay is on its way out.")


RULES: dict[str, list[dict[str, str]]] = {
    "": [
        cel("self.ports.first % 8 == 0", "ports.first must be a multiple of 8"),
        cel("self.pool == oldSelf.pool", "a shard never changes its pool"),
        cel("self.node == oldSelf.node", "a shard never changes its node"),
    ],
    "ports": [cel("self == oldSelf", "a shard's ports are assigned once: delete the shard instead")],
    "controlPorts": [cel("self == oldSelf", "a shard's ports are assigned once: delete the shard instead")],
}
Phase = Literal["Pending", "Ready", "NotReady", "Draining", "Lost"]
STATUS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "What the operator sees.",
    "properties": {
        "phase": {"type": "string", "enum": ["Pending", "Ready", "NotReady", "Draining", "Lost"]},
        "message": {"type": "string", "description": "What it waits for."},
        "calls": {"type": "integer", "nullable": True, "description": "Calls; absent where the relay did not answer."},
        "freeSlots": {"type": "integer", "nullable": True, "description": "Slots that can be taken now."},
        "advertise": {"type": "string", "description": "Addresses that its pod announces to phones."},
        "startedPod": {"type": "string", "description": "uid of the pod whose start was told."},
    },
}

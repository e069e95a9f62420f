"""Kubernetes events, for `kubectl describe`. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pbx_operator.crd.base import API_VERSION
from pbx_operator.observed import Manifest, Pool
from pbx_operator.plan import (
    Action,
    CreatePod,
    CreateShard,
    DeletePod,
    DeleteShard,
    SetDrain,
    SetReplicas,
)
from pbx_operator.status import time_text

MESSAGE_MAX: Final = 1024
"""What the API server accepts."""


def message_of(action: Action) -> tuple[str, str, str] | None:
    """Type, reason and message of the event that an action deserves; None: none."""
    match action:
        case CreateShard():
            where = action.place
            return "Normal", "RelayPlaced", f"{action.name} on node {where.node}, ports {where.ports}"
        case CreatePod():
            return "Normal", "RelayStarted", f"{action.shard.name} announces {', '.join(action.advertise)}"
        case SetDrain(drain=None):
            return "Normal", "RelayReplaced", f"{action.shard.name} is started anew on its node and ports"
        case SetDrain():
            assert action.drain is not None
            until = time_text(action.drain.deadline)
            return (
                "Normal",
                "RelayDraining",
                f"{action.shard.name}: {action.drain.reason.value}, until {until} at most",
            )
        case DeletePod(calls=0):
            return "Normal", "RelayEnded", f"{action.pod.name}: {action.reason}"
        case DeletePod():
            return "Warning", "CallsDropped", f"{action.pod.name}: {action.reason}; it drops {action.calls} calls"
        case DeleteShard():
            return "Normal", "RelayRemoved", f"{action.shard.name}: {action.reason}"
        case SetReplicas():
            return "Normal", "Autoscaled", f"to {action.replicas} relays: {action.reason}"
    return None


def event_manifest(pool: Pool, content: tuple[str, str, str], name: str, now: datetime) -> Manifest:
    """A core/v1 Event about a pool."""
    kind, reason, message = content
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": pool.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "MediaRelayPool",
            "name": pool.name,
            "namespace": pool.namespace,
            "uid": pool.uid,
        },
        "type": kind,
        "reason": reason,
        "message": message[:MESSAGE_MAX],
        "source": {"component": "pbx-operator"},
        "firstTimestamp": time_text(now),
        "lastTimestamp": time_text(now),
        "count": 1,
    }

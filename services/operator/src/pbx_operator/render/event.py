"""Kubernetes events, for `kubectl describe`. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pbx_operator.crd.base import API_VERSION
from pbx_operator.observed import Manifest
from pbx_operator.plan import (
    Action,
    CreatePod,
    CreateShard,
    CreateWanted,
    DeletePod,
    DeleteShard,
    SetDrain,
    SetReplicas,
    TellDrain,
)
from pbx_operator.status import time_text

MESSAGE_MAX: Final = 1024
"""What the API server accepts."""


def message_of(action: Action) -> tuple[str, str, str] | None:
    """Type, reason and message of the event that an action deserves; None: none."""
    match action:
        case CreateShard(place=where):
            return "Normal", "RelayPlaced", f"{action.name} on node {where.node}, ports {where.ports}"
        case CreatePod():
            return "Normal", "RelayCreated", f"{action.shard.name} is to announce {', '.join(action.advertise)}"
        case CreateWanted():
            return "Warning", "NodeWanted", f"{action.name} stands pending for a relay that no node has room for"
        case SetDrain() | TellDrain():
            return _of_drain(action)
        case DeletePod():
            return _of_end(action)
        case DeleteShard():
            return "Normal", "RelayRemoved", f"{action.shard.name}: {action.reason}"
        case SetReplicas():
            return "Normal", "Autoscaled", f"to {action.replicas} relays: {action.reason}"
    return None


def _of_drain(action: SetDrain | TellDrain) -> tuple[str, str, str] | None:
    if isinstance(action, TellDrain):
        text = f"{action.pod.name} was deleted with {action.pod.grace_s} s of grace: it drops {action.calls} calls"
        return ("Warning", "CallsDropped", text) if action.calls else None
    if action.drain is None:
        return "Normal", "RelayReplaced", f"{action.shard.name} is started anew on its node and ports"
    because = f" ({action.note})" if action.note else ""
    until = time_text(action.drain.deadline)
    text = f"{action.shard.name}: {action.drain.reason.value}{because}, until {until} at most"
    return "Normal", "RelayDraining", text


def _of_end(action: DeletePod) -> tuple[str, str, str] | None:
    if action.pod.wanted_by:
        return None
    if action.calls:
        text = f"{action.pod.name}: {action.reason}; it drops {action.calls} calls"
        return "Warning", "CallsDropped", text
    return "Normal", "RelayEnded", f"{action.pod.name}: {action.reason}"


def started(shard: str, advertise: str) -> tuple[str, str, str]:
    """A relay takes calls."""
    return "Normal", "RelayStarted", f"{shard} announces {advertise or 'addresses that its pod does not tell'}"


def refused(message: str) -> tuple[str, str, str]:
    """The API server, or the operator itself, refuses what the pool asks for."""
    return "Warning", "Refused", message


def event_manifest(body: Manifest, content: tuple[str, str, str], name: str, now: datetime) -> Manifest:
    """A core/v1 Event about a pool, of which name, namespace and uid are known."""
    kind, reason, message = content
    meta = body["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": meta.get("namespace", "")},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "MediaRelayPool",
            "name": meta["name"],
            "namespace": meta.get("namespace", ""),
            "uid": meta.get("uid", ""),
        },
        "type": kind,
        "reason": reason,
        "message": message[:MESSAGE_MAX],
        "source": {"component": "pbx-operator"},
        "firstTimestamp": time_text(now),
        "lastTimestamp": time_text(now),
        "count": 1,
    }

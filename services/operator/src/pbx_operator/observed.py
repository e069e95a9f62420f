"""What the operator knows when it decides: values read from Kubernetes objects and from the relays. Pure.

Nothing here survives a pass; each pass reads the world anew, so that a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pbx_operator.crd.pool import MediaRelayPoolSpec
from pbx_operator.crd.shard import DrainReason, RelayShardSpec, ShardDrain
from pbx_operator.ports import Block

Manifest = dict[str, Any]
LABEL_POOL: Final = "pbx.io/pool"
LABEL_SHARD: Final = "pbx.io/shard"
LABEL_SESSIONS: Final = "pbx.io/sessions"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_WANTED: Final = "pbx.io/wanted-by"
"""On the pod that stands for a relay without a place; its value is the pool's name."""
COMPONENT: Final = "media-relay"
ANNOTATION_TEMPLATE: Final = "pbx.io/template"
ANNOTATION_PORTS: Final = "pbx.io/ports"
ANNOTATION_CONTROL_PORTS: Final = "pbx.io/control-ports"
ANNOTATION_ADVERTISE: Final = "pbx.io/advertise"
SESSIONS_ACTIVE: Final = "active"
SESSIONS_IDLE: Final = "idle"
REFUSED_AFTER_S: Final = 30
"""How long the scheduler may refuse a relay's pod before another place is looked for: what is only busy has passed."""


def timestamp(text: str | None) -> datetime | None:
    """A time as Kubernetes writes it."""
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    is_cordoned: bool = False
    is_ready: bool = True
    not_ready_since: datetime | None = None
    addresses: tuple[tuple[str, str], ...] = ()
    """Pairs of type (InternalIP, ExternalIP) and address."""

    @classmethod
    def from_manifest(cls, body: Manifest) -> Node:
        """Read a Node."""
        meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        ready: Manifest = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
        is_ready = ready.get("status") == "True"
        taints = (Taint(t["key"], t.get("value") or "", t.get("effect") or "") for t in spec.get("taints") or ())
        return cls(
            name=meta["name"],
            labels=meta.get("labels") or {},
            annotations=meta.get("annotations") or {},
            taints=tuple(taints),
            is_cordoned=bool(spec.get("unschedulable")) or "deletionTimestamp" in meta,
            is_ready=is_ready,
            not_ready_since=None if is_ready else timestamp(ready.get("lastTransitionTime")),
            addresses=tuple((a["type"], a["address"]) for a in status.get("addresses") or ()),
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """A RelayShard."""

    name: str
    namespace: str
    spec: RelayShardSpec
    created_at: datetime | None = None
    uid: str = ""
    resource_version: str = ""
    is_deleting: bool = False
    status: Manifest = field(default_factory=dict)

    @classmethod
    def from_manifest(cls, body: Manifest) -> Shard:
        """Read a RelayShard. Raises ValueError (pydantic) where it is not one."""
        meta = body["metadata"]
        return cls(
            name=meta["name"],
            namespace=meta.get("namespace", ""),
            spec=RelayShardSpec.model_validate(body.get("spec") or {}),
            created_at=timestamp(meta.get("creationTimestamp")),
            uid=meta.get("uid", ""),
            resource_version=meta.get("resourceVersion", ""),
            is_deleting="deletionTimestamp" in meta,
            status=body.get("status") or {},
        )

    @property
    def ports(self) -> Block:
        """Media ports."""
        return self.spec.ports.block

    @property
    def control(self) -> Block:
        """Control ports."""
        return self.spec.control_ports.block

    @property
    def drain(self) -> ShardDrain | None:
        """The drain under way."""
        return self.spec.drain

    @property
    def is_leaving(self) -> bool:
        """Whether it goes for good (an upgrade comes back)."""
        return self.is_deleting or (self.drain is not None and self.drain.reason is not DrainReason.UPGRADE)


@dataclass(frozen=True, slots=True)
class Pod:
    """A relay's pod."""

    name: str
    namespace: str
    shard: str
    pool: str
    node: str
    ports: Block | None
    control: Block | None
    template: str = ""
    sessions: str = ""
    uid: str = ""
    phase: str = "Pending"
    is_ready: bool = False
    has_started: bool = False
    """A container of it runs or ran: it may hold calls."""
    is_terminating: bool = False
    ends_at: datetime | None = None
    """When a terminating one is killed."""
    grace_s: int | None = None
    """Seconds that a terminating one was given."""
    message: str = ""
    """Why it does not run, in the scheduler's or the kubelet's words."""
    advertise: str = ""
    """The addresses that it announces; empty: made by an operator that did not note them."""
    refused_since: datetime | None = None
    """Since when the scheduler has refused it."""
    wanted_by: str = ""
    """The pool for which it stands for a relay without a place; it is none itself."""

    @classmethod
    def from_manifest(cls, body: Manifest) -> Pod:
        """Read a relay's pod."""
        meta, status = body["metadata"], body.get("status") or {}
        labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
        return cls(
            name=meta["name"],
            namespace=meta.get("namespace", ""),
            shard=labels.get(LABEL_SHARD, ""),
            pool=labels.get(LABEL_POOL, ""),
            node=(body.get("spec") or {}).get("nodeName") or annotations.get("pbx.io/node", ""),
            ports=_block(annotations.get(ANNOTATION_PORTS)),
            control=_block(annotations.get(ANNOTATION_CONTROL_PORTS)),
            template=annotations.get(ANNOTATION_TEMPLATE, ""),
            sessions=labels.get(LABEL_SESSIONS, ""),
            uid=meta.get("uid", ""),
            phase=status.get("phase", "Pending"),
            is_ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()),
            has_started=any(_has_started(c) for c in status.get("containerStatuses") or ()),
            is_terminating="deletionTimestamp" in meta,
            ends_at=timestamp(meta.get("deletionTimestamp")),
            grace_s=meta.get("deletionGracePeriodSeconds"),
            message=_trouble(status),
            advertise=annotations.get(ANNOTATION_ADVERTISE, ""),
            refused_since=_refused_since(status),
            wanted_by=labels.get(LABEL_WANTED, ""),
        )

    @property
    def is_over(self) -> bool:
        """Whether it will never run again."""
        return self.phase in ("Failed", "Succeeded")


def _block(text: str | None) -> Block | None:
    try:
        return Block.parse(text) if text else None
    except ValueError:
        return None  # somebody's hand: such a pod holds no ports that we know of


def _has_started(container: Manifest) -> bool:
    state = container.get("state") or {}
    return "running" in state or "terminated" in state or bool(container.get("restartCount"))


def _refused_since(status: Manifest) -> datetime | None:
    for condition in status.get("conditions") or ():
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "False"):
            return (
                timestamp(condition.get("lastTransitionTime")) if condition.get("reason") == "Unschedulable" else None
            )
    return None


def _trouble(status: Manifest) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "")
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return str(status.get("message") or "")


@dataclass(frozen=True, slots=True)
class RelayReport:
    """What a relay said of itself."""

    calls: int
    slots_free: int
    slots_total: int
    is_draining: bool
    oldest_call_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """A MediaRelayPool."""

    name: str
    namespace: str
    spec: MediaRelayPoolSpec
    uid: str = ""
    generation: int = 0
    surplus_since: datetime | None = None
    status: Manifest = field(default_factory=dict)
    is_deleting: bool = False
    refused_until: Mapping[str, datetime] = field(default_factory=dict)
    """Nodes that the scheduler refused, and until when no relay is placed there."""

    @classmethod
    def from_manifest(cls, body: Manifest) -> Pool:
        """Read a MediaRelayPool. Raises ValueError (pydantic) that says what is wrong with its spec."""
        meta, status = body["metadata"], body.get("status") or {}
        return cls(
            name=meta["name"],
            namespace=meta.get("namespace", ""),
            spec=MediaRelayPoolSpec.model_validate(body.get("spec") or {}),
            uid=meta.get("uid", ""),
            generation=int(meta.get("generation") or 0),
            surplus_since=timestamp(status.get("surplusSince")),
            status=status,
            is_deleting="deletionTimestamp" in meta,
            refused_until={
                entry["node"]: datetime.fromisoformat(entry["until"]) for entry in status.get("refusedNodes") or ()
            },
        )


@dataclass(frozen=True, slots=True)
class World:
    """All of it, at one time."""

    pool: Pool
    now: datetime
    nodes: Mapping[str, Node]
    shards: tuple[Shard, ...]
    """Of all pools and, where that may be read, of all namespaces: installations may share a node."""
    pods: tuple[Pod, ...]
    """Of all pools."""
    reports: Mapping[str, RelayReport]
    """By pod name within the pool's namespace; a relay that did not answer is missing."""

    @property
    def own_shards(self) -> tuple[Shard, ...]:
        """The pool's shards, by name."""
        pool = self.pool
        own = (s for s in self.shards if s.spec.pool == pool.name and s.namespace == pool.namespace)
        return tuple(sorted(own, key=lambda shard: shard.name))

    def pod_of(self, shard: Shard) -> Pod | None:
        """The pod of a shard, terminating ones included."""
        return next((p for p in self.pods if p.name == shard.name and p.namespace == shard.namespace), None)

    def report_of(self, shard: Shard) -> RelayReport | None:
        """What the shard's relay said; None: nothing."""
        return self.reports.get(shard.name) if shard.namespace == self.pool.namespace else None

    def is_lost(self, node_name: str) -> bool:
        """Whether a node is gone, or has not been ready for longer than the pool puts up with."""
        node = self.nodes.get(node_name)
        if node is None:
            return True
        if node.is_ready or node.not_ready_since is None:
            return False
        return (self.now - node.not_ready_since).total_seconds() >= self.pool.spec.node_lost_after_seconds

    @property
    def wanted_pods(self) -> tuple[Pod, ...]:
        """Pods that stand for relays of the pool without a place, by name."""
        pool = self.pool
        own = (p for p in self.pods if p.wanted_by == pool.name and p.namespace == pool.namespace)
        return tuple(sorted(own, key=lambda pod: pod.name))

    def is_refused(self, shard: Shard) -> bool:
        """Whether the scheduler has refused the shard's pod for so long that another place is better."""
        pod = self.pod_of(shard)
        if pod is None or pod.has_started or pod.is_terminating or pod.refused_since is None:
            return False
        return (self.now - pod.refused_since).total_seconds() >= REFUSED_AFTER_S

    def clash_of(self, shard: Shard) -> Shard | None:
        """Another shard that holds some of the shard's ports: two operators chose at the same moment."""
        return next((other for other in self.shards if _clash(shard, other)), None)

    def refused_nodes(self) -> frozenset[str]:
        """Nodes on which the scheduler refuses relays now, or did so lately; not for the ports of another relay."""
        remembered = {node for node, until in self.pool.refused_until.items() if until > self.now}
        now = {s.spec.node for s in self.own_shards if self.is_refused(s) and self.clash_of(s) is None}
        return frozenset(remembered | now)

    def taken(self, node: str) -> tuple[list[Block], list[Block]]:
        """Media and control blocks held on a node by any shard, or by a pod that is still there without one."""
        media = [s.ports for s in self.shards if s.spec.node == node]
        control = [s.control for s in self.shards if s.spec.node == node]
        here = [p for p in self.pods if p.node == node]
        media += [p.ports for p in here if p.ports]
        control += [p.control for p in here if p.control]
        return media, control


def _clash(one: Shard, other: Shard) -> bool:
    if (one.namespace, one.name) == (other.namespace, other.name) or one.spec.node != other.spec.node:
        return False
    return one.ports.overlaps(other.ports) or one.control.overlaps(other.control)

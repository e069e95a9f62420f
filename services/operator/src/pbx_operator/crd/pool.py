"""`MediaRelayPool`: how many relays, where, with which ports, and how they are drained. Scaled by `kubectl scale`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pbx_operator.crd.base import Spec, cel
from pbx_operator.crd.value import (
    ADDRESS_RULES,
    ANNOTATIONS_RULE,
    ENTRIES_MAX,
    KEY,
    KEYS_RULE,
    NAME,
    Address,
    Amount,
    Annotations,
    BinarySize,
    Labels,
)
from pbx_operator.ports import CONTROL_PORTS, GRID, PORTS_PER_SLOT, Block, capacity

REPLICAS_MAX = 1000
Port = Annotated[int, Field(ge=1024, le=65535)]
Name = Annotated[str, Field(pattern=NAME, max_length=253)]
MaybeName = Annotated[str, Field(pattern=rf"^$|{NAME}", max_length=253)]
MaybeKey = Annotated[str, Field(pattern=rf"^$|{KEY}", max_length=317)]
VARIABLE = r"^PBX_[A-Z0-9_]+$"
"""More environment of a relay: settings of it, and nothing that a loader or an interpreter reads."""


class PortRange(Spec):
    """First and last port, both included."""

    first: Port = Field(description="First port; a multiple of 8 for media.")
    last: Port = Field(description="Last port, included.")

    @property
    def block(self) -> Block:
        """As a block."""
        return Block(self.first, self.last)


class Toleration(Spec):
    """As in a pod."""

    key: str = Field(default="", description="Key of the taint; empty with Exists: every taint.")
    operator: Literal["Equal", "Exists"] = Field(default="Equal", description="How the value is compared.")
    value: str = Field(default="", description="Value of the taint.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="", description="Effect of the taint; empty: every effect."
    )


class Placement(Spec):
    """On which nodes relays may run."""

    node_selector: Labels = Field(default_factory=dict, description="Labels that a node must have.")
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] = Field(
        default=(), description="Taints that relays put up with."
    )
    zone_label: MaybeKey = Field(
        default="topology.kubernetes.io/zone", description="Label by whose values relays are spread; empty: not spread."
    )
    relays_per_node_max: int = Field(default=4, ge=1, le=64, description="Relays of this pool on one node.")


class Addressing(Spec):
    """Which address relays announce to phones: the first of these that is known. Never guessed."""

    advertise: Annotated[tuple[Address, ...], Field(max_length=2)] = Field(
        default=(), description="Given: announced by every relay (one node, or a NAT in front of all)."
    )
    annotation: MaybeKey = Field(
        default="pbx.io/advertise", description="Node annotation that holds the addresses, comma-separated."
    )
    external_ip: bool = Field(default=True, description="Whether the node's ExternalIP is taken.")
    allow_internal_ip: bool = Field(
        default=False, description="Whether the node's InternalIP may be announced where nothing else is known."
    )


class Drain(Spec):
    """How calls leave a relay that is to go."""

    deadline_seconds: int = Field(
        default=3600, ge=0, le=86400, description="Calls older than this drain are dropped, in seconds."
    )


class Autoscale(Spec):
    """Keep free slots in stock. Leave it out where an HPA or a person scales."""

    min_replicas: int = Field(default=2, ge=0, le=REPLICAS_MAX, description="Never fewer relays.")
    max_replicas: int = Field(default=10, ge=1, le=REPLICAS_MAX, description="Never more relays.")
    buffer_calls: int = Field(default=100, ge=1, description="Free slots to keep, in calls.")
    scale_in_after_seconds: int = Field(
        default=600, ge=0, description="How long a relay must have been superfluous before it is drained, in seconds."
    )


class SecretKey(Spec):
    """A key of a Secret in the pool's namespace."""

    name: Name = Field(description="Name of the Secret.")
    key: str = Field(default="url", pattern=r"^[-._a-zA-Z0-9]+$", max_length=253, description="Key inside.")


class Resources(Spec):
    """As in a container."""

    requests: dict[str, Amount] = Field(default_factory=dict, description="What the scheduler sets aside.")
    limits: dict[str, Amount] = Field(default_factory=dict, description="What the kernel enforces.")


class Recordings(Spec):
    """Where a relay's recordings go. They end a tenth before the size is reached; calls go on."""

    size: BinarySize = Field(default="1Gi", description="What the recordings of one relay may hold: 10Gi, 500Mi.")
    claim: MaybeName = Field(
        default="",
        description="PersistentVolumeClaim of the pool's namespace (ReadWriteMany where relays are on several nodes), "
        "in which each relay has a directory of its name. Empty: a volume of the pod, which goes with it.",
    )


class EnvVar(Spec):
    """One more environment variable."""

    name: str = Field(pattern=VARIABLE, max_length=64, description="Name of a setting of the relay (PBX_...).")
    value: str = Field(default="", description="Value.")


class RelayTemplate(Spec):
    """The relay's pod. A change drains and replaces one relay after the other, each on its node and ports."""

    image: str = Field(
        default="",
        pattern=r"^\S*$",
        max_length=1024,
        description="Image of the relay; empty: the operator's. It must be one of those that the operator may run.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="As in a container."
    )
    image_pull_secrets: Annotated[tuple[Name, ...], Field(max_length=ENTRIES_MAX)] = Field(
        default=(), description="Names of Secrets."
    )
    datapath: Literal["auto", "ebpf", "native", "python", "null"] = Field(
        default="auto",
        description="ebpf gets CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, others nothing; auto is native, else python. "
        "It must be one of those that the operator may run.",
    )
    redis: SecretKey = Field(description="Where the Redis URL is.")
    grpc_key: SecretKey | None = Field(
        default=None, description="Where the key is that all services share; without it a relay does not start."
    )
    redis_password: SecretKey | None = Field(
        default=None, description="Where the password of Redis is, as it is; it comes before one in the URL."
    )
    resources: Resources = Field(default_factory=Resources, description="Of the relay's container.")
    recordings: Recordings = Field(default_factory=Recordings, description="Where recordings go.")
    env: Annotated[tuple[EnvVar, ...], Field(max_length=ENTRIES_MAX)] = Field(
        default=(), description="More settings of the relay."
    )
    labels: Labels = Field(default_factory=dict, description="More labels of the pod.")
    annotations: Annotations = Field(default_factory=dict, description="More annotations of the pod.")
    priority_class_name: MaybeName = Field(default="", description="As in a pod.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Of the relay.")


class MediaRelayPoolSpec(Spec):
    """What a person asks for."""

    replicas: int = Field(default=2, ge=0, le=REPLICAS_MAX, description="Relays that take calls.")
    slots_per_shard: int = Field(default=500, ge=1, le=8000, description="Calls that one relay can hold; 8 ports each.")
    ports: PortRange = Field(
        default=PortRange(first=20000, last=29999), description="Media ports that relays may hold on each node (UDP)."
    )
    control_ports: PortRange = Field(
        default=PortRange(first=9300, last=9427),
        description="Ports for gRPC and HTTP on each node, two a relay (TCP).",
    )
    placement: Placement = Field(default_factory=Placement, description="On which nodes.")
    addressing: Addressing = Field(default_factory=Addressing, description="Which address phones are told.")
    drain: Drain = Field(default_factory=Drain, description="How calls leave a relay.")
    node_lost_after_seconds: int = Field(
        default=60,
        ge=0,
        le=3600,
        description="Relays of a node that is not ready for longer are replaced, in seconds.",
    )
    autoscale: Autoscale | None = Field(default=None, description="Keep free slots in stock.")
    template: RelayTemplate = Field(description="The relay's pod.")

    @model_validator(mode="after")
    def _holds_a_shard(self) -> MediaRelayPoolSpec:
        if capacity(self.ports.block, self.block_size, PORTS_PER_SLOT, GRID) < 1:
            raise ValueError(f"ports {self.ports.block} hold no shard of {self.block_size} ports")
        if capacity(self.control_ports.block, CONTROL_PORTS, CONTROL_PORTS) < 1:
            raise ValueError("controlPorts hold no pair of ports")
        return self

    @property
    def block_size(self) -> int:
        """Ports of one shard."""
        return self.slots_per_shard * PORTS_PER_SLOT


RULES: dict[str, list[dict[str, str]]] = {
    "": [
        cel("self.ports.first % 8 == 0", "ports.first must be a multiple of 8: a call takes 8 ports, aligned to 8"),
        cel(
            "self.ports.last - self.ports.first + 1 >= self.slotsPerShard * 8",
            "ports hold no shard: ports.last - ports.first + 1 must be at least slotsPerShard * 8",
        ),
        cel(
            "self.controlPorts.last > self.controlPorts.first && self.controlPorts.first % 2 == 0",
            "controlPorts must begin at an even port and hold two",
        ),
        cel(
            "self.controlPorts.last < self.ports.first || self.controlPorts.first > self.ports.last",
            "controlPorts and ports must not overlap",
        ),
        cel(
            "!has(self.autoscale) || self.autoscale.minReplicas <= self.autoscale.maxReplicas",
            "autoscale.minReplicas must not exceed autoscale.maxReplicas",
        ),
    ],
    "placement.nodeSelector": [KEYS_RULE],
    "addressing.advertise": ADDRESS_RULES,
    "template.labels": [KEYS_RULE],
    "template.annotations": [KEYS_RULE, ANNOTATIONS_RULE],
}
"""CEL rules by path (dots between keys; empty: the spec itself)."""

STATUS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "What the operator sees.",
    "properties": {
        "observedGeneration": {"type": "integer", "format": "int64"},
        "replicas": {"type": "integer", "description": "Relays that exist and are to stay."},
        "readyReplicas": {"type": "integer", "description": "Relays that take calls."},
        "drainingReplicas": {"type": "integer", "description": "Relays on their way out."},
        "updatedReplicas": {"type": "integer", "description": "Relays of the present template."},
        "selector": {"type": "string", "description": "Label selector of the relays, for autoscalers."},
        "calls": {"type": "integer", "description": "Calls on all relays that answered."},
        "freeSlots": {"type": "integer", "description": "Slots that can be taken now."},
        "surplusSince": {
            "type": "string",
            "format": "date-time",
            "nullable": True,
            "description": "Since when a relay has been superfluous (autoscale).",
        },
        "refusedNodes": {
            "type": "array",
            "description": "Nodes on which the scheduler refused relays lately; none is placed there meanwhile.",
            "items": {
                "type": "object",
                "required": ["node", "until"],
                "properties": {"node": {"type": "string"}, "until": {"type": "string", "format": "date-time"}},
            },
        },
        "conditions": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                "properties": {
                    "type": {"type": "string"},
                    "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                    "reason": {"type": "string"},
                    "message": {"type": "string"},
                    "lastTransitionTime": {"type": "string", "format": "date-time"},
                    "observedGeneration": {"type": "integer", "format": "int64"},
                },
            },
        },
    },
}

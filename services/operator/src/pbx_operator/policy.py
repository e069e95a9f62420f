"""What the operator runs for whoever may write a MediaRelayPool: images, datapaths and a service account. Pure.

Relays share the network of their nodes, and with `ebpf` run as root: who chooses what runs there has the node. So that
choice is the operator's (its settings, which the chart writes), and a pool can ask for no more than they allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pbx_operator.crd.pool import MediaRelayPoolSpec

DATAPATHS: Final = frozenset({"auto", "native", "python", "null"})
"""Those that need no privilege."""
OWN_VARIABLES: Final = frozenset(
    {
        "PBX_RELAY_ID",
        "PBX_RELAY_SHARD_FILE",
        "PBX_RELAY_PORTS",
        "PBX_RELAY_BIND",
        "PBX_RELAY_ADVERTISE",
        "PBX_RELAY_GRPC_ADVERTISE",
        "PBX_RELAY_NODE",
        "PBX_RELAY_PINS",
        "PBX_RELAY_PROBE_S",
        "PBX_RELAY_RECORDINGS",
        "PBX_RELAY_RECORDINGS_MAX_MIB",
        "PBX_RELAY_RECORDINGS_FREE_PERCENT",
        "PBX_GRPC_LISTEN",
        "PBX_HTTP_LISTEN",
        "PBX_DATAPATH",
        "PBX_DATA",
        "PBX_LOG_LEVEL",
        "PBX_SHUTDOWN_S",
        "PBX_GRPC_KEY",
        "PBX_GRPC_INSECURE",
        "PBX_REDIS_URL",
        "PBX_REDIS_PASSWORD",
    }
)
"""What the operator tells a relay itself, also as `<NAME>_FILE`: one of the pool would come after it, and win."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What pools may ask for."""

    image: str = ""
    """The relay of pools that name none."""
    images: tuple[str, ...] = ()
    """Others that they may name: IMAGE:TAG, IMAGE@DIGEST, or IMAGE for all tags of it."""
    datapaths: frozenset[str] = DATAPATHS
    service_account: str = ""
    """Of the relays; empty: the namespace's default one. They get no token of it."""

    def image_of(self, spec: MediaRelayPoolSpec) -> str:
        """The image that a pool's relays run."""
        return spec.template.image or self.image

    def problem(self, spec: MediaRelayPoolSpec) -> str:
        """Why a pool is not run as it stands; empty: it is."""
        template, image = spec.template, self.image_of(spec)
        if not image:
            return "template.image is empty, and the operator has none of its own (PBX_RELAY_IMAGE)"
        if image != self.image and not self._allows(image):
            return f"template.image {image} is not one that this operator runs (PBX_RELAY_IMAGE, PBX_RELAY_IMAGES)"
        if template.datapath not in self.datapaths:
            return f"template.datapath {template.datapath} is not one that this operator runs (PBX_RELAY_DATAPATHS)"
        owned = sorted(v.name for v in template.env if v.name.removesuffix("_FILE") in OWN_VARIABLES)
        return f"template.env: {', '.join(owned)} is the operator's to set" if owned else ""

    def _allows(self, image: str) -> bool:
        return image in self.images or _repository(image) in self.images


def _repository(image: str) -> str:
    """An image without its tag and digest."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name

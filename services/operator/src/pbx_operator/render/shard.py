"""The RelayShard object. Pure."""

from __future__ import annotations

from pbx_operator.crd.base import API_VERSION
from pbx_operator.crd.shard import ShardDrain
from pbx_operator.observed import LABEL_SHARD, Manifest, Pool
from pbx_operator.placement import Place
from pbx_operator.ports import Block
from pbx_operator.render.common import labels, owned_by_pool


def shard_manifest(pool: Pool, name: str, place: Place) -> Manifest:
    """A new shard."""
    return {
        "apiVersion": API_VERSION,
        "kind": "RelayShard",
        "metadata": {
            "name": name,
            "namespace": pool.namespace,
            "labels": {**labels(pool), LABEL_SHARD: name},
            "ownerReferences": owned_by_pool(pool),
        },
        "spec": {
            "pool": pool.name,
            "node": place.node,
            "ports": _range(place.ports),
            "controlPorts": _range(place.control),
        },
    }


def _range(block: Block) -> Manifest:
    return {"first": block.first, "last": block.last}


def drain_patch(resource_version: str, drain: ShardDrain | None) -> Manifest:
    """A merge patch that sets or ends the drain; refused (409) where the shard has changed meanwhile."""
    value = drain.model_dump(mode="json", by_alias=True) if drain else None
    patch: Manifest = {"spec": {"drain": value}}
    if resource_version:
        patch["metadata"] = {"resourceVersion": resource_version}
    return patch

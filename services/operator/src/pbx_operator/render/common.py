"""Metadata that all objects of a pool share. Pure."""

from __future__ import annotations

from pbx_operator.crd.base import API_VERSION
from pbx_operator.observed import COMPONENT, LABEL_COMPONENT, LABEL_POOL, Manifest, Pool, Shard

MANAGED_BY = "app.kubernetes.io/managed-by"


def labels(pool: Pool) -> dict[str, str]:
    """Labels of everything that belongs to a pool."""
    return {
        "app.kubernetes.io/name": "sip-pbx",
        LABEL_COMPONENT: COMPONENT,
        MANAGED_BY: "pbx-operator",
        LABEL_POOL: pool.name,
    }


def owner(kind: str, name: str, uid: str) -> list[Manifest]:
    """The owner reference by which Kubernetes deletes what belongs to a deleted object."""
    reference = {"apiVersion": API_VERSION, "kind": kind, "name": name, "uid": uid}
    return [{**reference, "controller": True, "blockOwnerDeletion": True}]


def owned_by_pool(pool: Pool) -> list[Manifest]:
    """Owner: the pool."""
    return owner("MediaRelayPool", pool.name, pool.uid)


def owned_by_shard(shard: Shard) -> list[Manifest]:
    """Owner: the shard."""
    return owner("RelayShard", shard.name, shard.uid)

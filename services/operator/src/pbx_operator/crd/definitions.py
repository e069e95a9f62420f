"""The CustomResourceDefinitions as objects. Pure."""

from __future__ import annotations

from typing import Any

from pbx_operator.crd import pool, shard
from pbx_operator.crd.base import GROUP, VERSION
from pbx_operator.crd.schema import openapi


def _column(name: str, path: str, kind: str = "integer", priority: int = 0) -> dict[str, Any]:
    # The API server drops what is its default; server-side apply would call the difference a conflict.
    return {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}


POOL_NAME_MAX = 30
"""A pool's name is the beginning of its relays' names."""
SHARD_NAME_MAX = 63
"""A shard's name is its pod's, a label's value and the relay's id."""
AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _crd(names: dict[str, Any], version: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": VERSION, "served": True, "storage": True, **version}],
        },
    }


def _schema(description: str, spec: dict[str, Any], status: dict[str, Any], name_max: int) -> dict[str, Any]:
    return {
        "openAPIV3Schema": {
            "type": "object",
            "description": description,
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": name_max}}},
                "spec": spec,
                "status": status,
            },
        }
    }


def media_relay_pool() -> dict[str, Any]:
    """The CRD of MediaRelayPool."""
    names = {
        "kind": "MediaRelayPool",
        "listKind": "MediaRelayPoolList",
        "plural": "mediarelaypools",
        "singular": "mediarelaypool",
        "shortNames": ["mrp"],
        "categories": ["pbx"],
    }
    spec = openapi(pool.MediaRelayPoolSpec, pool.RULES)
    version = {
        "schema": _schema("A pool of media relays.", spec, pool.STATUS_SCHEMA, POOL_NAME_MAX),
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            _column("Desired", ".spec.replicas"),
            _column("Ready", ".status.readyReplicas"),
            _column("Draining", ".status.drainingReplicas"),
            _column("Calls", ".status.calls"),
            _column("Free", ".status.freeSlots"),
            _column("Status", '.status.conditions[?(@.type=="Available")].message', "string", 1),
            AGE,
        ],
    }
    return _crd(names, version)


def relay_shard() -> dict[str, Any]:
    """The CRD of RelayShard."""
    names = {
        "kind": "RelayShard",
        "listKind": "RelayShardList",
        "plural": "relayshards",
        "singular": "relayshard",
        "shortNames": ["rsh"],
        "categories": ["pbx"],
    }
    spec = openapi(shard.RelayShardSpec, shard.RULES)
    version = {
        "schema": _schema("One relay: its node and its ports.", spec, shard.STATUS_SCHEMA, SHARD_NAME_MAX),
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            _column("Pool", ".spec.pool", "string"),
            _column("Node", ".spec.node", "string"),
            _column("First", ".spec.ports.first"),
            _column("Last", ".spec.ports.last"),
            _column("Phase", ".status.phase", "string"),
            _column("Calls", ".status.calls"),
            _column("Waits for", ".status.message", "string", 1),
            AGE,
        ],
    }
    return _crd(names, version)


def all_definitions() -> tuple[dict[str, Any], ...]:
    """Every CRD of the product."""
    return media_relay_pool(), relay_shard()

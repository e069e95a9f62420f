"""The disruption budget: no relay that holds calls is evicted. Pure."""

from __future__ import annotations

from typing import Final

from pbx_operator.observed import LABEL_POOL, LABEL_SESSIONS, SESSIONS_ACTIVE, Manifest, Pool
from pbx_operator.render.common import labels, owned_by_pool

NEVER_REACHED: Final = 2_147_483_647
"""More healthy pods than there can be: every eviction is refused. `maxUnavailable: 0` would say it better, but the
disruption controller takes it only where it knows the owner's scale, and a shard has none."""


def budget_manifest(pool: Pool) -> Manifest:
    """Protects pods labelled as holding calls; the operator moves the label, so idle relays go at once."""
    selector = {"matchLabels": {LABEL_POOL: pool.name, LABEL_SESSIONS: SESSIONS_ACTIVE}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": f"{pool.name}-calls",
            "namespace": pool.namespace,
            "labels": labels(pool),
            "ownerReferences": owned_by_pool(pool),
        },
        # Not AlwaysAllow: a draining relay is not ready, and holds calls.
        "spec": {
            "selector": selector,
            "minAvailable": NEVER_REACHED,
            "unhealthyPodEvictionPolicy": "IfHealthyBudget",
        },
    }

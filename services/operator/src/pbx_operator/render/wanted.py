"""The pod that stands for a relay without a place. Pure.

A relay's pod is bound to a node that the operator chose, so where there is no room none exists that a cluster
autoscaler could see. This one asks for what a relay asks for (resources, labels, taints, priority) on any node but
those that are known to have no room; it stays pending until a node comes, and goes as soon as a relay has a place.
"""

from __future__ import annotations

from typing import Final

from pbx_operator.observed import COMPONENT, LABEL_COMPONENT, LABEL_WANTED, Manifest, Pool
from pbx_operator.policy import Policy
from pbx_operator.render.common import MANAGED_BY, owned_by_pool
from pbx_operator.render.pod import UNPRIVILEGED_UID, toleration

IDLE: Final = ["python", "-c", "import signal; signal.pause()"]
"""What it does in the moment between its binding and its end."""


def wanted_manifest(pool: Pool, name: str, elsewhere: tuple[str, ...], policy: Policy) -> Manifest:
    """A pod that waits for a node."""
    template, placement = pool.spec.template, pool.spec.placement
    resources = {key: value for key, value in template.resources.model_dump().items() if value}
    container: Manifest = {
        "name": "wanted",
        "image": policy.image_of(pool.spec),
        "imagePullPolicy": template.image_pull_policy,
        "command": IDLE,
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [toleration(t.model_dump()) for t in placement.tolerations],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UNPRIVILEGED_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    if placement.node_selector:
        spec["nodeSelector"] = dict(placement.node_selector)
    if elsewhere:
        spec["affinity"] = _not_on(elsewhere)
    if template.priority_class_name:
        spec["priorityClassName"] = template.priority_class_name
    if policy.service_account:
        spec["serviceAccountName"] = policy.service_account
    metadata = {
        "name": name,
        "namespace": pool.namespace,
        # Not the pool's label: an HPA must not count it, nor the disruption budget.
        "labels": {
            **template.labels,
            "app.kubernetes.io/name": "sip-pbx",
            LABEL_COMPONENT: COMPONENT,
            MANAGED_BY: "pbx-operator",
            LABEL_WANTED: pool.name,
        },
        "ownerReferences": owned_by_pool(pool),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _not_on(nodes: tuple[str, ...]) -> Manifest:
    fields = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in nodes]  # one value each: API
    required = {"nodeSelectorTerms": [{"matchFields": fields}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}

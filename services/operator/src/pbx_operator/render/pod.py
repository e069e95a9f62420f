"""The relay's pod. Pure.

It shares the node's network: media of thousands of ports cannot go through a Service. Everything else of the
restricted Pod Security level holds, but for what the kernel datapath needs (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and the
directory of pinned maps), and it gets exactly that. Image and service account are the operator's (`policy`).
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from typing import Any, Final

from pbx_operator.crd.pool import RelayTemplate
from pbx_operator.crd.value import mebibytes
from pbx_operator.observed import (
    ANNOTATION_ADVERTISE,
    ANNOTATION_CONTROL_PORTS,
    ANNOTATION_PORTS,
    ANNOTATION_TEMPLATE,
    LABEL_SESSIONS,
    LABEL_SHARD,
    SESSIONS_IDLE,
    Manifest,
    Pool,
    Shard,
)
from pbx_operator.policy import Policy
from pbx_operator.ports import markers
from pbx_operator.render.common import labels, owned_by_shard

FORMAT: Final = 5
"""Part of the template's digest: raise it when this file renders the same template differently, so that a new
operator replaces relays one by one instead of leaving two kinds side by side."""
GRACE_SPARE_S: Final = 15
"""What the kubelet waits beyond the relay's own deadline before SIGKILL."""
GRPC_KEY: Final = "/etc/pbx/grpc/key"
"""Mounted, not in the environment: a relay follows a changed key without a restart."""
RECORDINGS: Final = "/recordings"
RECORDINGS_PART: Final = 0.9
"""Of the volume: the kubelet evicts a pod, with its calls, whose emptyDir is beyond its size."""
RECORDINGS_FREE_PERCENT: Final = 15
"""Left free of the disk below: the kubelet evicts pods where less than 10 % of the node's is."""
PIN_DIRECTORY: Final = "/sys/fs/bpf/sip-pbx"
KERNEL_DATAPATHS: Final = frozenset({"ebpf"})
"""What goes into the kernel. `auto` is native, else python: it gets no privilege that it does not need."""
CAPABILITIES: Final = ("BPF", "NET_ADMIN", "PERFMON")
"""Load programs and maps; attach them to the node's interfaces; let the verifier take a program of that size (without
CAP_PERFMON it refuses what compilers make of pointers on the stack)."""
UNPRIVILEGED_UID: Final = 10001


def template_digest(pool: Pool, policy: Policy) -> str:
    """Tells pods of one template from those of another. What `kubectl scale` changes is not in it."""
    spec = pool.spec
    parts = [FORMAT, spec.template.model_dump(mode="json"), spec.drain.deadline_seconds]
    parts += [policy.image_of(spec), policy.service_account]
    parts.append([t.model_dump(mode="json") for t in spec.placement.tolerations])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def pod_manifest(pool: Pool, shard: Shard, advertise: tuple[str, ...], control_host: str, policy: Policy) -> Manifest:
    """The pod of a shard, on its node, with its ports and with the addresses it announces."""
    template = pool.spec.template
    spec: Manifest = {
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": pool.spec.drain.deadline_seconds + GRACE_SPARE_S,
        "affinity": _on_node(shard.spec.node),
        "tolerations": [toleration(t.model_dump()) for t in pool.spec.placement.tolerations],
        "securityContext": _pod_security(template),
        "containers": [{**_container(pool, shard, advertise, control_host), "image": policy.image_of(pool.spec)}],
        "volumes": _volumes(template),
    }
    if template.priority_class_name:
        spec["priorityClassName"] = template.priority_class_name
    if policy.service_account:
        spec["serviceAccountName"] = policy.service_account
    if template.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in template.image_pull_secrets]
    metadata = _metadata(pool, shard, advertise, template_digest(pool, policy))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _metadata(pool: Pool, shard: Shard, advertise: tuple[str, ...], digest: str) -> Manifest:
    template = pool.spec.template
    return {
        "name": shard.name,
        "namespace": shard.namespace,
        "labels": {**template.labels, **labels(pool), LABEL_SHARD: shard.name, LABEL_SESSIONS: SESSIONS_IDLE},
        "annotations": {
            **template.annotations,
            ANNOTATION_TEMPLATE: digest,
            ANNOTATION_ADVERTISE: ",".join(advertise),
            ANNOTATION_PORTS: str(shard.ports),
            ANNOTATION_CONTROL_PORTS: str(shard.control),
            "pbx.io/node": shard.spec.node,
        },
        "ownerReferences": owned_by_shard(shard),
    }


def _on_node(node: str) -> Manifest:
    # Affinity, not nodeName: the scheduler stays in the way and checks resources and hostPorts.
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"nodeSelectorTerms": [term]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def toleration(fields: Manifest) -> Manifest:
    """A toleration of the pool as a pod has it: what is empty is left out."""
    return {key: value for key, value in fields.items() if value}


def needs_kernel(template: RelayTemplate) -> bool:
    """Whether the datapath may go into the kernel."""
    return template.datapath in KERNEL_DATAPATHS


def _pod_security(template: RelayTemplate) -> Manifest:
    security: Manifest = {"seccompProfile": {"type": "RuntimeDefault"}}
    if needs_kernel(template):
        # Capabilities of a container reach only root: there are no ambient ones in Kubernetes.
        return {**security, "runAsUser": 0, "runAsGroup": 0}
    uid = UNPRIVILEGED_UID
    return {**security, "runAsNonRoot": True, "runAsUser": uid, "runAsGroup": uid, "fsGroup": uid}


def _container_security(template: RelayTemplate) -> Manifest:
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    if needs_kernel(template):
        capabilities["add"] = list(CAPABILITIES)
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": capabilities,
    }


def _container(pool: Pool, shard: Shard, advertise: tuple[str, ...], control_host: str) -> Manifest:
    template = pool.spec.template
    grpc_port, http_port = shard.control.first, shard.control.first + 1
    resources = {key: value for key, value in template.resources.model_dump().items() if value}
    return {
        "name": "relay",
        "imagePullPolicy": template.image_pull_policy,
        "env": _environment(pool, shard, advertise, control_host),
        "ports": [
            _port("grpc", grpc_port, "TCP"),
            _port("http", http_port, "TCP"),
            *(_port(f"m{port}", port, "UDP") for port in markers(shard.ports)),
        ],
        # Green while draining: a restart would drop the calls. Readiness goes red then, by itself.
        "startupProbe": {**_probe("/healthz", http_port, control_host), "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {**_probe("/healthz", http_port, control_host), "periodSeconds": 10, "failureThreshold": 6},
        "readinessProbe": {**_probe("/readyz", http_port, control_host), "periodSeconds": 5, "failureThreshold": 2},
        "resources": resources,
        "securityContext": _container_security(template),
        "volumeMounts": _mounts(template),
    }


def _port(name: str, port: int, protocol: str) -> Manifest:
    return {"name": name, "containerPort": port, "hostPort": port, "protocol": protocol}


def _probe(path: str, port: int, host: str) -> Manifest:
    return {"httpGet": {"path": path, "port": port, "host": host}, "timeoutSeconds": 3}


def _environment(pool: Pool, shard: Shard, advertise: tuple[str, ...], control_host: str) -> list[Manifest]:
    template = pool.spec.template
    host = f"[{control_host}]" if ":" in control_host else control_host
    bind = ",".join("::" if ":" in address else "0.0.0.0" for address in advertise)  # noqa: S104 -- media come from anywhere
    grpc_address = f"{host}:{shard.control.first}"
    values = {
        "PBX_RELAY_ID": shard.name,
        "PBX_RELAY_SHARD_FILE": "/etc/podinfo/ports",
        "PBX_RELAY_PORTS": str(shard.ports),
        "PBX_RELAY_BIND": bind,
        "PBX_RELAY_ADVERTISE": ",".join(advertise),
        "PBX_RELAY_GRPC_ADVERTISE": grpc_address,
        "PBX_GRPC_LISTEN": grpc_address,
        "PBX_HTTP_LISTEN": f"{host}:{shard.control.first + 1}",
        "PBX_DATAPATH": template.datapath,
        "PBX_RELAY_PROBE_S": "10",
        "PBX_DATA": "/data",
        # In a claim, which all relays of the pool share, each writes and counts in a directory of its own.
        "PBX_RELAY_RECORDINGS": f"{RECORDINGS}/{shard.name}" if template.recordings.claim else RECORDINGS,
        "PBX_RELAY_RECORDINGS_MAX_MIB": str(int(mebibytes(template.recordings.size) * RECORDINGS_PART)),
        "PBX_RELAY_RECORDINGS_FREE_PERCENT": str(RECORDINGS_FREE_PERCENT),
        "PBX_LOG_LEVEL": template.log_level,
        "PBX_SHUTDOWN_S": str(max(1, pool.spec.drain.deadline_seconds)),
    }
    if template.grpc_key is not None:
        values["PBX_GRPC_KEY_FILE"] = GRPC_KEY
    secret = {"name": template.redis.name, "key": template.redis.key}
    return [
        *({"name": name, "value": value} for name, value in values.items()),
        {"name": "PBX_RELAY_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "PBX_REDIS_URL", "valueFrom": {"secretKeyRef": secret}},
        *_redis_password(template),
        *({"name": variable.name, "value": variable.value} for variable in template.env),
    ]


def _redis_password(template: RelayTemplate) -> list[Manifest]:
    if template.redis_password is None:
        return []
    secret = {"name": template.redis_password.name, "key": template.redis_password.key}
    return [{"name": "PBX_REDIS_PASSWORD", "valueFrom": {"secretKeyRef": secret}}]


def _volumes(template: RelayTemplate) -> list[Manifest]:
    field = {"path": "ports", "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION_PORTS}']"}}
    volumes: list[Manifest] = [
        {"name": "podinfo", "downwardAPI": {"items": [field]}},
        {"name": "data", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "recordings", **_recordings(template)},
    ]
    if template.grpc_key is not None:
        item = {"key": template.grpc_key.key, "path": posixpath.basename(GRPC_KEY)}
        secret = {"secretName": template.grpc_key.name, "defaultMode": 0o440, "items": [item]}
        volumes.append({"name": "grpc-key", "secret": secret})
    if needs_kernel(template):
        volumes.append({"name": "bpf", "hostPath": {"path": PIN_DIRECTORY, "type": "DirectoryOrCreate"}})
    return volumes


def _recordings(template: RelayTemplate) -> Manifest:
    if template.recordings.claim:
        return {"persistentVolumeClaim": {"claimName": template.recordings.claim}}
    return {"emptyDir": {"sizeLimit": template.recordings.size}}


def _mounts(template: RelayTemplate) -> list[Manifest]:
    mounts: list[Manifest] = [
        {"name": "podinfo", "mountPath": "/etc/podinfo", "readOnly": True},
        {"name": "data", "mountPath": "/data"},
        {"name": "recordings", "mountPath": RECORDINGS},
    ]
    if template.grpc_key is not None:
        mounts.append({"name": "grpc-key", "mountPath": posixpath.dirname(GRPC_KEY), "readOnly": True})
    if needs_kernel(template):
        mounts.append({"name": "bpf", "mountPath": PIN_DIRECTORY})
    return mounts

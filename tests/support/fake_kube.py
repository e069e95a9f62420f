"""A Kubernetes in memory: the operator's `Kube`, with resource versions, conflicts, faults and a kubelet.

What is simulated: optimistic concurrency, merge patches, the status subresource, uid preconditions, garbage
collection by owner, a scheduler that honours node affinity and refuses hostPort clashes, a kubelet that starts pods
and ends them within their grace period, and relays with calls. `on_write` is called after every write.
"""

from __future__ import annotations

import asyncio
import marshal
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pbx_operator.kube import ConflictError, Kinds, KubeError, NotFoundError
from pbx_operator.observed import Manifest, RelayReport

Manifests = list[Manifest]
Key = tuple[Kinds, str, str]
HOLDERS = (Kinds.SHARD, Kinds.POD)
"""What holds ports; writes of other kinds are not worth a look."""
START = datetime(2030, 1, 1, tzinfo=UTC)


def duplicate(body: Manifest) -> Manifest:
    """A deep copy of plain data, ten times as fast as `copy.deepcopy`."""
    copied: Manifest = marshal.loads(marshal.dumps(body))
    return copied


def merge(target: Manifest, patch: Manifest) -> Manifest:
    """RFC 7386."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = merge(before if isinstance(before, dict) else {}, value)
        else:
            result[key] = value
    return result


@dataclass
class FakeRelay:
    """The process in a relay's pod."""

    calls: int = 0
    is_draining: bool = False
    slots: int = 10


@dataclass
class FakeKube:
    """The cluster."""

    rng: random.Random = field(default_factory=lambda: random.Random(0))
    now: datetime = START
    objects: dict[Key, Manifest] = field(default_factory=dict)
    relays: dict[str, FakeRelay] = field(default_factory=dict)
    """By pod uid."""
    deadlines: dict[str, datetime] = field(default_factory=dict)
    """When the kubelet kills a terminating pod, by uid."""
    fault_rate: float = 0.0
    full: set[str] = field(default_factory=set)
    """Nodes on which the scheduler finds no room for a pod more."""
    refuse: Callable[[Kinds, Manifest], str] = lambda kind, body: ""
    """What admission says against a new object (403); empty: nothing."""
    deaf: bool = False
    """Whether relays answer nothing."""
    on_write: Callable[[], None] = lambda: None
    on_pod_delete: Callable[[Manifest, FakeRelay | None], None] = lambda pod, relay: None
    _version: int = 0

    # --- the Kube protocol

    async def list(self, kind: Kinds, namespace: str = "", selector: str = "") -> Manifests:
        """Copies, filtered."""
        await self._request()
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        return [
            duplicate(body)
            for (k, ns, _), body in self.objects.items()
            if k is kind and namespace in ("", ns) and _has_labels(body, wanted)
        ]

    async def get(self, kind: Kinds, namespace: str, name: str) -> Manifest:
        """A copy."""
        await self._request()
        return duplicate(self._find(kind, namespace, name))

    async def create(self, kind: Kinds, body: Manifest) -> Manifest:
        """Conflict where the name is taken."""
        lose = await self._request(write=True)
        key = (kind, body["metadata"].get("namespace", ""), body["metadata"]["name"])
        if key in self.objects:
            raise ConflictError(409, f"{key[2]} exists")
        if words := self.refuse(kind, body):
            raise KubeError(403, words)
        self.put(kind, body)
        self._answer(lose)
        return duplicate(self.objects[key])

    async def patch(self, kind: Kinds, namespace: str, name: str, patch: Manifest, *, status: bool = False) -> Manifest:
        """Conflict where the patch names another resource version."""
        lose = await self._request(write=True)
        body = self._find(kind, namespace, name)
        wanted = (patch.get("metadata") or {}).get("resourceVersion")
        if wanted and wanted != body["metadata"]["resourceVersion"]:
            raise ConflictError(409, "the object has been modified")
        change = {"status": patch["status"]} if status else {k: v for k, v in patch.items() if k != "status"}
        self._store((kind, namespace, name), merge(body, change))
        self._answer(lose)
        return duplicate(self._find(kind, namespace, name))

    async def replace(self, kind: Kinds, body: Manifest) -> Manifest:
        """Conflict where the resource version is not the present one."""
        lose = await self._request(write=True)
        meta = body["metadata"]
        present = self._find(kind, meta.get("namespace", ""), meta["name"])
        if meta.get("resourceVersion") != present["metadata"]["resourceVersion"]:
            raise ConflictError(409, "the object has been modified")
        self._store((kind, meta.get("namespace", ""), meta["name"]), duplicate(body))
        self._answer(lose)
        return duplicate(body)

    async def delete(self, kind: Kinds, namespace: str, name: str, uid: str, grace_s: int | None) -> None:
        """Pods take their grace period."""
        lose = await self._request(write=True)
        body = self._find(kind, namespace, name)
        if uid and body["metadata"]["uid"] != uid:
            raise ConflictError(409, "the uid is another one")
        if kind is Kinds.POD:
            self.on_pod_delete(body, self.relays.get(body["metadata"]["uid"]))
            self.end_pod(body, grace_s)
        else:
            self.remove((kind, namespace, name))
        self._answer(lose)

    # --- relays, by the address of their control port

    async def report(self, address: str) -> RelayReport | None:
        """What the relay there says."""
        await asyncio.sleep(0)
        relay = self._relay_at(address)
        if relay is None:
            return None
        free = 0 if relay.is_draining else relay.slots - relay.calls
        return RelayReport(relay.calls, free, relay.slots, relay.is_draining, 60.0 if relay.calls else None)

    async def drain(self, address: str, deadline_s: int) -> bool:
        """Tell it."""
        await asyncio.sleep(0)
        relay = self._relay_at(address)
        if relay is not None:
            relay.is_draining = True
        return relay is not None

    def _relay_at(self, address: str) -> FakeRelay | None:
        if self.deaf:
            return None
        for pod in self.of(Kinds.POD):
            node = self.objects.get((Kinds.NODE, "", pod["spec"].get("nodeName", "")))
            if node is None or not _is_ready(node) or "pbx.io/control-ports" not in pod["metadata"]["annotations"]:
                continue
            host = node["status"]["addresses"][0]["address"]
            if address == f"{host}:{pod['metadata']['annotations']['pbx.io/control-ports'].split('-')[0]}":
                return self.relays.get(pod["metadata"]["uid"])
        return None

    # --- what tests and the simulated cluster do

    def of(self, kind: Kinds) -> Manifests:
        """The objects of a kind."""
        return [body for (k, _, _), body in self.objects.items() if k is kind]

    def put(self, kind: Kinds, body: Manifest) -> Manifest:
        """Create or overwrite, as an administrator."""
        body = duplicate(body)
        meta = body["metadata"]
        key = (kind, meta.get("namespace", ""), meta["name"])
        meta.setdefault("uid", f"uid-{self._version}")
        meta.setdefault("annotations", {})
        meta.setdefault("creationTimestamp", self.text(self.now))
        meta["generation"] = 1
        self._store(key, body)
        return self.objects[key]

    def remove(self, key: Key) -> None:
        """Gone; what it owned goes too."""
        body = self.objects.pop(key, None)
        if body is None:
            return
        uid = body["metadata"]["uid"]
        self.relays.pop(uid, None)
        self.deadlines.pop(uid, None)
        for (kind, namespace, name), other in list(self.objects.items()):
            if any(owner["uid"] == uid for owner in other["metadata"].get("ownerReferences") or ()):
                if kind is Kinds.POD:
                    self.end_pod(other, None)
                else:
                    self.remove((kind, namespace, name))
        self.on_write()

    def end_pod(self, pod: Manifest, grace_s: int | None) -> None:
        """SIGTERM now, gone when its relay is empty or the grace period is over."""
        meta = pod["metadata"]
        key = (Kinds.POD, meta["namespace"], meta["name"])
        if grace_s == 0:
            self.remove(key)
            return
        grace = pod["spec"]["terminationGracePeriodSeconds"] if grace_s is None else grace_s
        until = self.now + timedelta(seconds=grace)
        self.deadlines[meta["uid"]] = min(until, self.deadlines.get(meta["uid"], until))
        if "deletionTimestamp" not in meta:
            ends = {"deletionTimestamp": self.text(until), "deletionGracePeriodSeconds": grace}
            self._store(key, merge(pod, {"metadata": ends}))
        relay = self.relays.get(meta["uid"])
        if relay is not None:
            relay.is_draining = True

    def tick(self, seconds: float = 0.0) -> None:
        """Time passes; scheduler and kubelets do their work."""
        self.now += timedelta(seconds=seconds)
        for pod in self.of(Kinds.POD):
            self._end_or_start(pod)

    def _end_or_start(self, pod: Manifest) -> None:
        meta = pod["metadata"]
        key = (Kinds.POD, meta["namespace"], meta["name"])
        node = self.objects.get((Kinds.NODE, "", pod["spec"].get("nodeName", "")))
        if "nodeName" in pod["spec"] and (node is None or not _is_ready(node)):
            return  # nobody there to do anything
        relay = self.relays.get(meta["uid"])
        if "deletionTimestamp" in meta:
            if relay is None or relay.calls == 0 or self.now >= self.deadlines[meta["uid"]]:
                self.remove(key)
        elif "nodeName" not in pod["spec"]:
            self._schedule(key, pod)
        elif relay is None:
            self.relays[meta["uid"]] = FakeRelay()
            state = [{"name": "relay", "restartCount": 0, "state": {"running": {}}}]
            ready = [{"type": "Ready", "status": "True"}]
            self._store(
                key, merge(pod, {"status": {"phase": "Running", "containerStatuses": state, "conditions": ready}})
            )

    def _schedule(self, key: Key, pod: Manifest) -> None:
        if "affinity" not in pod["spec"]:
            return  # it stands for a relay without a place, and there is no node at all
        terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        field = terms["nodeSelectorTerms"][0]["matchFields"][0]
        if field["operator"] == "NotIn":
            return  # it stands for a relay without a place; nobody adds nodes here but the test
        name = field["values"][0]
        node = self.objects.get((Kinds.NODE, "", name))
        if node is None or not _is_ready(node) or node["spec"].get("unschedulable"):
            return
        if name in self.full:
            self._refuse(key, pod, "0/3 nodes are available: 1 Insufficient cpu")
            return
        held = {
            port for other in self.of(Kinds.POD) if other["spec"].get("nodeName") == name for port in host_ports(other)
        }
        if held & host_ports(pod):
            self._refuse(key, pod, "node(s) didn't have free ports")
            return
        self._store(key, merge(pod, {"spec": {"nodeName": name}}))

    def _refuse(self, key: Key, pod: Manifest, message: str) -> None:
        earlier = (pod.get("status") or {}).get("conditions") or [{"lastTransitionTime": self.text(self.now)}]
        trouble = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                   "lastTransitionTime": earlier[0]["lastTransitionTime"]}  # fmt: skip
        if earlier != [trouble]:
            self._store(key, merge(pod, {"status": {"conditions": [trouble]}}))

    def text(self, moment: datetime) -> str:
        """As Kubernetes writes times."""
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _store(self, key: Key, body: Manifest) -> None:
        self._version += 1
        before = self.objects.get(key)
        if before is not None and before.get("spec") != body.get("spec"):
            body["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = body
        if key[0] in HOLDERS:
            self.on_write()

    def _find(self, kind: Kinds, namespace: str, name: str) -> Manifest:
        try:
            return self.objects[kind, namespace, name]
        except KeyError:
            raise NotFoundError(404, f"{name} not found") from None

    async def _request(self, write: bool = False) -> bool:
        """Let others run; fail now, or (True) after the write: the answer that got lost."""
        await asyncio.sleep(0)
        if self.fault_rate and self.rng.random() < self.fault_rate:
            if write and self.rng.random() < 0.5:
                return True
            raise KubeError(self.rng.choice([0, 429, 500, 503]), "injected")
        return False

    @staticmethod
    def _answer(lose: bool) -> None:
        if lose:
            raise KubeError(0, "injected: the answer was lost")


def host_ports(pod: Manifest) -> set[tuple[int, str]]:
    """What a pod declares."""
    ports = (p for c in pod["spec"]["containers"] for p in c.get("ports", ()))
    return {(p["hostPort"], p["protocol"]) for p in ports if "hostPort" in p}


def _has_labels(body: Manifest, wanted: dict[str, str]) -> bool:
    labels = body["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _is_ready(node: Manifest) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])


def node(name: str, number: int, zone: str = "a", **spec: Any) -> Manifest:
    """A ready node with an ExternalIP."""
    return {
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": spec,
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": f"10.0.0.{number}"},
                {"type": "ExternalIP", "address": f"192.0.2.{number}"},
            ],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"}],
        },
    }


def pool(name: str = "default", **spec: Any) -> Manifest:
    """A pool of small shards (10 calls)."""
    template = {"image": "relay:1", "redis": {"name": "pbx-redis"}}
    body = {"replicas": 2, "slotsPerShard": 10, "ports": {"first": 30000, "last": 30399}, "template": template}
    return {"metadata": {"name": name, "namespace": "pbx", "uid": f"pool-{name}"}, "spec": {**body, **spec}}

"""The operator's reconciler over a fake cluster, and the invariants that must hold after every write."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry

from pbx_operator.kube import Kinds, Kube, KubeError
from pbx_operator.observe import Observer
from pbx_operator.observed import Manifest, timestamp
from pbx_operator.plan import Action
from pbx_operator.policy import Policy
from pbx_operator.ports import Block
from pbx_operator.reconcile import Reconciler
from support.fake_kube import FakeKube, FakeRelay, host_ports, node, pool


class QuietObserver(Observer):
    """Counts instead of logging: a sequence acts thousands of times."""

    def acted(self, action: Action) -> None:
        """Counted."""
        self._actions.labels(type(action).__name__).inc()

    def raced(self, action: Action, error: KubeError) -> None:
        """Counted."""
        self._races.inc()

    def failed(self, what: str, error: KubeError) -> None:
        """Counted."""
        self._failures.labels(what).inc()


class Rig:
    """A cluster, an operator, and a watchful eye."""

    door: ClassVar[Callable[[FakeKube], Kube]] = staticmethod(lambda kube: kube)
    """How the operator gets to the cluster: directly, or over HTTP where a test says so."""
    policy = Policy(images=("relay",))

    def __init__(self, seed: int = 0, nodes: int = 3, **spec: Any) -> None:
        self.kube = FakeKube(rng=random.Random(seed))
        for number in range(1, nodes + 1):
            self.kube.put(Kinds.NODE, node(f"node-{number}", number, zone="ab"[number % 2]))
        self.kube.put(Kinds.POOL, pool(**spec))
        self._client = type(self).door(self.kube)
        self.operator = self.new_operator()
        self.places: dict[str, tuple[str, str, str]] = {}
        self.dropped_early: list[str] = []
        self.kube.on_write = self.check
        self.kube.on_pod_delete = self._pod_deleted

    def new_operator(self) -> Reconciler:
        """A fresh process: it knows nothing."""
        return Reconciler(
            self._client, self.kube, QuietObserver(CollectorRegistry()), lambda: self.kube.now, self.policy
        )

    async def settle(self, passes: int = 12, seconds: float = 1.0) -> None:
        """Passes and kubelet ticks in turn."""
        for _ in range(passes):
            await self.operator.run_once()
            self.kube.tick(seconds)
        await self.operator.run_once()

    # --- shortcuts

    @property
    def pool(self) -> Manifest:
        """The pool."""
        return self.kube.objects[Kinds.POOL, "pbx", "default"]

    def change(self, **spec: Any) -> None:
        """Edit the pool's spec, as a person does."""
        body = self.pool
        self.kube.put(Kinds.POOL, {**body, "spec": {**body["spec"], **spec}})

    def shards(self) -> dict[str, Manifest]:
        """Shards by name."""
        return {body["metadata"]["name"]: body for body in self.kube.of(Kinds.SHARD)}

    def pods(self) -> dict[str, Manifest]:
        """Pods by name."""
        return {body["metadata"]["name"]: body for body in self.kube.of(Kinds.POD)}

    def relay_pods(self) -> dict[str, Manifest]:
        """Pods by name, without those that stand for relays without a place."""
        return {name: body for name, body in self.pods().items() if "pbx.io/ports" in body["metadata"]["annotations"]}

    def wanted_pods(self) -> list[str]:
        """Names of the pods that stand for relays without a place."""
        return sorted(set(self.pods()) - set(self.relay_pods()))

    def relay(self, name: str) -> FakeRelay:
        """The relay in the pod of a shard."""
        return self.kube.relays[self.pods()[name]["metadata"]["uid"]]

    def condition(self, kind: str) -> Manifest:
        """A condition of the pool."""
        return next(c for c in self.pool["status"]["conditions"] if c["type"] == kind)

    def events(self) -> list[str]:
        """Reasons of the events told."""
        return [body["reason"] for body in self.kube.of(Kinds.EVENT)]

    # --- invariants

    def check(self) -> None:
        """No overlap on a node, no shard that moved, one upgrade at a time."""
        self._no_overlap()
        self._never_recomputed()
        nodes = {body["metadata"]["name"] for body in self.kube.of(Kinds.NODE)}
        here = [body["spec"] for body in self.shards().values() if body["spec"]["node"] in nodes]
        upgrades = [spec for spec in here if spec.get("drain", {}).get("reason") == "Upgrade"]
        assert len(upgrades) <= 1, "two upgrades at a time"

    def _no_overlap(self) -> None:
        held: dict[str, dict[str, tuple[Block, Block]]] = {}
        for name, body in self.shards().items():
            spec = body["spec"]
            blocks = _range(spec["ports"]), _range(spec["controlPorts"])
            assert blocks[0].first % 8 == 0
            held.setdefault(spec["node"], {})[name] = blocks
        for name, body in self.relay_pods().items():
            notes = body["metadata"]["annotations"]
            blocks = Block.parse(notes["pbx.io/ports"]), Block.parse(notes["pbx.io/control-ports"])
            here = held.setdefault(notes["pbx.io/node"], {})
            assert here.get(name, blocks) == blocks, f"{name}: pod and shard disagree"
            here[name] = blocks
        for where, blocks_by_name in held.items():
            for (a, one), (b, two) in itertools.combinations(blocks_by_name.items(), 2):
                assert not one[0].overlaps(two[0]), f"media ports of {a} and {b} overlap on {where}"
                assert not one[1].overlaps(two[1]), f"control ports of {a} and {b} overlap on {where}"
        for one_pod, two_pod in itertools.combinations(self.relay_pods().values(), 2):
            if one_pod["metadata"]["annotations"]["pbx.io/node"] == two_pod["metadata"]["annotations"]["pbx.io/node"]:
                assert not host_ports(one_pod) & host_ports(two_pod)

    def _never_recomputed(self) -> None:
        for name, body in self.shards().items():
            spec = body["spec"]
            place = spec["node"], str(_range(spec["ports"])), str(_range(spec["controlPorts"]))
            uid = body["metadata"]["uid"]
            assert self.places.setdefault(uid, place) == place, f"{name} was recomputed"

    def _pod_deleted(self, pod: Manifest, relay: FakeRelay | None) -> None:
        """The operator deletes a pod: was it allowed to?"""
        if relay is None or relay.calls == 0:
            return
        if (Kinds.NODE, "", pod["metadata"]["annotations"]["pbx.io/node"]) not in self.kube.objects:
            return  # its calls went with the node
        shard = self.shards().get(pod["metadata"]["name"])
        drain = shard["spec"].get("drain") if shard else None
        deadline = timestamp(drain["deadline"]) if drain else None
        if deadline is None or self.kube.now < deadline:
            self.dropped_early.append(pod["metadata"]["name"])
        assert not self.dropped_early, f"deleted with calls before its deadline: {self.dropped_early}"


def _range(fields: Manifest) -> Block:
    return Block(fields["first"], fields["last"])

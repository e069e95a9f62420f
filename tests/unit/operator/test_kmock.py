"""The operator over HTTP: the API client, and kopf's watches, against kmock's emulated API server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import kmock as kmock_module
import kopf
import pytest
from prometheus_client import CollectorRegistry

from pbx_operator.apply import ApiServer
from pbx_operator.clients.relay import FakeRelayControl
from pbx_operator.handlers import wake
from pbx_operator.kube import ConflictError, Kinds, KubeError, NotFoundError
from pbx_operator.observed import RelayReport
from pbx_operator.policy import Policy
from pbx_operator.reconcile import Reconciler
from support.fake_kube import node, pool
from support.operator_rig import QuietObserver

Emulator = kmock_module.KubernetesEmulator
POOLS, SHARDS, PODS, NODES = "pbx.io/v1alpha1/mediarelaypools", "pbx.io/v1alpha1/relayshards", "v1/pods", "v1/nodes"
INFO = {POOLS: "MediaRelayPool", SHARDS: "RelayShard", PODS: "Pod", NODES: "Node"}


@pytest.fixture
def cluster(kmock: Emulator) -> Emulator:
    for resource, kind in INFO.items():
        namespaced = resource != NODES
        plural = resource.rsplit("/", 1)[1]
        verbs = {"get", "list", "watch", "create", "patch", "update", "delete"}
        kmock.resources[resource] = {"kind": kind, "singular": plural[:-1], "namespaced": namespaced, "verbs": verbs}
    for resource in ("v1/events", "policy/v1/poddisruptionbudgets", "coordination.k8s.io/v1/leases", "v1/namespaces"):
        kmock.resources[resource] = {"namespaced": resource != "v1/namespaces", "verbs": {"get", "list", "create"}}
    for number in (1, 2):
        kmock.objects[NODES, None, f"node-{number}"] = node(f"node-{number}", number)
    kmock.objects[POOLS, "pbx", "default"] = pool(replicas=2)
    return kmock


@pytest.fixture
async def server(cluster: Emulator) -> AsyncIterator[ApiServer]:
    async with ApiServer(str(cluster.url), lambda: {"Authorization": "Bearer t"}) as api:
        yield api


def named(cluster: Emulator, resource: str) -> dict[str, Any]:
    group, version, plural = (["", *resource.split("/")])[-3:]
    return {
        name: obj for (res, _, name), obj in cluster.objects.items()
        if (res.group or "", res.version, res.plural) == (group, version, plural) and not obj.deleted
    }  # fmt: skip


def kubelet(cluster: Emulator, relays: FakeRelayControl) -> None:
    """Bind and start every pod."""
    for pod in named(cluster, PODS).values():
        where = pod["metadata"]["annotations"]["pbx.io/node"]
        control = pod["metadata"]["annotations"]["pbx.io/control-ports"].split("-")[0]
        relays.reports.setdefault(f"10.0.0.{where[-1]}:{control}", RelayReport(0, 10, 10, False))
        running = [{"name": "relay", "state": {"running": {}}}]
        ready = [{"type": "Ready", "status": "True"}]
        pod.patch({"spec": {"nodeName": where},
                   "status": {"phase": "Running", "containerStatuses": running, "conditions": ready}})  # fmt: skip


def operator(server: ApiServer, relays: FakeRelayControl) -> Reconciler:
    return Reconciler(
        server, relays, QuietObserver(CollectorRegistry()), lambda: datetime.now(UTC), Policy(images=("relay",))
    )


async def settle(cluster: Emulator, reconciler: Reconciler, relays: FakeRelayControl, passes: int = 6) -> None:
    for _ in range(passes):
        await reconciler.run_once()
        kubelet(cluster, relays)
    await reconciler.run_once()


async def test_scale_out_and_in_over_http(cluster: Emulator, server: ApiServer) -> None:
    relays = FakeRelayControl()
    await settle(cluster, operator(server, relays), relays)
    first = {name: dict(body["spec"]) for name, body in named(cluster, SHARDS).items()}
    assert len(first) == 2
    cluster.objects[POOLS, "pbx", "default"].patch({"spec": {"replicas": 5}})
    await settle(cluster, operator(server, relays), relays)
    five = {name: dict(body["spec"]) for name, body in named(cluster, SHARDS).items()}
    assert len(five) == 5
    assert first.items() <= five.items()
    busy = sorted(relays.reports)[:3]
    for address in busy:
        relays.reports[address] = RelayReport(4, 6, 10, False)
    cluster.objects[POOLS, "pbx", "default"].patch({"spec": {"replicas": 3}})
    await settle(cluster, operator(server, relays), relays)
    left = named(cluster, PODS)
    assert len(left) == 3
    assert set(relays.drained).isdisjoint(busy), "the emptiest went"
    status = cluster.objects[POOLS, "pbx", "default"]["status"]
    assert (status["readyReplicas"], status["calls"]) == (3, 12)


async def test_the_client_tells_apart_what_went_wrong(cluster: Emulator, server: ApiServer) -> None:
    with pytest.raises(NotFoundError):
        await server.get(Kinds.POD, "pbx", "nobody")
    body = {"metadata": {"name": "one", "namespace": "pbx"}}
    await server.create(Kinds.POD, body)
    with pytest.raises(ConflictError):
        await server.create(Kinds.POD, body)
    await server.delete(Kinds.POD, "pbx", "one", "uid-1", 7)
    sent = cluster["delete"][-1].data
    assert (sent["preconditions"], sent["gracePeriodSeconds"]) == ({"uid": "uid-1"}, 7)
    async with ApiServer("http://127.0.0.1:1", dict) as dead:
        with pytest.raises(KubeError) as caught:
            await dead.list(Kinds.POD)
    assert caught.value.status == 0


async def test_pages_are_put_together(cluster: Emulator, server: ApiServer) -> None:
    pages = [
        {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]},
        {"metadata": {}, "items": [{"metadata": {"name": "b"}}]},
    ]
    answers = iter(pages)
    cluster["get /api/v1/nodes"] << (lambda: next(answers))
    assert [body["metadata"]["name"] for body in await server.list(Kinds.NODE)] == ["a", "b"]


async def test_a_failing_api_server_loses_nothing(cluster: Emulator, server: ApiServer) -> None:
    relays = FakeRelayControl()

    def fail() -> Any:
        raise RuntimeError("injected")

    reconciler = operator(server, relays)
    cluster["post /api/v1/namespaces/pbx/pods"] << fail
    assert await reconciler.run_once() is True  # shards
    assert await reconciler.run_once() is False  # no pod can be made
    assert len(named(cluster, SHARDS)) == 2
    before = {name: dict(body["spec"]) for name, body in named(cluster, SHARDS).items()}
    await reconciler.run_once()
    assert before == {name: dict(body["spec"]) for name, body in named(cluster, SHARDS).items()}


async def test_kopfs_watches_wake_the_reconciler(cluster: Emulator) -> None:
    woken = asyncio.Event()
    registry = kopf.OperatorRegistry()
    wake.register(registry, woken.set)

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=str(cluster.url))

    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(
        kopf.operator(registry=registry, clusterwide=True, standalone=True, stop_flag=stop, ready_flag=ready)
    )
    async with asyncio.timeout(20):
        await ready.wait()
        await woken.wait()  # what was there already
        async with ApiServer(str(cluster.url), dict) as api:
            for kind, namespace, name in ((Kinds.POOL, "pbx", "default"), (Kinds.NODE, "", "node-1")):
                await asyncio.sleep(0.3)
                woken.clear()
                await api.patch(kind, namespace, name, {"spec": {"unschedulable": True}})
                await woken.wait()
        stop.set()
        await task

"""What the operator does, one behaviour after the other: in memory, and over HTTP through kmock's server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import kmock as kmock_module
import pytest

from pbx_operator.apply import ApiServer
from pbx_operator.kube import Kinds, Kube
from support.fake_kube import FakeKube, merge, node
from support.kube_over_http import Front
from support.operator_rig import Rig


@pytest.fixture(autouse=True, params=["memory", "http"])
async def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Every behaviour goes through both doors."""
    if request.param == "memory":
        yield
        return
    async with kmock_module.RawHandler() as handler, kmock_module.Server(handler) as server:
        front = Front()
        handler[re.compile("/.*")] << front.answer
        async with ApiServer(str(server.url), lambda: {"Authorization": "Bearer t"}) as api:

            def through_http(kube: FakeKube) -> Kube:
                front.kube = kube
                return api

            monkeypatch.setattr(Rig, "door", staticmethod(through_http))
            yield
        assert front.requests, "the operator did not come through this door"


def places(rig: Rig) -> dict[str, tuple[str, int]]:
    return {name: (body["spec"]["node"], body["spec"]["ports"]["first"]) for name, body in rig.shards().items()}


async def test_two_to_five_to_three_with_live_calls() -> None:
    rig = Rig(replicas=2, drain={"deadlineSeconds": 600})
    await rig.settle()
    first_two = places(rig)
    rig.change(replicas=5)
    await rig.settle()
    five = places(rig)
    assert first_two.items() <= five.items()
    assert len(five) == 5
    calls = dict(zip(sorted(five), (4, 1, 7, 2, 5), strict=True))
    for name, count in calls.items():
        rig.relay(name).calls = count
    rig.change(replicas=3)
    await rig.settle()
    draining = {name for name, body in rig.shards().items() if "drain" in body["spec"]}
    assert draining == {name for name, count in calls.items() if count in (1, 2)}, "the emptiest go"
    assert all(rig.relay(name).is_draining for name in draining)
    assert len(rig.pods()) == 5, "with calls, before the deadline: none is deleted"
    assert rig.pool["status"]["replicas"] == 3
    one, other = sorted(draining, key=lambda name: calls[name])
    rig.relay(one).calls = 0
    await rig.settle()
    assert one not in rig.shards()
    assert other in rig.pods()
    rig.kube.tick(600)
    await rig.settle()
    assert places(rig).items() <= five.items(), "survivors keep node and ports"
    assert set(rig.shards()) == set(five) - draining
    assert "CallsDropped" in rig.events()


async def test_relays_are_spread_over_zones_and_nodes() -> None:
    rig = Rig(replicas=4, nodes=4)
    await rig.settle()
    assert sorted(where for where, _ in places(rig).values()) == ["node-1", "node-2", "node-3", "node-4"]


async def test_labels_and_taints_are_respected() -> None:
    rig = Rig(replicas=2, nodes=0, placement={"nodeSelector": {"media": "yes"}})
    tainted = node("tainted", 2, taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
    for body in (node("plain", 1), merge(tainted, {"metadata": {"labels": {"media": "yes"}}})):
        rig.kube.put(Kinds.NODE, body)
    await rig.settle()
    assert not rig.shards()
    assert rig.condition("Placed")["message"] == (
        "2 relays missing: no node has room for a relay "
        "(2 nodes: 1 tainted k=v:NoSchedule, 1 without the label media=yes)"
    )
    tolerated = {"nodeSelector": {"media": "yes"}, "tolerations": [{"key": "k", "operator": "Exists"}]}
    rig.change(placement=tolerated)
    await rig.settle()
    assert {where for where, _ in places(rig).values()} == {"tainted"}


async def test_a_cordoned_node_is_left_and_replaced_elsewhere() -> None:
    rig = Rig(replicas=3)
    await rig.settle()
    victim = next(name for name, (where, _) in places(rig).items() if where == "node-1")
    rig.relay(victim).calls = 3
    rig.kube.put(Kinds.NODE, merge(rig.kube.objects[Kinds.NODE, "", "node-1"], {"spec": {"unschedulable": True}}))
    await rig.settle()
    assert rig.shards()[victim]["spec"]["drain"]["reason"] == "NodeDrain"
    assert victim in rig.pods(), "it waits for its calls"
    assert rig.pool["status"]["readyReplicas"] == 3, "the replacement came at once"
    assert rig.pods()[victim]["metadata"]["labels"]["pbx.io/sessions"] == "active", "the budget refuses its eviction"
    rig.relay(victim).calls = 0
    await rig.settle()
    assert victim not in rig.shards()


async def test_a_lost_node_is_replaced_and_counts_again_when_it_returns() -> None:
    rig = Rig(replicas=2, nodeLostAfterSeconds=60)
    await rig.settle()
    body = rig.kube.objects[Kinds.NODE, "", "node-1"]
    away = [{"type": "Ready", "status": "Unknown", "lastTransitionTime": rig.kube.text(rig.kube.now)}]
    rig.kube.put(Kinds.NODE, merge(body, {"status": {"conditions": away}}))
    await rig.settle(3)
    assert len(rig.shards()) == 2, "patience first"
    rig.kube.tick(60)
    await rig.settle()
    assert len(rig.shards()) == 3
    rig.kube.put(Kinds.NODE, body)
    await rig.settle()
    assert len(rig.shards()) == 2, "one too many again: the emptiest went"


async def test_a_deleted_node_takes_its_shards_along() -> None:
    rig = Rig(replicas=3)
    await rig.settle()
    rig.kube.remove((Kinds.NODE, "", "node-1"))
    await rig.settle()
    assert all(where != "node-1" for where, _ in places(rig).values())
    assert rig.pool["status"]["readyReplicas"] == 3


async def test_an_upgrade_replaces_one_relay_at_a_time_on_its_place() -> None:
    rig = Rig(replicas=3)
    await rig.settle()
    before = places(rig)
    for number, name in enumerate(sorted(before)):
        rig.relay(name).calls = number + 1
    rig.change(template={"image": "relay:2", "redis": {"name": "pbx-redis"}})
    await rig.settle()
    drained = [name for name, body in rig.shards().items() if "drain" in body["spec"]]
    assert drained == sorted(before)[:1], "the emptiest first, and only one"
    assert rig.pool["status"]["readyReplicas"] == 2
    for _ in before:
        for relay in rig.kube.relays.values():
            relay.calls = 0
        await rig.settle()
    assert places(rig) == before, "no surge, no new ports"
    assert {pod["spec"]["containers"][0]["image"] for pod in rig.pods().values()} == {"relay:2"}
    assert rig.condition("Progressing")["reason"] == "Settled"


async def test_scaling_alone_replaces_no_pod() -> None:
    rig = Rig(replicas=2)
    await rig.settle()
    uids = {name: pod["metadata"]["uid"] for name, pod in rig.pods().items()}
    rig.change(replicas=3)
    await rig.settle()
    assert uids.items() <= {name: pod["metadata"]["uid"] for name, pod in rig.pods().items()}.items()


async def test_a_broken_template_can_be_mended() -> None:
    rig = Rig(replicas=2)
    await rig.settle()
    for pod in list(rig.pods().values()):
        rig.kube.put(Kinds.POD, merge(pod, {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}))
    rig.change(template={"image": "relay:3", "redis": {"name": "pbx-redis"}})
    await rig.settle(40)
    assert {pod["spec"]["containers"][0]["image"] for pod in rig.pods().values()} == {"relay:3"}


async def test_a_pod_that_vanished_comes_back_on_its_place() -> None:
    rig = Rig(replicas=2)
    await rig.settle()
    before = places(rig)
    name = next(iter(before))
    rig.kube.remove((Kinds.POD, "pbx", name))
    await rig.settle()
    assert places(rig) == before
    assert name in rig.pods()


async def test_ports_of_a_pod_without_shard_stay_taken() -> None:
    rig = Rig(replicas=1, nodes=1)
    await rig.settle()
    name = next(iter(rig.shards()))
    rig.relay(name).calls = 2
    rig.kube.remove((Kinds.SHARD, "pbx", name))
    await rig.settle(3)
    assert name in rig.pods(), "it drains by itself"
    (fresh,) = rig.shards().values()
    assert fresh["spec"]["ports"]["first"] == 30080


async def test_without_an_address_no_pod_and_a_condition_that_helps() -> None:
    rig = Rig(replicas=1, nodes=0)
    body = node("node-1", 1)
    body["status"]["addresses"] = [{"type": "InternalIP", "address": "10.0.0.1"}]
    rig.kube.put(Kinds.NODE, body)
    await rig.settle()
    assert not rig.pods()
    condition = rig.condition("AddressKnown")
    assert condition["status"] == "False"
    assert "pbx.io/advertise" in condition["message"]
    rig.kube.put(Kinds.NODE, merge(body, {"metadata": {"annotations": {"pbx.io/advertise": "198.51.100.7"}}}))
    await rig.settle()
    (pod,) = rig.pods().values()
    environment = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}
    assert environment["PBX_RELAY_ADVERTISE"] == "198.51.100.7"
    assert rig.condition("AddressKnown")["status"] == "True"


async def test_a_deaf_relay_is_not_deleted_before_its_deadline() -> None:
    rig = Rig(replicas=1, drain={"deadlineSeconds": 300})
    await rig.settle()
    (name,) = rig.shards()
    rig.relay(name).calls = 1
    rig.kube.deaf = True
    rig.change(replicas=0)
    await rig.settle()
    assert name in rig.pods()
    assert "does not answer" in rig.shards()[name]["status"]["message"]
    rig.kube.tick(300)
    await rig.settle()
    assert name not in rig.shards()


async def test_an_invalid_spec_changes_nothing_and_is_told() -> None:
    rig = Rig(replicas=2)
    await rig.settle()
    before = places(rig)
    rig.change(ports={"first": 30000, "last": 30007})
    await rig.settle()
    assert places(rig) == before
    assert "hold no shard" in rig.condition("Valid")["message"]


async def test_autoscale_keeps_a_buffer_and_shrinks_slowly() -> None:
    policy = {"minReplicas": 1, "maxReplicas": 4, "bufferCalls": 8, "scaleInAfterSeconds": 300}
    rig = Rig(replicas=1, autoscale=policy)
    await rig.settle()
    assert rig.pool["spec"]["replicas"] == 1
    (first,) = rig.shards()
    rig.relay(first).calls = 5
    await rig.settle()
    assert rig.pool["spec"]["replicas"] == 2
    rig.relay(first).calls = 0
    await rig.settle(3)
    assert rig.pool["spec"]["replicas"] == 2, "a surplus has to last"
    rig.operator = rig.new_operator()
    rig.kube.tick(300)
    await rig.settle()
    assert rig.pool["spec"]["replicas"] == 1, "the clock survived the restart"


async def test_two_pools_share_a_node_without_overlap() -> None:
    rig = Rig(replicas=2, nodes=1)
    other = dict(rig.pool["spec"], slotsPerShard=7)
    rig.kube.put(Kinds.POOL, {"metadata": {"name": "other", "namespace": "pbx", "uid": "pool-other"}, "spec": other})
    await rig.settle()
    assert len(rig.pods()) == 4  # overlaps would have failed in Rig.check


async def test_the_budget_protects_relays_with_calls_only() -> None:
    rig = Rig(replicas=1)
    await rig.settle()
    (budget,) = rig.kube.of(Kinds.BUDGET)
    assert budget["spec"]["selector"]["matchLabels"] == {"pbx.io/pool": "default", "pbx.io/sessions": "active"}
    (name,) = rig.pods()
    assert rig.pods()[name]["metadata"]["labels"]["pbx.io/sessions"] == "idle"
    rig.relay(name).calls = 1
    await rig.settle(1)
    assert rig.pods()[name]["metadata"]["labels"]["pbx.io/sessions"] == "active"


async def test_a_hostport_held_by_a_stranger_is_told() -> None:
    rig = Rig(replicas=1, nodes=1)
    container = {"name": "x", "ports": [{"hostPort": 30016, "protocol": "UDP"}]}
    stranger = {"metadata": {"name": "stranger", "namespace": "other", "annotations": {
        "pbx.io/ports": "1-1", "pbx.io/control-ports": "2-2", "pbx.io/node": "elsewhere"}},
        "spec": {"nodeName": "node-1", "containers": [container]}}  # fmt: skip
    rig.kube.put(Kinds.POD, stranger)
    rig.kube.on_write = lambda: None
    await rig.settle()
    (shard,) = rig.shards().values()
    assert shard["status"]["phase"] == "Pending"
    assert "free ports" in shard["status"]["message"]


async def test_a_restart_changes_nothing() -> None:
    rig = Rig(replicas=4)
    await rig.settle()
    before = {key: body["metadata"]["resourceVersion"] for key, body in rig.kube.objects.items()}
    rig.operator = rig.new_operator()
    await rig.operator.run_once()
    assert before == {key: body["metadata"]["resourceVersion"] for key, body in rig.kube.objects.items()}

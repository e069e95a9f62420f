"""What the operator does where Kubernetes refuses: tells it in the API's words, goes elsewhere, asks for nodes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pbx_operator.kube import Kinds
from pbx_operator.observed import REFUSED_AFTER_S, Manifest
from pbx_operator.plan import WANTED_MAX
from pbx_operator.policy import Policy
from support.fake_kube import merge, node
from support.operator_rig import Rig

RESTRICTED = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'


def messages(rig: Rig, reason: str) -> list[str]:
    return [body["message"] for body in rig.kube.of(Kinds.EVENT) if body["reason"] == reason]


def nodes_of(rig: Rig) -> dict[str, str]:
    return {name: body["spec"]["node"] for name, body in rig.shards().items()}


@pytest.mark.parametrize(
    ("kind", "what"), [(Kinds.POD, "creating the pod default-"), (Kinds.SHARD, "creating the shard default-"),
                       (Kinds.BUDGET, "creating the disruption budget")]
)  # fmt: skip
async def test_what_the_api_refuses_is_a_condition_and_one_warning_with_its_words(kind: Kinds, what: str) -> None:
    rig = Rig(replicas=1)
    rig.kube.refuse = lambda refused, body: RESTRICTED if refused is kind else ""
    await rig.settle()
    condition = rig.condition("Reconciled")
    assert (condition["status"], condition["reason"]) == ("False", "Refused")
    assert what in condition["message"]
    assert RESTRICTED in condition["message"]
    assert [RESTRICTED in message for message in messages(rig, "Refused")] == [True], "told once, not in each pass"
    rig.kube.refuse = lambda refused, body: ""
    await rig.settle()
    assert rig.condition("Reconciled")["status"] == "True"
    assert rig.pool["status"]["readyReplicas"] == 1


async def test_a_shard_says_why_it_has_no_pod() -> None:
    rig = Rig(replicas=1)
    rig.kube.refuse = lambda kind, body: "exceeded quota: media" if kind is Kinds.POD else ""
    await rig.settle()
    (shard,) = rig.shards().values()
    assert shard["status"]["message"].endswith("exceeded quota: media")


async def test_a_relay_that_the_scheduler_refuses_is_placed_elsewhere_and_stays_there() -> None:
    rig = Rig(replicas=2, nodes=3)
    rig.kube.full = {"node-1"}
    await rig.settle(3)
    (stuck,) = [name for name, where in nodes_of(rig).items() if where == "node-1"]
    assert "Insufficient cpu" in rig.shards()[stuck]["status"]["message"]
    rig.kube.tick(REFUSED_AFTER_S)
    await rig.settle(60)
    assert sorted(nodes_of(rig).values()) == ["node-2", "node-3"]
    assert rig.pool["status"]["readyReplicas"] == 2
    (told,) = [text for text in messages(rig, "RelayDraining") if "Refused" in text]
    assert "Insufficient cpu" in told
    assert [entry["node"] for entry in rig.pool["status"]["refusedNodes"]] == ["node-1"]
    rig.change(replicas=3)
    await rig.settle()
    assert "node-1" not in nodes_of(rig).values(), "left alone for a while"


async def test_a_template_that_no_node_holds_costs_one_relay_not_all() -> None:
    """The first one that is replaced is refused, and moved from node to node; the others keep what they run."""
    rig = Rig(replicas=3, nodes=4)
    await rig.settle()
    for relay in rig.kube.relays.values():
        relay.calls = 0
    rig.kube.full = {f"node-{number}" for number in (1, 2, 3, 4)}
    rig.change(template={"image": "relay:2", "redis": {"name": "pbx-redis"}})
    for _ in range(8):
        rig.kube.tick(REFUSED_AFTER_S)
        await rig.settle(3)
        assert rig.pool["status"]["readyReplicas"] == 2
    assert rig.wanted_pods()


async def test_two_full_nodes_are_not_tried_in_turn_for_ever() -> None:
    rig = Rig(replicas=1, nodes=2)
    rig.kube.full = {"node-1", "node-2"}
    for _ in range(8):
        rig.kube.tick(REFUSED_AFTER_S)
        await rig.settle(2)
    assert len(messages(rig, "RelayPlaced")) == 2, "one move, then it waits"
    assert rig.wanted_pods() == ["default-wanted-0"]
    assert rig.condition("Placed")["reason"] == "Unschedulable"
    assert "Insufficient cpu" in rig.condition("Placed")["message"]
    rig.kube.put(Kinds.NODE, node("node-3", 3))
    await rig.settle()
    assert list(nodes_of(rig).values()) == ["node-3"]
    assert not rig.wanted_pods()


async def test_a_node_is_asked_for_before_a_hundred_are_tried() -> None:
    rig = Rig(replicas=1, nodes=9)
    rig.kube.full = {f"node-{number}" for number in range(1, 10)}
    for _ in range(3):
        rig.kube.tick(REFUSED_AFTER_S)
        await rig.settle(3)
    rig.kube.tick(REFUSED_AFTER_S)
    for _ in range(4):
        await rig.settle(1)
        assert rig.wanted_pods() == ["default-wanted-0"], "and it stays while others are tried"
    rig.kube.full = set()
    rig.kube.tick(REFUSED_AFTER_S)
    await rig.settle()
    assert rig.pool["status"]["readyReplicas"] == 1
    assert not rig.wanted_pods()


async def test_too_few_places_make_pending_pods_until_a_node_comes() -> None:
    rig = Rig(replicas=4, nodes=1, placement={"relaysPerNodeMax": 2, "nodeSelector": {"media": "yes"}})
    labelled = {"metadata": {"labels": {"media": "yes"}}}
    rig.kube.put(Kinds.NODE, merge(rig.kube.objects[Kinds.NODE, "", "node-1"], labelled))
    await rig.settle()
    assert rig.wanted_pods() == ["default-wanted-0", "default-wanted-1"]
    wanted = rig.pods()["default-wanted-0"]
    terms = wanted["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchFields"] == [
        {"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}
    ]
    assert wanted["spec"]["nodeSelector"] == {"media": "yes"}
    assert "pbx.io/pool" not in wanted["metadata"]["labels"], "an HPA and the disruption budget must not see it"
    rig.kube.put(Kinds.NODE, merge(node("node-2", 2), labelled))
    await rig.settle()
    assert sorted(nodes_of(rig).values()) == ["node-1", "node-1", "node-2", "node-2"]
    assert not rig.wanted_pods()
    assert rig.pool["status"]["readyReplicas"] == 4


async def test_pods_that_ask_for_nodes_go_with_the_wish_and_are_bounded() -> None:
    rig = Rig(replicas=1000, nodes=0)
    await rig.settle()
    assert len(rig.wanted_pods()) == WANTED_MAX
    rig.change(replicas=0)
    await rig.settle()
    assert not rig.wanted_pods()


async def test_one_that_was_bound_after_all_is_made_anew() -> None:
    rig = Rig(replicas=1, nodes=0)
    await rig.settle()
    rig.kube.put(Kinds.POD, merge(rig.pods()["default-wanted-0"], {"spec": {"nodeName": "elsewhere"}}))
    await rig.settle(1)
    await rig.settle(1)
    assert "nodeName" not in rig.pods()["default-wanted-0"]["spec"]


# --- ports of others on the same node


def foreign_shard(name: str, first: int, born: str, phase: str = "") -> Manifest:
    spec = {"pool": "theirs", "node": "node-1", "ports": {"first": first, "last": first + 79},
            "controlPorts": {"first": 9500, "last": 9501}}  # fmt: skip
    meta = {"name": name, "namespace": "other", "creationTimestamp": born}
    return {"metadata": meta, "spec": spec, "status": {"phase": phase} if phase else {}}


async def test_ports_of_another_installation_are_stepped_over() -> None:
    rig = Rig(replicas=1, nodes=1)
    rig.kube.put(Kinds.SHARD, foreign_shard("theirs", 30040, "2029-01-01T00:00:00Z", "Ready"))
    rig.kube.on_write = lambda: None
    await rig.settle()
    (mine,) = [body for body in rig.shards().values() if body["metadata"]["namespace"] == "pbx"]
    assert mine["spec"]["ports"]["first"] == 30144, "behind the last cell that the other one touches"


@pytest.mark.parametrize(("born", "phase", "stays"), [
    ("2029-01-01T00:00:00Z", "", False), ("2031-01-01T00:00:00Z", "", True), ("2031-01-01T00:00:00Z", "Ready", False),
])  # fmt: skip
async def test_of_two_that_chose_the_same_ports_the_younger_goes(born: str, phase: str, stays: bool) -> None:
    """Two operators at the same moment, neither of which saw the other's shard."""
    rig = Rig(replicas=1, nodes=1)
    rig.kube.on_write = lambda: None
    rig.kube.full = {"node-1"}  # its pod must not have started
    await rig.operator.run_once()
    rig.kube.put(Kinds.SHARD, foreign_shard("theirs", 30000, born, phase))
    rig.kube.full = set()
    await rig.operator.run_once()
    await rig.settle()
    (mine,) = [body for body in rig.shards().values() if body["metadata"]["namespace"] == "pbx"]
    assert mine["spec"]["ports"]["first"] == (30000 if stays else 30080)
    assert ("its ports are other/theirs's" in " ".join(messages(rig, "RelayDraining"))) is not stays
    assert not rig.pool["status"]["refusedNodes"], "the node has room, only not there"


# --- what the pool asks for changes


async def test_changed_ports_are_rolled_out_one_relay_at_a_time_and_told() -> None:
    rig = Rig(replicas=3)
    await rig.settle()
    for relay in rig.kube.relays.values():
        relay.calls = 1
    rig.change(ports={"first": 20000, "last": 20399})
    await rig.settle()
    assert len([b for b in rig.shards().values() if b["spec"].get("drain", {}).get("reason") == "Move"]) == 1
    assert rig.pool["status"]["readyReplicas"] == 3, "the new one is there before the old one has gone"
    assert "not what the pool has now" in " ".join(messages(rig, "RelayDraining"))
    for _ in range(3):
        for relay in rig.kube.relays.values():
            relay.calls = 0
        await rig.settle()
    assert all(20000 <= body["spec"]["ports"]["first"] < 20400 for body in rig.shards().values())
    assert rig.condition("Progressing")["reason"] == "Settled"


@pytest.mark.parametrize("way", ["annotation", "pool", "external"])
async def test_a_changed_address_is_rolled_out_and_the_status_shows_what_pods_announce(way: str) -> None:
    rig = Rig(replicas=1, nodes=1)
    await rig.settle()
    (name,) = rig.shards()
    rig.relay(name).calls = 1
    body = rig.kube.objects[Kinds.NODE, "", "node-1"]
    if way == "annotation":
        rig.kube.put(Kinds.NODE, merge(body, {"metadata": {"annotations": {"pbx.io/advertise": "198.51.100.9"}}}))
    elif way == "external":
        moved = [body["status"]["addresses"][0], {"type": "ExternalIP", "address": "198.51.100.9"}]
        rig.kube.put(Kinds.NODE, merge(body, {"status": {"addresses": moved}}))
    else:
        rig.change(addressing={"advertise": ["198.51.100.9"]})
    await rig.settle()
    assert rig.shards()[name]["status"]["advertise"] == "192.0.2.1", "its calls were told this one"
    assert "announces 192.0.2.1, now 198.51.100.9" in " ".join(messages(rig, "RelayDraining"))
    rig.relay(name).calls = 0
    await rig.settle()
    assert rig.shards()[name]["status"]["advertise"] == "198.51.100.9"


async def test_an_address_that_is_gone_ends_no_relay() -> None:
    rig = Rig(replicas=1, nodes=1)
    await rig.settle()
    body = rig.kube.objects[Kinds.NODE, "", "node-1"]
    rig.kube.put(Kinds.NODE, merge(body, {"status": {"addresses": body["status"]["addresses"][:1]}}))
    await rig.settle()
    (shard,) = rig.shards().values()
    assert (shard["status"]["phase"], shard["status"]["advertise"]) == ("Ready", "192.0.2.1")
    assert rig.condition("AddressKnown")["status"] == "False"


async def test_a_start_is_told_when_the_relay_takes_calls_and_once() -> None:
    rig = Rig(replicas=1, nodes=1)
    await rig.operator.run_once()
    await rig.operator.run_once()
    assert rig.pods()
    assert not messages(rig, "RelayStarted"), "its pod exists, and runs nothing yet"
    await rig.settle()
    assert len(messages(rig, "RelayStarted")) == 1
    rig.operator = rig.new_operator()
    await rig.settle()
    assert len(messages(rig, "RelayStarted")) == 1
    (name,) = rig.pods()
    rig.kube.remove((Kinds.POD, "pbx", name))
    await rig.settle()
    assert len(messages(rig, "RelayStarted")) == 2


# --- kubectl delete pod


async def test_a_deleted_relay_drains_for_as_long_as_its_pod_may_and_comes_back_on_its_place() -> None:
    rig = Rig(replicas=1, nodes=1, drain={"deadlineSeconds": 600})
    await rig.settle()
    (name,) = rig.shards()
    rig.relay(name).calls = 2
    rig.kube.end_pod(rig.pods()[name], None)
    await rig.settle()
    assert rig.relay(name).calls == 2
    assert rig.shards()[name]["status"]["phase"] == "Draining"
    assert not messages(rig, "CallsDropped")
    uid = rig.pods()[name]["metadata"]["uid"]
    rig.relay(name).calls = 0
    await rig.settle()
    assert rig.pods()[name]["metadata"]["uid"] != uid
    assert list(rig.shards()) == [name]


async def test_one_deleted_with_little_grace_is_told_to_drop_its_calls_in_time() -> None:
    rig = Rig(replicas=1, nodes=1, drain={"deadlineSeconds": 600})
    await rig.settle()
    (name,) = rig.shards()
    rig.relay(name).calls = 2
    told: list[int] = []
    drain = rig.kube.drain

    async def note(address: str, deadline_s: int) -> bool:
        told.append(deadline_s)
        return await drain(address, deadline_s)

    rig.kube.drain = note  # type: ignore[method-assign]
    rig.kube.end_pod(rig.pods()[name], 20)
    await rig.operator.run_once()
    assert told == [17]
    await rig.operator.run_once()
    assert ["drops 2 calls" in text for text in messages(rig, "CallsDropped")] == [True], "told once"
    assert "deleted with 20 s of grace" in rig.shards()[name]["status"]["message"]


# --- who may run what


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"image": "evil:1"}, "evil:1 is not one that this operator runs"),
        ({"image": "relay.example/x"}, "relay.example/x is not one"),
        ({"image": "relay:1", "datapath": "ebpf"}, "ebpf is not one that this operator runs"),
        ({"image": "relay:1", "env": [{"name": "PBX_REDIS_URL", "value": "redis://mine"}]}, "PBX_REDIS_URL"),
        ({"image": "relay:1", "env": [{"name": "LD_PRELOAD", "value": "/x.so"}]}, "pattern"),
        (
            {"image": "relay:1", "annotations": {"container.apparmor.security.beta.kubernetes.io/relay": "unconfined"}},
            "not for a pool to set",
        ),
    ],
)
async def test_a_pool_gets_nothing_that_is_the_operators_to_give(template: Manifest, words: str) -> None:
    rig = Rig(replicas=1)
    await rig.settle()
    before = rig.pods()
    rig.change(template={"redis": {"name": "pbx-redis"}, **template})
    await rig.settle()
    assert rig.pods() == before, "what runs stays as it is"
    assert (rig.condition("Valid")["status"], words in rig.condition("Valid")["message"]) == ("False", True)
    assert len(messages(rig, "Refused")) == 1


async def test_image_and_service_account_are_the_operators() -> None:
    rig = Rig(replicas=1)
    rig.policy = Policy("registry.example:5000/relay:2", ("registry.example:5000/relay",), service_account="relays")  # type: ignore[misc]
    rig.operator = rig.new_operator()
    rig.change(template={"redis": {"name": "pbx-redis"}, "serviceAccountName": "cluster-admin"})
    await rig.settle()
    (pod,) = rig.pods().values()
    assert pod["spec"]["containers"][0]["image"] == "registry.example:5000/relay:2"
    assert pod["spec"]["serviceAccountName"] == "relays"
    rig.change(template={"redis": {"name": "pbx-redis"}, "image": "registry.example:5000/relay@sha256:00"})
    await rig.settle()
    (pod,) = rig.pods().values()
    assert pod["spec"]["containers"][0]["image"].endswith("@sha256:00")


async def test_an_operator_of_every_namespace_leaves_those_alone_that_have_their_own() -> None:
    from pbx_operator.reconcile import Reconciler, Scope

    rig = Rig(replicas=1)
    everywhere = Reconciler(rig.kube, rig.kube, rig.operator._observer, lambda: rig.kube.now, rig.policy,
                            scope=Scope("", "operators"))  # fmt: skip
    renewed = (rig.kube.now - timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    lease = {
        "metadata": {"name": "pbx-operator", "namespace": "pbx"},
        "spec": {"holderIdentity": "x", "renewTime": renewed},
    }
    rig.kube.put(Kinds.LEASE, lease)
    await everywhere.run_once()
    assert not rig.shards()
    rig.kube.tick(120)  # that one has died
    await everywhere.run_once()
    assert rig.shards()

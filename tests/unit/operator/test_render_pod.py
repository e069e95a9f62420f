"""The relay's pod: privileges by datapath, ports, probes, grace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from pbx_operator.observed import Pod, Pool, Shard
from pbx_operator.placement import Place, shard_name
from pbx_operator.policy import OWN_VARIABLES, Policy
from pbx_operator.ports import Block
from pbx_operator.render.budget import budget_manifest
from pbx_operator.render.pod import pod_manifest, template_digest
from pbx_operator.render.shard import shard_manifest
from support.fake_kube import pool

POLICY = Policy(images=("relay",))


def made(datapath: str = "auto", host: str = "10.0.0.1", **spec: Any) -> tuple[Pool, dict[str, Any]]:
    body = pool(**spec)
    body["spec"]["template"] = {**body["spec"]["template"], "datapath": datapath}
    parsed = Pool.from_manifest(body)
    place = Place("node-1", Block(30000, 30079), Block(9300, 9301))
    shard = Shard.from_manifest(shard_manifest(parsed, shard_name("default", place), place))
    return parsed, pod_manifest(parsed, shard, ("192.0.2.1",), host, POLICY)


@pytest.mark.parametrize("datapath", ["auto", "ebpf", "native", "python", "null"])
def test_a_pod_is_valid_and_gets_exactly_what_its_datapath_needs(datapath: str) -> None:
    _, pod = made(datapath)
    kubernetes_validate.validate(pod, "1.31", strict=True)
    (container,) = pod["spec"]["containers"]
    context = container["securityContext"]
    assert context["privileged"] is False
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    kernel = datapath == "ebpf"
    assert context["capabilities"] == (
        {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON"]} if kernel else {"drop": ["ALL"]}
    )
    assert any("hostPath" in volume for volume in pod["spec"]["volumes"]) is kernel
    assert pod["spec"]["securityContext"].get("runAsNonRoot", False) is not kernel
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_ports_are_declared_so_that_the_scheduler_refuses_a_clash() -> None:
    _, pod = made()
    ports = {(p["hostPort"], p["protocol"]) for p in pod["spec"]["containers"][0]["ports"]}
    assert ports == {(9300, "TCP"), (9301, "TCP"), (29984, "UDP"), (30016, "UDP"), (30048, "UDP")}
    assert all(p["hostPort"] == p["containerPort"] for p in pod["spec"]["containers"][0]["ports"])


def test_the_relay_learns_its_shard_and_addresses() -> None:
    _, pod = made()
    environment = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
    assert environment["PBX_RELAY_PORTS"] == "30000-30079"
    assert environment["PBX_RELAY_SHARD_FILE"] == "/etc/podinfo/ports"
    assert environment["PBX_RELAY_PROBE_S"] == "10", "readiness proves that packets pass"
    assert environment["PBX_RELAY_ADVERTISE"] == "192.0.2.1"
    assert environment["PBX_GRPC_LISTEN"] == "10.0.0.1:9300"
    field = pod["spec"]["volumes"][0]["downwardAPI"]["items"][0]
    assert field == {"path": "ports", "fieldRef": {"fieldPath": "metadata.annotations['pbx.io/ports']"}}


def test_a_relay_mounts_the_services_key_and_follows_it() -> None:
    body = pool()
    body["spec"]["template"]["grpcKey"] = {"name": "pbx-secrets", "key": "grpc-key"}
    parsed = Pool.from_manifest(body)
    place = Place("node-1", Block(30000, 30079), Block(9300, 9301))
    shard = Shard.from_manifest(shard_manifest(parsed, "s", place))
    pod = pod_manifest(parsed, shard, ("192.0.2.1",), "10.0.0.1", POLICY)
    kubernetes_validate.validate(pod, "1.31", strict=True)
    (container,) = pod["spec"]["containers"]
    environment = {e["name"]: e.get("value") for e in container["env"]}
    file = Path(environment["PBX_GRPC_KEY_FILE"])
    (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == str(file.parent)]
    (volume,) = [v["secret"] for v in pod["spec"]["volumes"] if v["name"] == mount["name"]]
    assert mount["readOnly"] is True
    assert (volume["secretName"], volume["items"]) == ("pbx-secrets", [{"key": "grpc-key", "path": file.name}])
    assert template_digest(parsed, POLICY) != template_digest(made()[0], POLICY)


def test_an_ipv6_node_is_written_in_brackets() -> None:
    _, pod = made(host="2001:db8::1")
    environment = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
    assert environment["PBX_GRPC_LISTEN"] == "[2001:db8::1]:9300"


def test_the_grace_period_is_longer_than_the_relays_own() -> None:
    _, pod = made(drain={"deadlineSeconds": 120})
    environment = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
    assert pod["spec"]["terminationGracePeriodSeconds"] > int(environment["PBX_SHUTDOWN_S"]) == 120


def test_liveness_and_readiness_ask_different_questions() -> None:
    (container,) = made()[1]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_only_the_template_makes_another_digest() -> None:
    parsed, _ = made()
    scaled, _ = made(replicas=9, nodeLostAfterSeconds=5)
    other, _ = made("native")
    assert template_digest(parsed, POLICY) == template_digest(scaled, POLICY) != template_digest(other, POLICY)
    assert template_digest(parsed, POLICY) != template_digest(parsed, Policy(images=("relay",), service_account="x"))


def test_what_is_rendered_is_read_back() -> None:
    parsed, pod = made()
    seen = Pod.from_manifest(copy.deepcopy(pod))
    assert (seen.ports, seen.control, seen.node) == (Block(30000, 30079), Block(9300, 9301), "node-1")
    assert seen.template == template_digest(parsed, POLICY)
    assert seen.advertise == "192.0.2.1"


def test_names_fit_and_differ() -> None:
    long = [Place(f"{'n' * 60}{i}.example.com", Block(30000, 30079), Block(9300, 9301)) for i in range(2)]
    names = {shard_name("p" * 30, place) for place in long}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_the_budget_is_valid_and_does_not_let_draining_relays_go() -> None:
    parsed, _ = made()
    budget = budget_manifest(parsed)
    kubernetes_validate.validate(budget, "1.31", strict=True)
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "IfHealthyBudget"


def test_what_the_operator_tells_a_relay_is_not_for_a_pool_to_say() -> None:
    more = {"grpcKey": {"name": "pbx-secrets", "key": "grpc-key"}, "redisPassword": {"name": "pbx-secrets", "key": "p"}}
    _, pod = made(template={"image": "relay:1", "redis": {"name": "pbx-redis"}, **more})
    told = {entry["name"].removesuffix("_FILE") for entry in pod["spec"]["containers"][0]["env"]}
    assert told <= OWN_VARIABLES | {"PBX_RELAY_SHARD"}


@pytest.mark.parametrize(("size", "mib"), [("1Gi", "921"), ("500Mi", "450"), ("2Ti", "1887436")])
def test_recordings_end_before_their_volume_is_full_and_the_relay_evicted(size: str, mib: str) -> None:
    _, pod = made(template={"image": "relay:1", "redis": {"name": "pbx-redis"}, "recordings": {"size": size}})
    kubernetes_validate.validate(pod, "1.31", strict=True)
    (container,) = pod["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["recordings"]["emptyDir"] == {"sizeLimit": size}
    assert volumes["data"]["emptyDir"]["sizeLimit"] == "1Gi", "the journal's own volume is not theirs to fill"
    assert {"name": "recordings", "mountPath": environment["PBX_RELAY_RECORDINGS"]} in container["volumeMounts"]
    assert environment["PBX_RELAY_RECORDINGS_MAX_MIB"] == mib
    assert int(environment["PBX_RELAY_RECORDINGS_FREE_PERCENT"]) > 10, "the kubelet evicts where less is free"


def test_recordings_go_to_a_claim_that_outlives_the_pod() -> None:
    recordings = {"size": "5Gi", "claim": "calls"}
    _, pod = made(template={"image": "relay:1", "redis": {"name": "pbx-redis"}, "recordings": recordings})
    kubernetes_validate.validate(pod, "1.31", strict=True)
    (volume,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "recordings"]
    assert volume["persistentVolumeClaim"] == {"claimName": "calls"}
    environment = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}
    assert environment["PBX_RELAY_RECORDINGS"] == f"/recordings/{pod['metadata']['name']}", "each relay has its own"

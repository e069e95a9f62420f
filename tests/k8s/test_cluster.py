"""The chart and the operator on a real API server, scheduler and controllers, with every probe run for real.

Each test stands for something that only such a run has shown: unit tests (`unit/operator`, `chart`) hold the same rules
one by one, in milliseconds.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.control_plane import ControlPlane
from support.k8s_installation import CHART, Installation, is_ready

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("k8s"), pytest.mark.timeout(600)]
Body = dict[str, Any]
APPARMOR = "container.apparmor.security.beta.kubernetes.io/relay"
POOL = {"apiVersion": "pbx.io/v1alpha1", "kind": "MediaRelayPool"}


def block(shard: Body) -> tuple[int, int]:
    return shard["spec"]["ports"]["first"], shard["spec"]["ports"]["last"]


def test_everything_becomes_ready_and_a_call_goes_through(pbx: Installation) -> None:
    """signaling's exec probe, every other probe, the init container, the Secrets, Redis: all of it has to be right."""
    for pod in pbx.pods():
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] != "test":
            assert is_ready(pod), pod["metadata"]["name"]
    pbx.helm("test", pbx.release, "--timeout", "150s")


def test_the_status_shows_what_relays_announce_and_starts_are_told(pbx: Installation) -> None:
    shards = pbx.shards()
    assert {s["status"]["advertise"] for s in shards.values()} == {
        f"203.0.113.{s['spec']['node'][1:]}" for s in shards.values()
    }
    pbx.cluster.until("a start of each relay", lambda: len(pbx.events("RelayStarted")) >= 2, 20)
    assert pbx.condition("Reconciled")["status"] == "True"


def test_an_upgrade_after_kubectl_scale_is_no_conflict_and_takes_nothing_back(pbx: Installation) -> None:
    pbx.kubectl("scale", "mediarelaypool/default", "--replicas=3")
    pbx.kubectl("scale", "deployment/pbx-operator", "--replicas=2")
    pbx.upgrade("--set", "logLevel=debug")
    assert pbx.pool()["spec"]["replicas"] == 3
    assert pbx.cluster.get("deployment", "pbx-operator", pbx.namespace)["spec"]["replicas"] == 2
    pbx.upgrade("--set", "logLevel=info")
    pbx.kubectl("scale", "mediarelaypool/default", "--replicas=2")
    pbx.kubectl("scale", "deployment/pbx-operator", "--replicas=1")
    pbx.wait_until_ready()


def test_the_crds_can_be_applied_again_by_somebody_else(pbx: Installation) -> None:
    """What the API server drops or changes of them would be a conflict."""
    for path in sorted((CHART / "crds").glob("*.yaml")):
        pbx.cluster.kubectl("apply", "--server-side", "--field-manager=other", "-f", str(path))
        written = yaml.safe_load(path.read_text())
        stored = json.loads(pbx.cluster.kubectl("get", "crd", written["metadata"]["name"], "-o", "json"))
        assert _dropped(written["spec"], stored["spec"], path.name) == []


def _dropped(written: Any, stored: Any, path: str) -> list[str]:
    if isinstance(written, dict) and isinstance(stored, dict):
        found = [f"{path}.{key}" for key in written if key not in stored]
        return found + [
            p for key in written if key in stored for p in _dropped(written[key], stored[key], f"{path}.{key}")
        ]
    if isinstance(written, list) and isinstance(stored, list):
        return [p for one, other in zip(written, stored, strict=True) for p in _dropped(one, other, f"{path}[]")]
    return [] if written == stored else [f"{path}: {written!r} is stored as {stored!r}"]


def test_the_operator_ends_on_sigterm_and_hands_the_lease_over(pbx: Installation) -> None:
    (pod,) = pbx.pods("app.kubernetes.io/component=operator")
    name = pod["metadata"]["name"]
    held = pbx.cluster.get("lease", "pbx-operator", pbx.namespace)["spec"]["holderIdentity"]
    assert held
    begun = time.monotonic()
    pbx.kubectl("delete", "pod", name, "--wait=false")
    pbx.cluster.until("the operator's end", lambda: pbx.ended(pod), 10)
    assert time.monotonic() - begun < 5 + 1.5, "with what it takes to look"
    assert "SIGKILL" not in pbx.ended(pod)
    now = pbx.cluster.get("lease", "pbx-operator", pbx.namespace)["spec"].get("holderIdentity", "")
    assert now != held, "nobody has to wait for it to expire"
    log = next(Path(pbx.cluster.home / "log").glob(f"{name}.operator.log")).read_text()
    assert "Handler" not in log, "kopf's words are for debugging"
    assert '"clean":true' in log
    pbx.wait_until_ready()


def test_a_changed_annotation_is_told_and_rolled_out(pbx: Installation) -> None:
    shard = next(iter(pbx.shards().values()))
    name, node = shard["metadata"]["name"], shard["spec"]["node"]
    pbx.cluster.kubectl("annotate", "node", node, "pbx.io/advertise=198.51.100.7")
    pbx.cluster.until("the new address", lambda: pbx.shards()[name]["status"]["advertise"] == "198.51.100.7", 90)
    assert any("now 198.51.100.7" in text for text in pbx.events("RelayDraining"))
    pbx.cluster.kubectl("annotate", "node", node, "pbx.io/advertise-")
    pbx.cluster.until("the old one", lambda: pbx.shards()[name]["status"]["advertise"].startswith("203.0.113."), 90)
    pbx.wait_until_ready()


def test_changed_ports_are_told_and_rolled_out(pbx: Installation) -> None:
    pbx.change(ports={"first": 10000, "last": 19999})
    moved = lambda: pbx.shards() and all(10000 <= block(s)[0] < 20000 for s in pbx.shards().values())  # noqa: E731
    pbx.cluster.until("new ports for all", moved, 120)
    pbx.wait_until_ready()
    assert any("Move" in text for text in pbx.events("RelayDraining"))
    pbx.change(ports={"first": 20000, "last": 29999})
    pbx.cluster.until("the old ports", lambda: not moved(), 120)
    pbx.cluster.until("all of them", lambda: all(block(s)[0] >= 20000 for s in pbx.shards().values()), 120)
    pbx.wait_until_ready()


def test_a_deleted_relay_waits_for_its_calls_and_little_grace_ends_it_in_order(pbx: Installation) -> None:
    pod = pbx.relays()[0]
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    with pbx.calls(pod, 3):
        pbx.kubectl("delete", "pod", name, "--wait=false")
        time.sleep(6)
        assert not pbx.ended(pod), "its calls are not over"
        assert pbx.shards()[name]["status"]["phase"] == "Draining"
        pbx.kubectl("delete", "pod", name, "--grace-period=25", "--wait=false")
        pbx.cluster.until("its end", lambda: pbx.ended(pod), 40)
        assert "SIGKILL" not in pbx.ended(pod), "it dropped its calls before"
    assert any("drops 3 calls" in text for text in pbx.events("CallsDropped"))
    log = Path(pbx.cluster.home / "log" / f"{name}.relay.log").read_text()
    assert log.count("call dropped at the end of the drain") == 3
    pbx.wait_until_ready()
    assert next(p for p in pbx.relays() if p["metadata"]["name"] == name)["metadata"]["uid"] != uid


def test_calls_are_listed_though_a_replica_hangs(pbx: Installation) -> None:
    pbx.kubectl("scale", "statefulset/pbx-signaling", "--replicas=2")
    second = lambda: [p for p in pbx.pods("app.kubernetes.io/component=signaling") if is_ready(p)]  # noqa: E731
    pbx.cluster.until("two replicas", lambda: len(second()) == 2)
    (events,) = pbx.pods("app.kubernetes.io/component=events")
    token = pbx.secret("api-token")
    url = f"http://{events['status']['podIP']}:8080/v1/calls"

    def ask() -> tuple[Body, float]:
        begun = time.monotonic()
        command = pbx.cluster.inside("curl", "-s", "-m", "10", "-H", f"Authorization: Bearer {token}", url)
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return json.loads(out), time.monotonic() - begun

    pbx.cluster.until("the end of old leases", lambda: ask()[0]["unreachable"] == [], 30)
    frozen = _processes_of(pbx, "pbx-signaling-1")
    for pid in frozen:
        subprocess.run(["kill", "-STOP", pid], check=True)
    try:
        answer, took = ask()
        assert (answer["items"], len(answer["unreachable"])) == ([], 1)
        assert took < 4
    finally:
        for pid in frozen:
            subprocess.run(["kill", "-CONT", pid], check=True)
    pbx.kubectl("scale", "statefulset/pbx-signaling", "--replicas=1")


def _processes_of(pbx: Installation, pod: str) -> list[str]:
    """The pids of a pod's own processes, by the name that its containers have as their host's."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
        except OSError:
            continue
        here = Path(path.parent, "cmdline").read_bytes()
        if f"HOSTNAME={pod}".encode() in environment and b"pbx_signaling" in here and b"probe" not in here:
            found.append(path.parent.name)
    assert found
    return found


def test_the_volume_of_redis_grows_with_an_upgrade(pbx: Installation) -> None:
    (before,) = pbx.pods("app.kubernetes.io/component=redis")
    pbx.upgrade("--set", "redis.persistence.size=12Gi")
    claim = pbx.cluster.get("pvc", "pbx-redis", pbx.namespace)
    assert claim["spec"]["resources"]["requests"]["storage"] == "12Gi"
    (after,) = pbx.pods("app.kubernetes.io/component=redis")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


# --- what the API server and the scheduler refuse


def pool(namespace: str, **spec: Any) -> Body:
    template = {"redis": {"name": "pbx-redis-url"}, **spec.pop("template", {})}
    meta = {"name": "other", "namespace": namespace}
    return {**POOL, "metadata": meta, "spec": {"replicas": 1, "slotsPerShard": 8, "template": template, **spec}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"addressing": {"advertise": ["host.example"]}}, "IP address"),
        ({"addressing": {"advertise": ["203.0.113.256"]}}, "IP address"),
        ({"addressing": {"advertise": ["0.0.0.0"]}}, "IP address"),
        ({"addressing": {"advertise": ["203.0.113.1", "203.0.113.2"]}}, "one address of each family"),
        ({"placement": {"nodeSelector": {"a b": "c"}}}, "a key is"),
        ({"placement": {"nodeSelector": {"a": "c d"}}}, "should match"),
        ({"template": {"labels": {"-x": "value"}}}, "a key is"),
        ({"template": {"annotations": {APPARMOR: "unconfined"}}}, "confinement"),
        ({"template": {"resources": {"requests": {"cpu": "much"}}}}, "should match"),
        ({"template": {"env": [{"name": "LD_PRELOAD", "value": "/x"}]}}, "should match"),
        ({"ports": {"first": 20004, "last": 29999}}, "multiple of 8"),
    ],
)  # fmt: skip
def test_admission_refuses_what_makes_no_sense(pbx: Installation, spec: Body, words: str) -> None:
    assert words in pbx.cluster.refusal(pool(pbx.namespace, **spec))


@pytest.mark.parametrize(
    "spec",
    [
        {"addressing": {"advertise": ["203.0.113.1", "2001:db8::1"]}},
        {"template": {"resources": {"requests": {"cpu": 1, "memory": 268435456}, "limits": {"memory": "1Gi"}}}},
        {"template": {"labels": {"team.example/name": "media"}, "annotations": {"note": "any words: at all"}}},
    ],
)
def test_admission_takes_what_does(pbx: Installation, spec: Body) -> None:
    assert pbx.cluster.refusal(pool(pbx.namespace, **spec)) == ""


def test_a_pool_gets_no_image_of_its_own_choice(pbx: Installation) -> None:
    pbx.change(template={"image": "evil:1"})
    pbx.cluster.until("the refusal", lambda: "evil:1" in pbx.condition("Valid").get("message", ""), 30)
    assert any("evil:1" in text for text in pbx.events("Refused"))
    assert all("evil" not in pod["spec"]["containers"][0]["image"] for pod in pbx.relays())
    pbx.change(template={"image": None})
    pbx.cluster.until("its end", lambda: not pbx.condition("Valid"), 30)


def test_what_pod_security_refuses_is_told_in_its_words(pbx: Installation) -> None:
    label = "pod-security.kubernetes.io/enforce"
    pbx.cluster.kubectl("label", "namespace", pbx.namespace, f"{label}=baseline")
    pbx.kubectl("scale", "mediarelaypool/default", "--replicas=3")
    try:
        pbx.cluster.until("the condition", lambda: pbx.condition("Reconciled").get("status") == "False", 30)
        assert 'violates PodSecurity "baseline:latest"' in pbx.condition("Reconciled")["message"]
        assert any("hostNetwork" in text for text in pbx.events("Refused"))
    finally:
        pbx.cluster.kubectl("label", "namespace", pbx.namespace, f"{label}-")
    pbx.wait_until_ready(3)
    pbx.kubectl("scale", "mediarelaypool/default", "--replicas=2")
    pbx.wait_until_ready()


def test_relays_that_no_node_holds_ask_for_one_and_go_there(pbx: Installation) -> None:
    """More CPU than four nodes have: the scheduler refuses, a pending pod asks for a node, and the relay goes there."""
    pbx.change(template={"resources": {"requests": {"cpu": "12"}}}, drain={"deadlineSeconds": 5})
    pbx.cluster.until("a pod that asks for a node", lambda: _wanted(pbx), 240)
    (wanted, *_) = _wanted(pbx)
    pbx.cluster.until("the scheduler's words", lambda: "Insufficient cpu" in json.dumps(pbx.condition("Placed")), 60)
    assert wanted["status"].get("phase") == "Pending"
    pbx.cluster.add_node(5, cpu="64")
    pbx.cluster.until("a relay on it", lambda: any(
        pod["spec"].get("nodeName") == "n5" and is_ready(pod) for pod in pbx.relays()), 180)  # fmt: skip
    pbx.change(template={"resources": {"requests": {"cpu": "100m"}}}, drain={"deadlineSeconds": 600})
    pbx.cluster.until("no pod that asks", lambda: not _wanted(pbx), 120)
    pbx.wait_until_ready()


def _wanted(pbx: Installation) -> list[Body]:
    return pbx.pods("pbx.io/wanted-by=default")


def test_two_installations_share_nodes_without_sharing_a_port(pbx: Installation, cluster: ControlPlane) -> None:
    other = Installation(cluster, pbx._helm, f"{pbx.namespace}-two", "second")
    other.install("--set", "relays.datapath=python", "--set", "relays.replicas=4", "--set", "relays.slotsPerShard=100",
                  "--set", "signaling.advertise=203.0.113.201")  # fmt: skip
    try:
        cluster.until("four relays beside two", lambda: sum(map(is_ready, other.relays())) == 4, 180)
        held: dict[str, list[tuple[int, int]]] = {}
        for shard in (*pbx.shards().values(), *other.shards().values()):
            held.setdefault(shard["spec"]["node"], []).append(block(shard))
        for blocks in held.values():
            for number, one in enumerate(blocks):
                assert not any(one[0] <= b[1] and b[0] <= one[1] for b in blocks[number + 1 :]), blocks
        assert max(map(len, held.values())) > 1, "they do share nodes"
    finally:
        other.uninstall()


def test_a_clash_that_no_operator_sees_is_refused_by_the_scheduler(pbx: Installation) -> None:
    """A pod of another operator with ports inside a relay's block: it stays pending, with a message."""
    shard = next(iter(pbx.shards().values()))
    inner = block(shard)[0] + 37 * 8
    cell = inner // 32 * 32
    port = {"containerPort": cell, "hostPort": cell, "protocol": "UDP"}
    spec = {
        "hostNetwork": True,
        "nodeSelector": {"kubernetes.io/hostname": shard["spec"]["node"]},
        "containers": [{"name": "x", "image": "x", "ports": [port]}],
    }
    meta = {"name": "clash", "namespace": pbx.namespace}
    pbx.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    refused = lambda: "free ports" in json.dumps(pbx.cluster.get("pod", "clash", pbx.namespace).get("status", {}))  # noqa: E731
    pbx.cluster.until("the scheduler's refusal", refused, 30)
    pbx.kubectl("delete", "pod", "clash", "--grace-period=0", "--force")

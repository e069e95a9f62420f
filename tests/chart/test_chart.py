"""The chart: every scenario against the Kubernetes schemas and our CRDs, and what its templates promise."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="not run: make setup installs it")

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/sip-pbx"
SCENARIOS = sorted(CHART.glob("ci/*-values.yaml"))
THIRD_PARTY = {"monitoring.coreos.com/v1"}
Objects = list[dict[str, Any]]
Template = Callable[..., Objects]


def crd_schemas() -> dict[str, dict[str, Any]]:
    crds = [yaml.safe_load(path.read_text()) for path in CHART.glob("crds/*.yaml")]
    return {c["spec"]["names"]["kind"]: c["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for c in crds}


def find(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    return next(body for body in objects if body["kind"] == kind and body["metadata"]["name"] == name)


def pod_specs(objects: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    for body in objects:
        spec = body["spec"] if body["kind"] == "Pod" else body.get("spec", {}).get("template", {}).get("spec")
        if spec and "containers" in spec:
            yield f"{body['kind']}/{body['metadata']['name']}", spec


def environment(spec: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in spec["containers"][0]["env"]}


@pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_every_object_of_every_scenario_is_valid(values: Path, template: Template) -> None:
    schemas = crd_schemas()
    objects = template("--values", str(values))
    names = [(body["kind"], body["metadata"]["name"]) for body in objects]
    assert len(names) == len(set(names)), "two objects of one name"
    for body in objects:
        if body["kind"] in schemas:
            jsonschema.validate(body, schemas[body["kind"]])
            _nothing_pruned(body["spec"], schemas[body["kind"]]["properties"]["spec"], body["kind"])
        elif body["apiVersion"] not in THIRD_PARTY:
            kubernetes_validate.validate(body, "1.31", strict=True)


def _nothing_pruned(value: Any, schema: dict[str, Any], path: str) -> None:
    """A key that the schema does not know is dropped in silence by the API server."""
    if isinstance(value, dict) and "properties" in schema:
        for key, inner in value.items():
            assert key in schema["properties"], f"{path}.{key} is not in the CRD"
            _nothing_pruned(inner, schema["properties"][key], f"{path}.{key}")
    if isinstance(value, list):
        for inner in value:
            _nothing_pruned(inner, schema["items"], f"{path}[]")


@pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_pods_of_the_chart_pass_the_restricted_level(values: Path, template: Template) -> None:
    for name, spec in pod_specs(template("--values", str(values))):
        allowed_host = "HostNetwork" in values.read_text() and name.endswith("-signaling")
        assert not spec.get("hostNetwork") or allowed_host, f"{name}: hostNetwork is documented for signaling alone"
        assert not spec.get("hostPID")
        assert not spec.get("hostIPC")
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all("hostPath" not in volume for volume in spec.get("volumes", ()))
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["privileged"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


def test_no_secret_stands_in_an_argument_or_a_plain_variable(template: Template) -> None:
    objects = template()
    secret = find(objects, "Secret", "pbx-secrets")
    values = [str(value) for value in secret["data"].values()]
    for _, spec in pod_specs(objects):
        text = json.dumps(spec)
        assert not any(value in text for value in values)


def test_secrets_are_kept_over_upgrades_and_uninstall(template: Template) -> None:
    secret = find(template(), "Secret", "pbx-secrets")
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "lookup" in (CHART / "templates/_helpers.tpl").read_text()


def test_the_nonce_key_is_hex_of_32_octets(template: Template) -> None:
    import base64

    key = base64.b64decode(find(template(), "Secret", "pbx-secrets")["data"]["nonce-key"]).decode()
    assert len(bytes.fromhex(key)) == 32


def test_load_balancers_keep_the_callers_address(template: Template) -> None:
    services = [b for b in template() if b["kind"] == "Service" and b["spec"].get("type") == "LoadBalancer"]
    assert [s["metadata"]["name"] for s in services] == ["pbx-signaling-udp", "pbx-signaling-tcp"]
    for service in services:
        assert service["spec"]["externalTrafficPolicy"] == "Local"
        assert len({port["protocol"] for port in service["spec"]["ports"]}) == 1


def test_mixed_protocols_make_one_service(template: Template) -> None:
    objects = template("--set", "signaling.loadBalancer.mixedProtocols=true")
    (service,) = [b for b in objects if b["kind"] == "Service" and b["spec"].get("type") == "LoadBalancer"]
    assert {port["protocol"] for port in service["spec"]["ports"]} == {"UDP", "TCP"}


def test_private_webhooks_are_allowed_where_they_are_wanted(template: Template) -> None:
    name = "PBX_WEBHOOK_ALLOW_PRIVATE"
    kind = next(
        b["kind"] for b in template() if b["metadata"]["name"] == "pbx-events" and "template" in b.get("spec", {})
    )
    plain = environment(find(template(), kind, "pbx-events")["spec"]["template"]["spec"])
    assert name not in plain
    allowed = template("--set", "events.webhookAllowPrivate=true")
    assert environment(find(allowed, kind, "pbx-events")["spec"]["template"]["spec"])[name]["value"] == "1"


def test_an_unknown_address_is_waited_for_and_a_given_one_is_not(template: Template) -> None:
    spec = find(template(), "StatefulSet", "pbx-signaling")["spec"]["template"]["spec"]
    assert spec["initContainers"][0]["command"][:3] == ["python", "-m", "pbx_operator.advertise"]
    assert environment(spec)["PBX_ADVERTISE_FILE"]["value"] == "/run/pbx/advertise"
    given = template("--set", "signaling.advertise=203.0.113.1")
    spec = find(given, "StatefulSet", "pbx-signaling")["spec"]["template"]["spec"]
    assert "initContainers" not in spec
    assert environment(spec)["PBX_ADVERTISE"]["value"] == "203.0.113.1"
    assert not [b for b in given if b["kind"] == "ServiceAccount" and b["metadata"]["name"] == "pbx-signaling"]


def test_the_grace_period_holds_pre_stop_and_shutdown(template: Template) -> None:
    spec = find(template(), "StatefulSet", "pbx-signaling")["spec"]["template"]["spec"]
    shutdown = int(environment(spec)["PBX_SHUTDOWN_S"]["value"])
    pre_stop = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2]
    assert spec["terminationGracePeriodSeconds"] > shutdown + int(re.findall(r"\d+", pre_stop)[0])


def test_sqlite_allows_one_replica_and_postgres_more(template: Template, refused: Callable[..., str]) -> None:
    assert "SQLite is one process's" in refused("--set", "registrar.replicas=2")
    assert "SQLite is one process's" in refused("--set", "events.hpa.enabled=true")
    url = "postgresql+asyncpg://u:p@db/registrar"
    objects = template("--set", "registrar.replicas=2", "--set", f"database.registrarUrl={url}")
    deployment = find(objects, "Deployment", "pbx-registrar")
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    assert "DATABASE_URL" in environment(deployment["spec"]["template"]["spec"])
    assert find(objects, "PodDisruptionBudget", "pbx-registrar")["spec"]["maxUnavailable"] == 1
    assert not [b for b in objects if b["kind"] == "PersistentVolumeClaim" and b["metadata"]["name"] == "pbx-registrar"]


def test_an_external_redis_needs_its_address(refused: Callable[..., str]) -> None:
    assert "redis.externalUrl" in refused("--set", "redis.enabled=false")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("signaling.exposure=NodePort", "exposure"),
        ("relays.ports.first=30001", "first"),
        ("relays.datapath=xdp", "datapath"),
        ("sinaling.port=5060", "sinaling"),
        ("signaling.port=70000", "port"),
        ("redis.externalUrl=http://x", "externalUrl"),
        ("relays.name=Default", "name"),
        ("relays.resources.requests.cpu=much", "cpu"),
        ("redis.maxMemory=lots", "maxMemory"),
        ("relays.addressing.advertise={host.example}", "advertise"),
        ("networkPolicy.egress.phones={everywhere}", "phones"),
    ],
)
def test_the_schema_refuses_wrong_values(setting: str, message: str, refused: Callable[..., str]) -> None:
    assert message in refused("--set", setting)


def test_an_autoscaled_workload_states_no_replicas(template: Template) -> None:
    objects = template("--values", str(CHART / "ci/cloud-values.yaml"))
    assert "replicas" not in find(objects, "StatefulSet", "pbx-signaling")["spec"]
    assert find(objects, "HorizontalPodAutoscaler", "pbx-signaling")["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"
    assert "replicas" not in find(objects, "MediaRelayPool", "default")["spec"], "the pool scales itself"


SCALED = ("StatefulSet", "pbx-signaling"), ("Deployment", "pbx-events"), ("Deployment", "pbx-operator"), (
    "Deployment", "pbx-registrar"), ("MediaRelayPool", "default")  # fmt: skip


def test_replicas_belong_to_whoever_scales_unless_a_value_says_otherwise(template: Template) -> None:
    """Server-side apply (helm 4) calls a number that kubectl scale has changed a conflict."""
    for kind, name in SCALED:
        assert "replicas" not in find(template(), kind, name)["spec"], name
    wanted = ["--set", "signaling.replicas=2", "--set", "relays.replicas=0", "--set", "operator.replicas=3"]
    objects = template(*wanted)
    found = {name: find(objects, kind, name)["spec"].get("replicas") for kind, name in SCALED}
    assert found == {"pbx-signaling": 2, "pbx-events": None, "pbx-operator": 3, "pbx-registrar": None, "default": 0}


def test_what_may_have_a_second_replica_has_a_budget(template: Template) -> None:
    budgets = {b["metadata"]["name"] for b in template() if b["kind"] == "PodDisruptionBudget"}
    assert budgets == {"pbx-signaling", "pbx-operator"}, "SQLite is one process's"
    one = template("--set", "signaling.replicas=1", "--set", "operator.replicas=1")
    assert not [b for b in one if b["kind"] == "PodDisruptionBudget"]


def ranges_overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


@pytest.mark.parametrize("others", [(30000, 32767), (32768, 60999)], ids=["NodePorts", "ephemeral ports of Linux"])
def test_the_default_ports_of_relays_are_nobody_elses(others: tuple[int, int], template: Template) -> None:
    spec = find(template(), "MediaRelayPool", "default")["spec"]
    crd = crd_schemas()["MediaRelayPool"]["properties"]["spec"]["properties"]
    for name in ("ports", "controlPorts"):
        for given in (spec[name], crd[name]["default"]):
            assert not ranges_overlap((given["first"], given["last"]), others), name


def test_amounts_of_relays_may_be_numbers(template: Template) -> None:
    objects = template("--set", "relays.resources.requests.cpu=2", "--set", "relays.resources.limits.cpu=2.5")
    resources = find(objects, "MediaRelayPool", "default")["spec"]["template"]["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == ("2", "2.5")


def test_the_operator_knows_what_pools_may_ask_for(template: Template) -> None:
    values = environment(find(template(), "Deployment", "pbx-operator")["spec"]["template"]["spec"])
    assert values["PBX_RELAY_IMAGE"]["value"] == "sip-pbx-media-relay:0.1.0"
    assert values["PBX_RELAY_DATAPATHS"]["value"] == "auto,native,python,null", "no pool gets ebpf, which runs as root"
    assert "PBX_RELAY_IMAGES" not in values
    assert "image" not in find(template(), "MediaRelayPool", "default")["spec"]["template"]
    given = template("--values", str(CHART / "ci/cloud-values.yaml"), "--set", "relays.datapath=ebpf")
    values = environment(find(given, "Deployment", "pbx-operator")["spec"]["template"]["spec"])
    assert values["PBX_RELAY_IMAGES"]["value"] == "registry.example.com/canary/relay"
    assert values["PBX_RELAY_SERVICE_ACCOUNT"]["value"] == "relays"
    assert values["PBX_RELAY_DATAPATHS"]["value"].endswith(",ebpf")


def egress_of(objects: Objects) -> list[dict[str, Any]]:
    (policy,) = [
        b["spec"] for b in objects if b["kind"] == "NetworkPolicy" and b["metadata"]["name"] == "pbx-signaling"
    ]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    return list(policy["egress"])


def test_signaling_reaches_phones_and_the_services_it_needs_and_no_other_pod(template: Template) -> None:
    rules = egress_of(template("--set", "networkPolicy.egress.except={169.254.0.0/16,10.0.0.0/8,fd00::/8}"))
    pods = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: rule["ports"][0]["port"]
        for rule in rules
        for peer in rule.get("to", ())
        if "podSelector" in peer
    }
    assert pods == {"registrar": 9101, "signaling": 9102, "redis": 6379}
    everywhere = [peer["ipBlock"] for rule in rules if "ports" not in rule for peer in rule["to"]]
    assert everywhere == [
        {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16", "10.0.0.0/8"]},
        {"cidr": "::/0", "except": ["fd00::/8"]},
    ]
    open_ports = {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]}
    assert open_ports == {9300, 443, 6443}, "relays on their nodes, and the API server for the init container"
    assert 6443 not in {
        port["port"]
        for rule in egress_of(template("--set", "signaling.advertise=203.0.113.1"))
        for port in rule.get("ports", ())
    }


def test_egress_of_signaling_follows_an_external_redis_and_can_be_switched_off(template: Template) -> None:
    rules = egress_of(template("--values", str(CHART / "ci/sentinel-values.yaml")))
    assert next(p["port"] for r in rules if "to" not in r for p in r["ports"]) == 26379
    policies = [
        b["spec"] for b in template("--set", "networkPolicy.egress.enabled=false") if b["kind"] == "NetworkPolicy"
    ]
    assert all(policy["policyTypes"] == ["Ingress"] for policy in policies)


def test_the_volume_of_redis_can_grow(template: Template) -> None:
    """A volumeClaimTemplate cannot be changed; a claim of its own can."""
    objects = template("--set", "redis.persistence.size=20Gi")
    assert "volumeClaimTemplates" not in find(objects, "StatefulSet", "pbx-redis")["spec"]
    assert find(objects, "PersistentVolumeClaim", "pbx-redis")["spec"]["resources"]["requests"]["storage"] == "20Gi"
    pods = [find(o, "StatefulSet", "pbx-redis")["spec"]["template"] for o in (objects, template())]
    assert pods[0]["spec"] == pods[1]["spec"], "no pod is started anew for it"
    own = template("--set", "redis.persistence.existingClaim=data-pbx-redis-0")
    assert not [b for b in own if b["kind"] == "PersistentVolumeClaim" and b["metadata"]["name"] == "pbx-redis"]


def test_alerts_name_sections_of_the_operations_guide_that_exist(template: Template) -> None:
    (rule,) = [b for b in template("--set", "monitoring.prometheusRule.enabled=true") if b["kind"] == "PrometheusRule"]
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    alerts = rule["spec"]["groups"][0]["rules"]
    assert len(alerts) >= 8
    for alert in alerts:
        assert alert["annotations"]["runbook_url"].split("#")[1] in anchors, alert["alert"]
        assert alert["labels"]["severity"] in ("warning", "critical")


def metric_names() -> set[str]:
    sources = [*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("libs/runtime/src/**/*.py")]
    return {name for path in sources for name in re.findall(r'"(pbx_[a-z_]+)"', path.read_text())}


def test_alerts_and_dashboards_use_metrics_that_exist(template: Template) -> None:
    objects = template("--values", str(CHART / "ci/cloud-values.yaml"))
    texts = [json.dumps(b["spec"]) for b in objects if b["kind"] == "PrometheusRule"]
    texts += [text for b in objects if b["kind"] == "ConfigMap" for text in b["data"].values()]
    known = metric_names()
    used = {name for text in texts for name in re.findall(r"\bpbx_[a-z_]+", text)}
    assert used
    for name in used:
        assert name in known or re.sub(r"_(total|bucket|count|sum)$", "", name) in known, f"{name} is nobody's metric"


def test_dashboards_are_json_with_panels(template: Template) -> None:
    maps = [b for b in template("--set", "monitoring.dashboards.enabled=true") if b["kind"] == "ConfigMap"]
    assert len(maps) == 2
    for body in maps:
        (text,) = body["data"].values()
        assert len(json.loads(text)["panels"]) >= 6


def test_network_policies_close_what_nobody_needs(template: Template) -> None:
    policies = {b["metadata"]["name"]: b["spec"] for b in template() if b["kind"] == "NetworkPolicy"}
    assert set(policies) == {f"pbx-{c}" for c in ("redis", "registrar", "signaling", "events", "operator")}
    allowed = policies["pbx-registrar"]["ingress"][0]["from"]
    names = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in allowed}
    assert names == {"signaling", "events", "test"}


def test_peers_on_the_nodes_network_are_named_where_the_nodes_networks_are(template: Template) -> None:
    on_nodes = ("--set", "signaling.exposure=HostNetwork,networkPolicy.nodeCidrs={10.0.0.0/16,2001:db8::/48}")
    policies = {b["metadata"]["name"]: b["spec"] for b in template(*on_nodes) if b["kind"] == "NetworkPolicy"}
    for name in ("pbx-registrar", "pbx-redis"):
        allowed = policies[name]["ingress"][0]["from"]
        assert [peer["ipBlock"]["cidr"] for peer in allowed if "ipBlock" in peer] == ["10.0.0.0/16", "2001:db8::/48"]
        assert any("podSelector" in peer for peer in allowed)


def test_every_service_that_speaks_grpc_mounts_the_shared_key(template: Template) -> None:
    objects = template("--set", "existingSecret=mine")
    kinds = {"registrar": "Deployment", "events": "Deployment", "operator": "Deployment", "signaling": "StatefulSet"}
    pods = [find(objects, kind, f"pbx-{name}")["spec"]["template"]["spec"] for name, kind in kinds.items()]
    pods.append(find(objects, "Job", "pbx-test-call")["spec"]["template"]["spec"])
    for pod in pods:
        file = Path(environment(pod)["PBX_GRPC_KEY_FILE"]["value"])
        (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["mountPath"] == str(file.parent)]
        (volume,) = [v["secret"] for v in pod["volumes"] if v["name"] == mount["name"]]
        assert (volume["secretName"], volume["items"]) == ("mine", [{"key": "grpc-key", "path": file.name}])
        assert "PBX_GRPC_INSECURE" not in environment(pod)
    assert find(objects, "MediaRelayPool", "default")["spec"]["template"]["grpcKey"] == {
        "name": "mine",
        "key": "grpc-key",
    }


def test_a_key_for_grpc_is_made_where_none_is_brought(template: Template) -> None:
    secret = find(template(), "Secret", "pbx-secrets")["data"]
    assert len(base64.b64decode(secret["grpc-key"])) >= 32


def test_the_operator_may_do_what_it_does_and_no_more(template: Template) -> None:
    rules = find(template(), "Role", "pbx-operator")["rules"]
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    needed = "pods create, pods delete, relayshards patch, mediarelaypools patch, events create"
    assert {tuple(pair.split()) for pair in needed.split(", ")} <= granted
    assert not {resource for resource, _ in granted} & {"secrets", "configmaps", "pods/exec", "*"}
    assert not any(verb == "*" for _, verb in granted)


def test_pods_under_maintenance_hold_their_volumes_and_open_nothing(template: Template) -> None:
    objects = {(body["kind"], body["metadata"]["name"]): body for body in template("--set", "maintenance=true")}
    for name in ("pbx-registrar", "pbx-events"):
        body = objects["Deployment", name]
        (container,) = body["spec"]["template"]["spec"]["containers"]
        assert "signal.pause()" in container["command"][-1]
        assert not {"startupProbe", "livenessProbe", "readinessProbe"} & container.keys()
        assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
        assert {"PBX_DATA", "PBX_REDIS_URL"} <= {entry["name"] for entry in container["env"]}
    assert objects["StatefulSet", "pbx-signaling"]["spec"]["replicas"] == 0


def test_people_are_masked_in_every_log_unless_a_value_says_otherwise(template: Template) -> None:
    for value, relays in (("mask", []), ("show", [{"name": "PBX_LOG_PII", "value": "show"}])):
        objects = template("--set", f"logPii={value}")
        (pool,) = [body for body in objects if body["kind"] == "MediaRelayPool"]
        assert pool["spec"]["template"].get("env", []) == relays
        told = [
            entry["value"]
            for body in objects
            if body["kind"] in ("Deployment", "StatefulSet")
            for container in body["spec"]["template"]["spec"]["containers"]
            for entry in container.get("env", [])
            if entry["name"] == "PBX_LOG_PII"
        ]
        assert told == [value] * 3, "registrar, signaling, events"


def test_recordings_have_a_volume_of_their_own(template: Template) -> None:
    (pool,) = [body for body in template() if body["kind"] == "MediaRelayPool"]
    assert pool["spec"]["template"]["recordings"] == {"size": "1Gi", "claim": ""}
    asked = ("--set", "relays.recordings.size=20Gi", "--set", "relays.recordings.claim=calls")
    (pool,) = [body for body in template(*asked) if body["kind"] == "MediaRelayPool"]
    assert pool["spec"]["template"]["recordings"] == {"size": "20Gi", "claim": "calls"}


def test_the_documentation_of_values_is_complete() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    _same_keys(values, schema, "values")


def _same_keys(values: Any, schema: dict[str, Any], path: str) -> None:
    if isinstance(values, dict) and values and "properties" in schema:
        missing = set(schema["properties"]) - set(values) - {"global"}
        assert not missing, f"{path} lacks {sorted(missing)}"
        for key, inner in values.items():
            _same_keys(inner, schema["properties"][key], f"{path}.{key}")


def test_tls_and_websocket_are_served_where_they_are_wanted(template: Template) -> None:
    objects = template("--values", str(CHART / "ci/encrypted-values.yaml"))
    spec = find(objects, "StatefulSet", "pbx-signaling")["spec"]["template"]["spec"]
    values = {name: entry.get("value") for name, entry in environment(spec).items()}
    assert values["PBX_SIP_LISTEN"] == "0.0.0.0:5060,[::]:5060"
    assert values["PBX_SIP_TLS_LISTEN"] == "0.0.0.0:5061,[::]:5061"
    assert values["PBX_SIP_WS_LISTEN"] == "0.0.0.0:8088,[::]:8088"
    assert values["PBX_SIP_WSS_LISTEN"] == "0.0.0.0:8089,[::]:8089"
    assert values["PBX_SIP_TLS_CERT"] == "/etc/pbx/tls/tls.crt"
    assert values["PBX_SIP_TLS_CLIENT_CERTS"] == "optional"
    assert values["PBX_SIP_WS_ORIGINS"] == "https://phone.example.org"
    assert {"name": "tls", "secret": {"secretName": "sip-tls", "defaultMode": 0o440}} in spec["volumes"]
    ports = {port["name"]: port["port"] for port in find(objects, "Service", "pbx-signaling-tcp")["spec"]["ports"]}
    assert ports == {"sip-tcp": 5060, "sip-tls": 5061, "sip-ws": 8088, "sip-wss": 8089}
    assert [port["name"] for port in find(objects, "Service", "pbx-signaling-udp")["spec"]["ports"]] == ["sip-udp"]
    (policy,) = [
        body for body in objects if body["metadata"]["name"] == "pbx-signaling" and body["kind"] == "NetworkPolicy"
    ]
    opened = {entry["port"] for rule in policy["spec"]["ingress"] for entry in rule["ports"] if "from" not in rule}
    assert opened >= {5060, 5061, 8088, 8089}


def test_without_them_nothing_of_them_is_there(template: Template) -> None:
    spec = find(template(), "StatefulSet", "pbx-signaling")["spec"]["template"]["spec"]
    assert not [name for name in environment(spec) if "TLS" in name or "WS" in name]
    assert "tls" not in [volume["name"] for volume in spec["volumes"]]


def test_limits_that_the_chart_states_are_the_services_own(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of the chart that differs from the default in the code would be nobody's decision."""
    from pbx_events.settings import EventsSettings
    from pbx_registrar.settings import RegistrarSettings
    from pbx_signaling.settings import SignalingSettings

    names = (
        "CALLS_PER_S ACCOUNT_CALLS ACCOUNT_CALLS_PER_S SOURCE_CALLS SOURCE_CALLS_PER_S CALLEE_RINGING SOURCE_BURST "
        "SOURCE_REQUESTS_PER_S DIALOG_REQUESTS_PER_S SESSION_EXPIRES_S SESSION_MIN_SE_S SIP_REDIRECTS API_RATE "
        "DIGEST_ALGORITHMS DIGEST_QOP DIRECTORY_USERS DIRECTORY_DOUBT_S"
    )
    stated = {f"PBX_{name}" for name in names.split()}
    objects = template()
    seen: set[str] = set()
    services = (
        ("pbx-signaling", SignalingSettings),
        ("pbx-registrar", RegistrarSettings),
        ("pbx-events", EventsSettings),
    )
    for name, spec in pod_specs(objects):
        settings = dict(services).get(name.partition("/")[2])
        if settings is None:
            continue
        for variable, entry in environment(spec).items():
            if variable not in stated:
                continue
            field = settings.model_fields[variable.removeprefix("PBX_").lower()]
            default = field.get_default(call_default_factory=True)
            expected = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            assert entry["value"] in (expected, expected.removesuffix(".0")), variable
            seen.add(variable)
    assert seen == stated

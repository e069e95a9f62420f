"""The CRDs: generated, structural, and refusing what makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from pbx_operator.crd.definitions import all_definitions, media_relay_pool
from pbx_operator.crd.pool import MediaRelayPoolSpec
from pbx_operator.generate_crds import main, rendered

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = {"image": "relay:1", "redis": {"name": "pbx-redis"}}


def test_the_chart_holds_what_the_models_say() -> None:
    for name, text in rendered().items():
        assert (ROOT / "helm/sip-pbx/crds" / name).read_text() == text, "run `make crds`"


def test_check_names_what_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert "mediarelaypools.pbx.io.yaml" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0


@pytest.mark.parametrize("crd", all_definitions(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_a_crd_is_valid_and_structural(crd: dict[str, Any]) -> None:
    kubernetes_validate.validate(crd, "1.31", strict=True)
    _structural(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "schema")
    text = rendered()[f"{crd['metadata']['name']}.yaml"]
    assert "&id" not in text, "YAML aliases"
    assert yaml.safe_load(text) == crd


def _structural(node: dict[str, Any], path: str) -> None:
    if node.get("x-kubernetes-int-or-string"):
        assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}]
        assert "type" not in node
        return
    assert "type" in node, f"{path} has no type"
    for refused in ("$ref", "$defs", "anyOf", "title", "const"):
        assert refused not in node, f"{path} holds {refused}"
    for key, value in node.get("properties", {}).items():
        _structural(value, f"{path}.{key}")
    if "items" in node:
        _structural(node["items"], f"{path}[]")


def test_kubectl_scale_finds_its_paths() -> None:
    version = media_relay_pool()["spec"]["versions"][0]
    scale = version["subresources"]["scale"]
    assert scale["specReplicasPath"] == ".spec.replicas"
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    assert "replicas" in properties["spec"]["properties"]
    assert {"replicas", "selector"} <= set(properties["status"]["properties"])


def test_a_shards_place_cannot_be_changed() -> None:
    spec = all_definitions()[1]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for name in ("ports", "controlPorts"):
        rules = spec["properties"][name]["x-kubernetes-validations"]
        assert any(rule["rule"] == "self == oldSelf" for rule in rules)
    assert any("self.node == oldSelf.node" in rule["rule"] for rule in spec["x-kubernetes-validations"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ports": {"first": 30000, "last": 30007}, "slotsPerShard": 2}, "hold no shard"),
        ({"replicas": -1}, "greater than or equal to 0"),
        ({"replicas": 5000}, "less than or equal to 1000"),
        ({"template": {"image": "a b", "redis": {"name": "x"}}}, "pattern"),
        ({"template": {"redis": {"name": "Not_A_Name"}}}, "pattern"),
        ({"addressing": {"advertise": ["host.example"]}}, "no IP address"),
        ({"addressing": {"advertise": ["203.0.113.1 "]}}, "no IP address"),
        ({"addressing": {"advertise": ["224.0.0.1"]}}, "no phone can send"),
        ({"addressing": {"advertise": ["::"]}}, "no phone can send"),
        ({"placement": {"nodeSelector": {"a b": "c"}}}, "is no key"),
        ({"placement": {"nodeSelector": {"a": "c d"}}}, "pattern"),
        ({"template": {**TEMPLATE, "labels": {"-a": "b"}}}, "is no key"),
        ({"template": {**TEMPLATE, "labels": {"a": "b" * 64}}}, "at most 63"),
        ({"template": {**TEMPLATE, "resources": {"requests": {"cpu": "much"}}}}, "pattern"),
        ({"template": {**TEMPLATE, "resources": {"requests": {"cpu": "-1"}}}}, "pattern"),
        ({"template": {**TEMPLATE, "resources": {"limits": {"memory": "1 Gi"}}}}, "pattern"),
        ({"template": {**TEMPLATE, "env": [{"name": "PATH", "value": "/x"}]}}, "pattern"),
        ({"ports": {"first": 80, "last": 39999}}, "greater than or equal to 1024"),
    ],
)
def test_nonsense_is_refused_with_a_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MediaRelayPoolSpec.model_validate({"template": TEMPLATE, **change})


@pytest.mark.parametrize("amount", [2, "2", "500m", "1.5", "1Gi", "1e3", 268435456, "2.68435456e+08"])
def test_amounts_may_be_numbers_or_text(amount: object) -> None:
    spec = {"template": {**TEMPLATE, "resources": {"requests": {"cpu": amount}}}}
    assert MediaRelayPoolSpec.model_validate(spec).template.resources.requests["cpu"] == str(amount)
    schema = media_relay_pool()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    jsonschema.validate(spec, schema)


def test_nothing_is_written_that_the_api_server_drops() -> None:
    """`priority: 0` of a column is dropped; server-side apply then calls the next apply a conflict."""
    for crd in all_definitions():
        for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]:
            assert column.get("priority", 1) != 0


def test_the_schema_accepts_what_the_model_writes() -> None:
    schema = media_relay_pool()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    written = MediaRelayPoolSpec.model_validate({"template": TEMPLATE}).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    jsonschema.validate(written, schema)

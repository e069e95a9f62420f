"""Every probe of every scenario, read as the kubelet reads it; that of signaling run against signaling itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.kubelet.expansion import command_of, environment_of, probe_command
from support.product import Product, Settings, accounts

CHART = Path(__file__).resolve().parents[2] / "helm/sip-pbx"
SCENARIOS = sorted(CHART.glob("ci/*-values.yaml"))
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
Objects = list[dict[str, Any]]
Template = Callable[..., Objects]


def containers(objects: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    for body in objects:
        spec = body.get("spec", {}).get("template", {}).get("spec", {}) if body["kind"] != "MediaRelayPool" else {}
        for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
            yield f"{body['metadata']['name']}/{container['name']}", container


@pytest.mark.parametrize("address", ["10.1.2.3", "2001:db8::3"])
@pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_nothing_stays_unexpanded(values: Path, address: str, template: Template) -> None:
    """Neither in a variable, nor in a command, nor, where the kubelet expands least, in a probe."""
    for name, container in containers(template("--values", str(values))):
        names = {entry["name"] for entry in container.get("env") or ()}
        environment = environment_of(container, lambda source: address)
        texts = [*environment.values(), *command_of(container, environment)]
        hooks = [hook["exec"]["command"] for hook in (container.get("lifecycle") or {}).values() if "exec" in hook]
        probes = [container[kind]["exec"]["command"] for kind in PROBES if "exec" in container.get(kind, {})]
        texts += [part for command in hooks for part in command]
        texts += [part for command in probes for part in probe_command(container, command)]
        for text in texts:
            assert not set(re.findall(r"\$\((\w+)\)", text)) & names, f"{name}: {text}"
        for command in probes:
            assert all(probe_command(container, command)), f"{name}: an empty argument"
            assert probe_command(container, command) == list(command), f"{name}: a probe that depends on expansion"


@pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_every_probe_names_a_port_that_its_container_has(values: Path, template: Template) -> None:
    for name, container in containers(template("--values", str(values))):
        ports = {entry["name"]: entry["containerPort"] for entry in container.get("ports") or ()}
        for kind in PROBES:
            get = container.get(kind, {}).get("httpGet")
            assert get is None or get["port"] in ports or get["port"] in ports.values(), f"{name}: {kind}"


@pytest.mark.integration
def test_the_probe_of_signaling_passes_against_signaling_itself(template: Template) -> None:
    (container,) = [c for name, c in containers(template()) if name == "pbx-signaling/signaling"]
    command = probe_command(container, container["readinessProbe"]["exec"]["command"])
    assert command[0] == "python"
    with Product(Settings(accounts(1))) as product:
        addresses = next(p.addresses for p in product.processes if p.name == "signaling")
        told = {"PBX_SIP_LISTEN": addresses["sip"], "PBX_HTTP_LISTEN": addresses["http"].removeprefix("http://")}
        run = [sys.executable, *command[1:]]
        done = subprocess.run(run, env=told, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        told["PBX_HTTP_LISTEN"] = "127.0.0.1:9"
        done = subprocess.run(run, env=told, capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, "/readyz" in done.stderr) == (1, True)

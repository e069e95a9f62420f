"""The commands of the documents that are for a cluster, held against the rendered chart: what they name is there.

`helm` is run for real, as `helm template` with the same values; what `kubectl exec` runs in a pod is run here with the
environment that the chart gives to that container. `tests/k8s` has a cluster for what they do to it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.documents import ROOT, Command, all_commands
from support.kubelet.expansion import environment_of
from support.product import Product, Settings, accounts

Objects = list[dict[str, Any]]
Template = Callable[..., Objects]
KINDS = {
    "deploy": "Deployment",
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "mediarelaypool": "MediaRelayPool",
    "mediarelaypools": "MediaRelayPool",
    "secret": "Secret",
    "pvc": "PersistentVolumeClaim",
    "svc": "Service",
    "cronjob": "CronJob",
}
"""Words of kubectl to kinds that the chart renders."""
OTHERS = {"pod", "pods", "node", "nodes", "relayshards", "lease", "certificate"}
"""Kinds of the cluster itself, of the operator, and of cert-manager."""
MADE_ELSEWHERE = {"pbx-operator": "the operator's lease", "data-pbx-redis-0": "the claim of an old chart"}
VERBS = {
    "get", "describe", "scale", "delete", "cordon", "uncordon", "drain", "apply", "patch", "logs", "exec", "cp", "top",
    "autoscale", "annotate", "create", "edit", "rollout", "port-forward", "label",
}  # fmt: skip
CAPITALS = re.compile(r"[A-Z][A-Z-]*\Z")
"""A placeholder."""


def kubectl() -> list[Command]:
    return [each for each in all_commands("kubectl") if " " in each.text]


def plain(command: Command) -> list[str]:
    """The words of kubectl, without the namespace, a pipe and a redirection."""
    words = command.words[1:]
    for sign in ("|", ">", "<"):
        words = words[: words.index(sign)] if sign in words else words
    if "-n" in words:
        at = words.index("-n")
        assert words[at + 1] in ("pbx", "NAMESPACE"), command
        words = words[:at] + words[at + 2 :]
    return words


@pytest.mark.parametrize("command", kubectl(), ids=str)
def test_what_kubectl_is_asked_for_is_what_the_chart_makes(command: Command, template: Template) -> None:
    objects = template()
    named = {(body["kind"], body["metadata"]["name"]) for body in objects}
    verb, *words = plain(command)
    assert verb in VERBS, command
    for kind, name in _targets(words[: words.index("--")] if "--" in words else words):
        if kind in KINDS and name and not CAPITALS.match(name) and name not in MADE_ELSEWHERE:
            is_named_here = verb == "create" or (KINDS[kind], name) in named
            assert is_named_here, f"{command}: the chart makes no {kind} {name}"
        assert kind in KINDS or kind in OTHERS, f"{command}: {kind}?"
    for at, word in enumerate(words):
        if word == "-l":
            assert _selects(objects, words[at + 1]), f"{command}: no pod has this label"
        if word == "-p":
            data = json.loads(words[at + 1])["stringData"]
            (secret,) = [body for body in objects if body["metadata"]["name"] == "pbx-secrets"]
            assert data.keys() <= (secret.get("data") or {}).keys() | (secret.get("stringData") or {}).keys(), command


def _targets(words: list[str]) -> Iterator[tuple[str, str]]:
    """(kind, name) of each thing that is named; the name empty for all."""
    plain_words = [word for word in words if not word.startswith("-")]
    for at, word in enumerate(plain_words):
        if "/" in word and not word.startswith("/") and ":" not in word and "=" not in word:
            kind, _, name = word.partition("/")
            if kind in KINDS:
                yield kind, name
        elif at == 0:
            following = plain_words[1] if len(plain_words) > 1 else ""
            for kind in word.split(","):
                if kind in KINDS or kind in OTHERS:
                    yield kind, "" if "/" in following or "=" in following else following


def _selects(objects: Objects, selector: str) -> bool:
    wanted = dict(part.split("=", 1) for part in selector.split(","))
    templates = [body["spec"].get("template", {}) for body in objects if isinstance(body.get("spec"), dict)]
    return any(wanted.items() <= (each.get("metadata", {}).get("labels") or {}).items() for each in templates)


def helm() -> list[Command]:
    return [each for each in all_commands("helm") if each.words[1] in ("install", "upgrade") and "--" in each.text]


@pytest.mark.parametrize("command", helm(), ids=str)
def test_helm_takes_the_values_of_a_page(command: Command, template: Template, tmp_path: Path) -> None:
    words = command.words[2:]
    chosen = [f"{word}={following}" for word, following in zip(words, [*words[1:], ""], strict=True) if word == "--set"]
    values = [following for word, following in itertools.pairwise(words) if word == "--values"]
    arguments = [part for each in chosen for part in each.split("=", 1)]
    for name in values:
        path = ROOT / name
        if name == "my-values.yaml":  # the reader's own
            path = tmp_path / name
            path.write_text("{}\n", encoding="utf-8")
        assert path.exists(), f"{command}: there is no {name}"
        arguments += ["--values", str(path)]
    assert template(*arguments)


def executed() -> list[Command]:
    return [each for each in kubectl() if " exec " in each.text and "sip-pbx" in each.words]


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(Settings(accounts(0))) as running:
        yield running


@pytest.mark.integration
@pytest.mark.parametrize("command", executed(), ids=str)
def test_a_verb_in_a_pod_finds_the_services_by_the_pods_own_environment(
    command: Command, product: Product, template: Template, tmp_path: Path
) -> None:
    words = plain(command)
    (kind, name), behind = next(iter(_targets(words[1 : words.index("--")]))), words[words.index("--") + 1 :]
    (body,) = [b for b in template() if (b["kind"], b["metadata"]["name"]) == (KINDS[kind], name)]
    container = body["spec"]["template"]["spec"]["containers"][0]
    told = {key: value for key, value in environment_of(container, lambda source: "10.1.2.3").items() if value}
    grpc = {each.name: each.addresses["grpc"] for each in product.processes if "grpc" in each.addresses}
    # Where the chart says that a service is, it is here: what the pod is not told of stays unknown.
    redis = next(each.addresses["redis"] for each in product.processes if each.name == "redis")
    here = {"PBX_REGISTRAR_ADDRESS": grpc["registrar"], "PBX_API": product.http, "PBX_REDIS_URL": redis}
    environment = {key: here[key] for key in here if key in told}
    if any(each.get("containerPort") == 8080 for each in container.get("ports") or ()):
        environment["PBX_API"] = product.http  # the default is the pod itself
    environment |= {"PATH": os.environ["PATH"], "PBX_DATA": str(product.data)}
    behind[0] = str(Path(sys.executable).with_name(behind[0]))
    archive = None
    if "restore" in behind:
        made = [behind[0], "backup", "-"]
        archive = subprocess.run(made, env=environment, capture_output=True, timeout=120, check=True).stdout
        environment["PBX_DATA"] = str(tmp_path)
    if behind[1:3] == ["account", "add"]:
        behind[3] = f"{os.getpid()}{behind[3]}"
    behind = [word.replace("CALL", "01") for word in behind]
    done = subprocess.run(behind, env=environment, input=archive, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

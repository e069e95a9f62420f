"""Secrets: services and Redis agree on the password whatever characters it has, and whoever made the Secret.

Nothing is looked up here: `helm template` finds nothing in a cluster, as Argo CD and Flux do not.
"""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pbx_runtime.redis_url import parse_redis_url
from pbx_runtime.settings import ServiceSettings
from support.kubelet.expansion import command_of, environment_of, probe_command
from support.ports import free_port
from support.redis_server import executable

Objects = list[dict[str, Any]]
Template = Callable[..., Objects]
PASSWORDS = (
    "plain",
    "p@ss/word",
    "a#b?c",
    "100%25",
    "x:y",
    'say "hi"',
    "back\\slash $(HOME) $HOME `id`",
    "p w\té",
    "-n",
    "two\nlines",
)
OWN = ("--set", "existingSecret=mine")
WORKLOADS = ("pbx-registrar", "pbx-signaling", "pbx-events")


def containers(objects: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    for body in objects:
        if body["kind"] in ("Deployment", "StatefulSet"):
            for container in body["spec"]["template"]["spec"]["containers"]:
                yield body["metadata"]["name"], container


def source_of(objects: Objects, **more: Mapping[str, str]) -> Callable[[dict[str, Any]], str | None]:
    """Reads Secrets that were rendered, and those that somebody made."""
    known: dict[str, Mapping[str, str]] = dict(more)
    for body in objects:
        if body["kind"] == "Secret":
            data = {key: base64.b64decode(value).decode() for key, value in (body.get("data") or {}).items()}
            known[body["metadata"]["name"]] = {**data, **(body.get("stringData") or {})}

    def read(source: dict[str, Any]) -> str | None:
        if "secretKeyRef" in source:
            return known[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        return "10.1.2.3"

    return read


def redis_of(container: dict[str, Any], source: Callable[[dict[str, Any]], str | None],
             monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:  # fmt: skip
    """Host and password as the service reads them."""
    for name in [name for name in os.environ if name.startswith(("PBX_", "DATABASE_"))]:
        monkeypatch.delenv(name)
    for name, value in environment_of(container, source).items():
        if not name.endswith("_FILE"):  # mounted in the pod
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("PBX_GRPC_KEY", "k" * 48)
    url = parse_redis_url(ServiceSettings.load().redis_url)
    return url.host, url.password


@pytest.mark.parametrize("password", PASSWORDS)
def test_every_service_reads_the_password_of_an_existing_secret(
    password: str, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = template(*OWN)
    source = source_of(objects, mine={"redis-password": password, "nonce-key": "00" * 32, "api-token": "t"})
    found = {name: redis_of(c, source, monkeypatch) for name, c in containers(objects) if name in WORKLOADS}
    assert found == dict.fromkeys(WORKLOADS, ("pbx-redis", password))


def test_relays_read_the_same(template: Template) -> None:
    (pool,) = [body for body in template(*OWN) if body["kind"] == "MediaRelayPool"]
    assert pool["spec"]["template"]["redis"] == {"name": "pbx-redis-url", "key": "url"}
    assert pool["spec"]["template"]["redisPassword"] == {"name": "mine", "key": "redis-password"}


def test_generated_and_external_passwords(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = template()
    source = source_of(objects)
    made = source({"secretKeyRef": {"name": "pbx-secrets", "key": "redis-password"}})
    found = {name: redis_of(c, source, monkeypatch) for name, c in containers(objects) if name in WORKLOADS}
    assert found == dict.fromkeys(WORKLOADS, ("pbx-redis", made))
    external = ("--set", "redis.enabled=false", "--set", "redis.externalUrl=rediss://:in-it@r.example:6380/0")
    objects = template(*external)
    found = {name: redis_of(c, source_of(objects), monkeypatch) for name, c in containers(objects) if name in WORKLOADS}
    assert found == dict.fromkeys(WORKLOADS, ("r.example", "in-it"))
    objects = template(*external, "--set", "redis.passwordSecret.name=theirs")
    source = source_of(objects, theirs={"password": "be/side"})
    found = {name: redis_of(c, source, monkeypatch) for name, c in containers(objects) if name in WORKLOADS}
    assert found == dict.fromkeys(WORKLOADS, ("r.example", "be/side"))


def test_the_url_of_an_existing_secret_is_left_as_it_is(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = template(*OWN, "--set", "redis.existingSecret=url")
    source = source_of(objects, mine={"redis-password": "p", "nonce-key": "00" * 32, "api-token": "t"},
                       url={"url": "redis://:p%2Fq@elsewhere/0"})  # fmt: skip
    found = {name: redis_of(c, source, monkeypatch) for name, c in containers(objects) if name in WORKLOADS}
    assert found == dict.fromkeys(WORKLOADS, ("elsewhere", "p/q"))


@pytest.mark.parametrize("password", PASSWORDS)
def test_redis_itself_takes_the_password_and_its_probes_pass(password: str, template: Template, tmp_path: Path) -> None:
    """The container's own command and probes, run as the kubelet would."""
    objects = template(*OWN)
    (container,) = [c for name, c in containers(objects) if name == "pbx-redis"]
    port = free_port()
    environment = environment_of(container, source_of(objects, mine={"redis-password": password}))
    assert environment == {"REDISCLI_AUTH": password}
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "redis-server").symlink_to(executable())
    cli = Path(executable()).with_name("redis-cli")
    # The pod has a network and a volume of its own: another port and directory stand for them.
    (programs / "redis-cli").write_text(f'#!/bin/sh\nexec {cli} -p {port} "$@"\n')
    (programs / "redis-cli").chmod(0o755)
    command = [
        part.replace("dir /data", f"dir {tmp_path}\nport {port}\nbind 127.0.0.1")
        for part in command_of(container, environment)
    ]
    seen = {"PATH": f"{programs}:{os.environ['PATH']}", **environment}
    with subprocess.Popen(command, env=seen, stdout=subprocess.DEVNULL) as server:
        try:
            for name in ("startupProbe", "readinessProbe", "livenessProbe"):
                probe = probe_command(container, container[name]["exec"]["command"])
                deadline = time.monotonic() + 20
                while subprocess.run(probe, env=seen, capture_output=True, check=False).returncode != 0:
                    assert time.monotonic() < deadline, name
                    time.sleep(0.1)
            wrong = subprocess.run([cli, "-p", str(port), "ping"], env={"REDISCLI_AUTH": "wrong"}, capture_output=True,
                                   text=True, check=False)  # fmt: skip
            assert "PONG" not in wrong.stdout
            ask = [programs / "redis-cli", "config", "get", "maxmemory"]
            limit = subprocess.run(ask, env=seen, capture_output=True, text=True, check=True)
            assert limit.stdout.split()[1] == str(640 * 1024 * 1024)
        finally:
            server.terminate()
    assert server.returncode == 0, "SIGTERM reaches Redis itself: it writes its file and ends"


def digests(objects: Objects) -> set[str]:
    pods = [body["spec"]["template"]["metadata"] for body in objects if body["kind"] in ("Deployment", "StatefulSet")]
    found = {pod["annotations"]["checksum/secrets"] for pod in pods if "annotations" in pod}
    (pool,) = [body for body in objects if body["kind"] == "MediaRelayPool"]
    return found | {pool["spec"]["template"]["annotations"]["checksum/secrets"]}


def test_the_checksum_is_one_and_of_the_secrets_that_are_rendered(template: Template, tmp_path: Path) -> None:
    (one,) = digests(template())
    (other,) = digests(template("--set", "logLevel=debug"))
    assert one != other, "each rendering without a cluster makes new secrets, and says so"
    (first,) = digests(template(*OWN))
    (second,) = digests(template(*OWN, "--set", "redis.persistence.size=9Gi", "--set", "redis.maxMemory=1gb"))
    assert first == second, "nothing that a pod reads from a Secret has changed"
    (third,) = digests(template(*OWN, "--set", "redis.enabled=false", "--set", "redis.externalUrl=redis://:x@h/0"))
    assert third != first

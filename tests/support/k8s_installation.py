"""The chart in a namespace of a test's cluster, as an administrator handles it: helm, kubectl, calls on relays."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from support.control_plane import TESTS, ControlPlane

CHART: Final = TESTS.parent / "helm/sip-pbx"
RELAYS: Final = "app.kubernetes.io/component=media-relay,pbx.io/pool=default"
Body = dict[str, Any]


def is_ready(pod: Body) -> bool:
    """Whether all of its readiness probes pass."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class Installation:
    """One release, named like its namespace's chart: pbx."""

    def __init__(self, cluster: ControlPlane, helm: str, namespace: str, release: str = "pbx") -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.release = release
        self._helm = helm

    # --- helm

    def helm(self, *arguments: str, check: bool = True) -> str:
        """A verb of helm. Raises AssertionError with what it says."""
        return self.cluster.tool(self._helm, *arguments, "--namespace", self.namespace, check=check)

    def install(self, *arguments: str) -> None:
        """`helm install`."""
        self.helm("install", self.release, str(CHART), "--create-namespace", *arguments)

    def upgrade(self, *arguments: str) -> None:
        """`helm upgrade` with the values of before and some more."""
        self.helm("upgrade", self.release, str(CHART), "--reset-then-reuse-values", *arguments)

    def uninstall(self) -> None:
        """All of it, and its namespace."""
        self.helm("uninstall", self.release, "--wait=false", check=False)
        pods = ("delete", "pods", "--all", "--grace-period=1", "--wait=false")
        self.cluster.kubectl("-n", self.namespace, *pods, check=False)
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false", check=False)

    # --- what is there

    def pods(self, selector: str = "") -> list[Body]:
        """Pods."""
        return self.cluster.items("pods", self.namespace, selector)

    def relays(self) -> list[Body]:
        """Pods of relays."""
        return self.pods(RELAYS)

    def shards(self) -> dict[str, Body]:
        """RelayShards by name."""
        return {body["metadata"]["name"]: body for body in self.cluster.items("relayshards", self.namespace)}

    def pool(self) -> Body:
        """The pool."""
        return self.cluster.get("mediarelaypool", "default", self.namespace)

    def condition(self, kind: str) -> Body:
        """A condition of the pool; empty: not there yet."""
        conditions = self.pool().get("status", {}).get("conditions") or ()
        found: Body = next((c for c in conditions if c["type"] == kind), {})
        return found

    def events(self, reason: str) -> list[str]:
        """Messages of events of the pool."""
        return self.cluster.events(self.namespace, reason)

    def wait_until_ready(self, relays: int = 2) -> None:
        """Every service and so many relays are Ready, by their own probes."""
        self.cluster.until(
            f"{relays} relays and all services of {self.namespace}", lambda: self._all_ready(relays), 180
        )

    def _all_ready(self, relays: int) -> bool:
        pods = self.pods()
        components = {pod["metadata"]["labels"].get("app.kubernetes.io/component") for pod in pods if is_ready(pod)}
        needed = {"registrar", "signaling", "events", "operator", "redis", "media-relay"}
        ready = [pod for pod in self.relays() if is_ready(pod)]
        return needed <= components and len(ready) == relays == self.pool()["status"].get("readyReplicas")

    # --- what a person does

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """In the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, check=check)

    def change(self, **spec: Any) -> None:
        """Edit the pool."""
        self.kubectl("patch", "mediarelaypool", "default", "--type=merge", "-p", json.dumps({"spec": spec}))

    def secret(self, key: str) -> str:
        """A key of the chart's own Secret."""
        data = self.cluster.get("secret", "pbx-secrets", self.namespace)["data"]
        return base64.b64decode(data[key]).decode()

    @contextlib.contextmanager
    def calls(self, pod: Body, count: int) -> Iterator[None]:
        """So many calls on a relay, held as a signaling instance holds them."""
        control = pod["metadata"]["annotations"]["pbx.io/control-ports"].split("-")[0]
        address = f"{pod['status']['podIP']}:{control}"
        command = [sys.executable, "-m", "support.held_calls", address, str(count)]
        environment = {"PYTHONPATH": str(TESTS), "PBX_GRPC_KEY": self.secret("grpc-key"), "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(
            self.cluster.inside(*command), stdout=subprocess.PIPE, text=True, env=environment
        ) as holder:
            assert holder.stdout is not None
            told = next((line for line in holder.stdout if line.startswith("holding")), "nothing")
            assert told.strip() == f"holding {count}", told
            try:
                yield
            finally:
                holder.terminate()

    def ended(self, pod: Body) -> str:
        """What the kubelet noted at the end of a pod; empty: it has not ended."""
        log = Path(self.cluster.home / "log/probes.log")
        lines = log.read_text().splitlines() if log.exists() else []
        uid = f" {pod['metadata']['uid']} "
        return "\n".join(line for line in lines if uid in line and ("ended" in line or "SIGKILL" in line))

"""A real Kubernetes control plane in a network namespace of its own, with nodes whose kubelets are `support.kubelet`.

etcd, kube-apiserver (RBAC, service accounts), controller manager and scheduler as processes, started and ended by their
pids; nothing of it can be reached from outside of the namespace. Needs root, and the programs that `make k8s-tools`
builds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from support.kubelet.sandbox import BRIDGE, PREFIX

TESTS: Final = Path(__file__).resolve().parents[1]
API: Final = "10.77.0.1"
PORT: Final = 6443
READY_S: Final = 120
USERS: Final = {
    "admin": "/O=system:masters/CN=admin",
    "kcm": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
}
Body = dict[str, Any]


def missing_for(version: str, cache: Path) -> str:
    """Why no control plane of this version can be started here; empty: it can."""
    if os.geteuid() != 0:
        return "root is needed for the nodes' network namespaces"
    if not shutil.which("unshare") or not shutil.which("ip"):
        return "unshare and ip are needed"
    programs = [
        cache / "etcd",
        *(
            cache / version / name
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
        ),
    ]
    absent = [str(path) for path in programs if not path.exists()]
    return f"{', '.join(absent)}: `make k8s-tools` builds them" if absent else ""


class ControlPlane:
    """Started by `start`, ended by `stop`."""

    def __init__(self, version: str, cache: Path, home: Path) -> None:
        self.version = version
        self.home = home
        self._cache = cache
        self._holder: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    # --- life

    def start(self) -> None:
        """All of it, without nodes."""
        for name in ("pki", "log", "etcd"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        pid = self._holder.pid
        _until(lambda: os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"), 10, "a namespace")
        for command in (
            "ip link set lo up", f"ip link add {BRIDGE} type bridge", f"ip address add {API}/{PREFIX} dev {BRIDGE}",
            f"ip link set {BRIDGE} up", f"ip route add 203.0.113.0/24 dev {BRIDGE}",
        ):  # fmt: skip
            self.run(*command.split())
        self._make_pki()
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self._spawn(
            "etcd", self._cache / "etcd", f"--data-dir={self.home}/etcd", "--unsafe-no-fsync",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        )  # fmt: skip
        self._start_api()
        pki, here = self.home / "pki", self._cache / self.version
        for name, program in (("kcm", "kube-controller-manager"), ("scheduler", "kube-scheduler")):
            config = f"{pki}/{name}.kubeconfig"
            more = () if name == "scheduler" else (
                f"--service-account-private-key-file={pki}/sa.key", f"--root-ca-file={pki}/ca.crt",
                "--use-service-account-credentials=true", "--node-monitor-grace-period=20s",
            )  # fmt: skip
            self._spawn(
                name, here / program, f"--kubeconfig={config}", "--leader-elect=false", "--bind-address=127.0.0.1",
                f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}", *more,
            )  # fmt: skip
        _until(
            lambda: bool(self.get("serviceaccount", "default", "default")),
            READY_S,
            "a default service account",
            self._log,
        )

    def _start_api(self) -> None:
        pki = self.home / "pki"
        self._spawn(
            "apiserver", self._cache / self.version / "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
            f"--bind-address={API}", f"--advertise-address={API}", f"--secure-port={PORT}",
            f"--tls-cert-file={pki}/api.crt", f"--tls-private-key-file={pki}/api.key", f"--client-ca-file={pki}/ca.crt",
            f"--service-account-key-file={pki}/sa.key", f"--service-account-signing-key-file={pki}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true", "--endpoint-reconciler-type=none",
        )  # fmt: skip
        _until(
            lambda: self.kubectl("get", "--raw", "/readyz", check=False) == "ok", READY_S, "the API server", self._log
        )

    def stop(self) -> None:
        """In the order in which nobody misses anybody."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()

    def start_kubelets(self) -> None:
        """The stand-in for the kubelets of all nodes, of those to come too."""
        environment = {"KUBELET_API_HOST": API, "KUBELET_API_PORT": str(PORT), "PYTHONPATH": str(TESTS)}
        self._spawn("kubelet", Path(sys.executable), "-m", "support.kubelet", str(self.home), environment=environment)

    # --- what tests do

    def inside(self, *command: str) -> list[str]:
        """The command line that runs something in the cluster's network."""
        assert self._holder is not None
        return ["nsenter", "-t", str(self._holder.pid), "-n", *command]

    def run(self, *command: str) -> None:
        """A short command in the cluster's network."""
        subprocess.run(self.inside(*command), check=True, capture_output=True)

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        """Its standard output. Raises AssertionError with what it says where it fails and `check` is set."""
        return self.tool(str(self._cache / self.version / "kubectl"), *arguments, given=given, check=check)

    def tool(self, program: str, *arguments: str, given: str | None = None, check: bool = True) -> str:
        """A program with the administrator's rights."""
        environment = {**os.environ, "KUBECONFIG": f"{self.home}/pki/admin.kubeconfig", "HOME": str(self.home)}
        done = subprocess.run(
            self.inside(program, *arguments), input=given, capture_output=True, text=True, check=False, timeout=300,
            env=environment,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{Path(program).name} {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def refusal(self, body: Body) -> str:
        """What the API says against an object."""
        environment = {**os.environ, "KUBECONFIG": f"{self.home}/pki/admin.kubeconfig"}
        program = str(self._cache / self.version / "kubectl")
        done = subprocess.run(
            self.inside(program, "create", "--dry-run=server", "-f", "-"), input=yaml.safe_dump(body), text=True,
            capture_output=True, check=False, env=environment,
        )  # fmt: skip
        return done.stderr if done.returncode else ""

    def apply(self, *bodies: Body, arguments: tuple[str, ...] = ()) -> None:
        """`kubectl apply`."""
        self.kubectl("apply", *arguments, "-f", "-", given=yaml.safe_dump_all(bodies))

    def get(self, kind: str, name: str, namespace: str) -> Body:
        """An object; empty: not there."""
        text = self.kubectl("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found")
        body: Body = json.loads(text) if text else {}
        return body

    def items(self, kind: str, namespace: str, selector: str = "") -> list[Body]:
        """Objects of a kind."""
        more = ("-l", selector) if selector else ()
        found: list[Body] = json.loads(self.kubectl("-n", namespace, "get", kind, *more, "-o", "json"))["items"]
        return found

    def events(self, namespace: str, reason: str) -> list[str]:
        """Messages of the events with this reason."""
        return [event["message"] for event in self.items("events", namespace) if event["reason"] == reason]

    def until(self, what: str, condition: Callable[[], Any], timeout_s: float = READY_S) -> Any:
        """Wait; the value that was true."""
        return _until(condition, timeout_s, what, self._log)

    def add_node(self, number: int, **fields: Any) -> None:
        """A node with a kubelet, in zone a (odd) or b."""
        name = f"n{number}"
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
                  "topology.kubernetes.io/zone": "ba"[number % 2]}  # fmt: skip
        meta = {"name": name, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {"providerID": f"test://{name}"}})
        room = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi", **fields}
        addresses = [{"type": "InternalIP", "address": f"10.77.1.{number}"},
                     {"type": "ExternalIP", "address": f"203.0.113.{number}"}]  # fmt: skip
        status = {"capacity": room, "allocatable": room, "addresses": addresses}
        self.kubectl("patch", "node", name, "--subresource=status", "-p", json.dumps({"status": status}))

    def add_volumes(self, count: int) -> None:
        """A storage class whose volumes may grow, and some volumes of it."""
        self.apply(
            {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "test/none",
             "metadata": {"name": "test", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
             "allowVolumeExpansion": True},
            *({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"volume-{number}"},
               "spec": {"capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "test",
                        "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": f"/mnt/{number}"}}}
              for number in range(count)),
        )  # fmt: skip

    # --- parts

    def _spawn(self, name: str, program: Path, *arguments: str, environment: Mapping[str, str] = {}) -> None:
        with (self.home / "log" / f"{name}.log").open("ab") as log:
            command = self.inside(str(program), *arguments)
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        self._processes.append(process)

    def _log(self) -> str:
        """The ends of the logs, for a failure's message."""
        parts = []
        for path in sorted((self.home / "log").glob("*.log")):
            with contextlib.suppress(OSError):
                parts.append(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}")
        return "\n".join(parts)

    def _make_pki(self) -> None:
        pki = self.home / "pki"

        def openssl(*arguments: str) -> None:
            subprocess.run(["openssl", *arguments], cwd=pki, check=True, capture_output=True)

        openssl("genrsa", "-out", "ca.key", "2048")
        openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=test-ca", "-days", "30", "-out", "ca.crt")
        openssl("genrsa", "-out", "sa.key", "2048")
        names = f"subjectAltName=DNS:kubernetes.default.svc,DNS:kubernetes,IP:{API},IP:127.0.0.1\n"
        for name, subject in {"api": "/CN=kube-apiserver", **USERS}.items():
            extensions = "extendedKeyUsage=serverAuth,clientAuth\n" + (names if name == "api" else "")
            (pki / f"{name}.ext").write_text(extensions)
            openssl("genrsa", "-out", f"{name}.key", "2048")
            openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                    "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.crt")  # fmt: skip
        for name in USERS:
            cluster = {"server": f"https://{API}:{PORT}", "certificate-authority": f"{pki}/ca.crt"}
            user = {"client-certificate": f"{pki}/{name}.crt", "client-key": f"{pki}/{name}.key"}
            config = {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "t", "cluster": cluster}],
                      "users": [{"name": name, "user": user}], "current-context": "t",
                      "contexts": [{"name": "t", "context": {"cluster": "t", "user": name}}]}  # fmt: skip
            (pki / f"{name}.kubeconfig").write_text(yaml.safe_dump(config))


def _until(condition: Callable[[], Any], timeout_s: float, what: str, explain: Callable[[], str] = lambda: "") -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}\n{explain()}"
        time.sleep(0.5)
    return value


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and wait."""
    process.send_signal(signal.SIGTERM)
    process.wait(20)

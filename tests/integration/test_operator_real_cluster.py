"""The operator's behaviours against a real API server, where one is reachable; otherwise not run, by name.

KUBECONFIG names a cluster for tests, or kube-apiserver and etcd stand in KUBEBUILDER_ASSETS or on the PATH. The test
binds pods and marks them running in place of scheduler and kubelet, on nodes that it makes itself.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("pbx_operator", reason="operator not installed: make setup")

from prometheus_client import CollectorRegistry

from pbx_operator.apply import ApiServer
from pbx_operator.clients.relay import FakeRelayControl
from pbx_operator.crd.definitions import all_definitions
from pbx_operator.credentials import find_access
from pbx_operator.kube import Kinds, KubeError
from pbx_operator.observed import RelayReport
from pbx_operator.policy import Policy
from pbx_operator.reconcile import Reconciler, Scope
from support.fake_kube import node, pool
from support.operator_rig import QuietObserver
from support.ports import free_port

pytestmark = pytest.mark.integration
ASSETS = os.environ.get("KUBEBUILDER_ASSETS", "")
TOKEN = secrets.token_hex(16)


def program(name: str) -> str:
    return shutil.which(name, path=f"{ASSETS}:{os.environ['PATH']}") or ""


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any, Any]]:
    """URL, headers and TLS of an API server."""
    if os.environ.get("KUBECONFIG"):
        found = find_access()
        yield found.url, found.headers, found.ssl
        return
    if not (program("etcd") and program("kube-apiserver")):
        pytest.skip("not run: no API server (KUBECONFIG), and no kube-apiserver with etcd (KUBEBUILDER_ASSETS, PATH)")
    yield from _own_server(tmp_path_factory.mktemp("api"))


def _own_server(where: Path) -> Iterator[tuple[str, Any, Any]]:
    import ssl
    import urllib.request

    store, peer, port = free_port(), free_port(), free_port()
    (where / "tokens.csv").write_text(f'{TOKEN},test,test,"system:masters"\n')
    subprocess.run(["openssl", "genrsa", "-out", where / "sa.key", "2048"], check=True, capture_output=True)
    etcd = f"--data-dir={where}/etcd --listen-client-urls=http://127.0.0.1:{store} " \
        f"--advertise-client-urls=http://127.0.0.1:{store} --listen-peer-urls=http://127.0.0.1:{peer}"  # fmt: skip
    server = f"--etcd-servers=http://127.0.0.1:{store} --secure-port={port} --bind-address=127.0.0.1 " \
        f"--cert-dir={where}/certs --token-auth-file={where}/tokens.csv --service-account-key-file={where}/sa.key " \
        f"--service-account-signing-key-file={where}/sa.key --service-account-issuer=https://test " \
        "--disable-admission-plugins=ServiceAccount --authorization-mode=RBAC"  # fmt: skip
    with (where / "log").open("wb") as log:
        started = [
            subprocess.Popen([program("etcd"), *etcd.split()], stdout=log, stderr=log),
            subprocess.Popen([program("kube-apiserver"), *server.split()], stdout=log, stderr=log),
        ]
        trust = ssl._create_unverified_context()  # its certificate is its own
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"https://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    request = urllib.request.Request(f"{url}/readyz", headers=headers)
                    urllib.request.urlopen(request, context=trust, timeout=2).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield url, (lambda: headers), trust
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(20)


@pytest.fixture
async def cluster(access: tuple[str, Any, Any]) -> AsyncIterator[tuple[ApiServer, str]]:
    """The CRDs, two nodes and a namespace of our own."""
    namespace = f"pbx-test-{secrets.token_hex(4)}"
    async with ApiServer(*access) as api:
        for crd in all_definitions():
            await _ignore_conflict(api, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        await _ignore_conflict(api, "/api/v1/namespaces", {"metadata": {"name": namespace}})
        for number in (1, 2):
            body = node(f"pbx-test-{number}", number)
            await _ignore_conflict(api, "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", **body})
            await api.patch(Kinds.NODE, "", f"pbx-test-{number}", {"status": body["status"]}, status=True)
        try:
            yield api, namespace
        finally:
            await api._call("DELETE", f"/api/v1/namespaces/{namespace}")
            for number in (1, 2):
                await api._call("DELETE", f"/api/v1/nodes/pbx-test-{number}")


async def _ignore_conflict(api: ApiServer, path: str, body: dict[str, Any]) -> None:
    try:
        await api._call("POST", path, body)
    except KubeError as error:
        if error.status != 409:
            raise


def manifest(namespace: str, **spec: Any) -> dict[str, Any]:
    body = pool(placement={"nodeSelector": {"topology.kubernetes.io/zone": "a"}}, **spec)
    body["metadata"] = {"name": "default", "namespace": namespace}
    return {"apiVersion": "pbx.io/v1alpha1", "kind": "MediaRelayPool", **body}


async def test_the_api_server_refuses_nonsense_with_our_words(cluster: tuple[ApiServer, str]) -> None:
    api, namespace = cluster
    for spec, message in (
        ({"ports": {"first": 30001, "last": 30400}}, "multiple of 8"),
        ({"ports": {"first": 30000, "last": 30007}, "slotsPerShard": 2}, "hold no shard"),
    ):
        with pytest.raises(KubeError, match=message):
            await api.create(Kinds.POOL, manifest(namespace, **spec))


async def test_scale_two_five_three(cluster: tuple[ApiServer, str]) -> None:
    api, namespace = cluster
    relays = FakeRelayControl()
    observer = QuietObserver(CollectorRegistry())
    reconciler = Reconciler(
        api, relays, observer, lambda: datetime.now(UTC), Policy(images=("relay",)), scope=Scope(namespace)
    )
    await api.create(Kinds.POOL, manifest(namespace, replicas=2, drain={"deadlineSeconds": 600}))

    async def settle() -> dict[str, Any]:
        for _ in range(8):
            await reconciler.run_once()
            await kubelet()
        await reconciler.run_once()
        return {body["metadata"]["name"]: body["spec"] for body in await api.list(Kinds.SHARD, namespace)}

    async def kubelet() -> None:
        for pod in await api.list(Kinds.POD, namespace):
            where = pod["metadata"]["annotations"]["pbx.io/node"]
            if "deletionTimestamp" in pod["metadata"]:
                await api.delete(Kinds.POD, namespace, pod["metadata"]["name"], "", 0)
                continue
            if "nodeName" not in pod["spec"]:
                binding = {"metadata": {"name": pod["metadata"]["name"]}, "target": {"kind": "Node", "name": where}}
                path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/binding"
                await api._call("POST", path, {"apiVersion": "v1", "kind": "Binding", **binding})
            control = pod["metadata"]["annotations"]["pbx.io/control-ports"].split("-")[0]
            relays.reports.setdefault(f"10.0.0.{where[-1]}:{control}", RelayReport(0, 10, 10, False))
            running = {"name": "relay", "image": "relay:1", "imageID": "", "ready": True, "restartCount": 0,
                       "state": {"running": {"startedAt": "2030-01-01T00:00:00Z"}}}  # fmt: skip
            status = {"phase": "Running", "containerStatuses": [running],
                      "conditions": [{"type": "Ready", "status": "True"}]}  # fmt: skip
            await api.patch(Kinds.POD, namespace, pod["metadata"]["name"], {"status": status}, status=True)

    two = await settle()
    assert len(two) == 2
    await _scale(api, namespace, 5)
    five = await settle()
    assert len(five) == 5
    assert two.items() <= five.items()
    await _scale(api, namespace, 3)
    three = await settle()
    assert len(three) == 3
    assert three.items() <= five.items()
    assert yaml.safe_dump(await api.get(Kinds.POOL, namespace, "default"))
    with pytest.raises(KubeError, match="never changes its node"):
        await api.patch(Kinds.SHARD, namespace, next(iter(three)), {"spec": {"node": "elsewhere"}})


async def _scale(api: ApiServer, namespace: str, replicas: int) -> None:
    """As `kubectl scale` does: through the subresource."""
    path = f"/apis/pbx.io/v1alpha1/namespaces/{namespace}/mediarelaypools/default/scale"
    await api._call("PATCH", path, {"spec": {"replicas": replicas}}, content_type="application/merge-patch+json")

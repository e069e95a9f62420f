"""The kubelets of all nodes, the cluster's DNS and its load balancer, in one process: `python -m support.kubelet HOME`.

Runs in the cluster's network namespace, as root. `HOME` holds `pki`; a file `HOME/ctl/down-NODE` stops a node's
heartbeat, and what it runs goes on, as on a node that lost its network.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from support.kubelet.client import MERGE, STRATEGIC, ApiError, Client
from support.kubelet.pod import PodRunner, stamp
from support.kubelet.sandbox import Network

PASS_S = 0.4
BEAT_S = 5.0
INGRESS = "203.0.113.200"
"""What the load balancer gives to every Service that asks for one."""
POD_NET = "10.77.100"


def internal_ip(node: dict[str, Any]) -> str:
    """Where a node is reached."""
    addresses = node.get("status", {}).get("addresses") or ()
    return str(next((a["address"] for a in addresses if a["type"] == "InternalIP"), ""))


class Kubelets:
    """All of it."""

    def __init__(self, client: Client, home: Path) -> None:
        self._client = client
        self._home = home
        self._nodes: dict[str, Network] = {}
        self._runners: dict[str, PodRunner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._beat_at = 0.0
        self._given = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self._pass()
            except (ApiError, OSError, TimeoutError) as error:
                print(stamp(), "pass", repr(error), flush=True)
            await asyncio.sleep(PASS_S)

    def close(self) -> None:
        """End what runs."""
        for runner in self._runners.values():
            with contextlib.suppress(OSError):
                runner.kill()
        for network in self._nodes.values():
            network.close()

    async def _pass(self) -> None:
        nodes = await self._client.items("/api/v1/nodes")
        for node in nodes:
            self._make_node(node)
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + BEAT_S
            await asyncio.gather(*(self._beat(node) for node in nodes))
        pods = await self._client.items("/api/v1/pods")
        self._follow(pods)
        await self._serve_names(pods)

    def _make_node(self, node: dict[str, Any]) -> None:
        name, address = node["metadata"]["name"], internal_ip(node)
        if name not in self._nodes and address:
            more = [a["address"] for a in node["status"]["addresses"] if a["type"] == "ExternalIP"]
            self._nodes[name] = Network(address, tuple(more))

    async def _beat(self, node: dict[str, Any]) -> None:
        name = node["metadata"]["name"]
        if (self._home / "ctl" / f"down-{name}").exists():
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        spec = {"holderIdentity": name, "leaseDurationSeconds": 20, "renewTime": now}
        base = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        try:
            await self._client.call("PATCH", f"{base}/{name}", {"spec": spec}, MERGE)
        except ApiError:
            body = {"metadata": {"name": name}, "spec": spec}
            await self._client.call("POST", base, body)
        ready: dict[str, Any] = next((c for c in node["status"].get("conditions") or () if c["type"] == "Ready"), {})
        since = ready.get("lastTransitionTime") if ready.get("status") == "True" else None
        condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": stamp(),
                     "lastTransitionTime": since or stamp()}  # fmt: skip
        status = {"status": {"conditions": [condition]}}
        await self._client.call("PATCH", f"/api/v1/nodes/{name}/status", status, STRATEGIC)

    def _follow(self, pods: list[dict[str, Any]]) -> None:
        present = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid in [uid for uid in self._runners if uid not in present]:
            self._runners[uid].force_gone = True  # deleted by force: a kubelet ends it
            if self._tasks[uid].done():
                self._report(self._tasks.pop(uid))
                del self._runners[uid]
        for uid, pod in present.items():
            node = pod["spec"].get("nodeName")
            if uid in self._runners:
                self._runners[uid].body = pod
            elif node in self._nodes:
                host = bool(pod["spec"].get("hostNetwork"))
                network = self._nodes[node] if host else Network(self._next_address())
                self._runners[uid] = PodRunner(self._client, pod, network, not host, self._home)
                self._tasks[uid] = asyncio.create_task(self._runners[uid].run())

    def _next_address(self) -> str:
        self._given += 1
        return f"{POD_NET}.{self._given}" if self._given < 250 else f"10.77.101.{self._given - 249}"

    @staticmethod
    def _report(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            print(stamp(), "pod", repr(error), flush=True)

    async def _serve_names(self, pods: list[dict[str, Any]]) -> None:
        """Writes names of Services into the file that every container sees as /etc/hosts; gives load balancers."""
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        for service in await self._client.items("/api/v1/services"):
            lines += self._names_of(service, pods)
            if service["spec"].get("type") == "LoadBalancer" and not service["status"].get("loadBalancer"):
                meta = service["metadata"]
                path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}/status"
                ingress = {"status": {"loadBalancer": {"ingress": [{"ip": INGRESS}]}}}
                await self._client.call("PATCH", path, ingress, MERGE)
        text = "\n".join(lines) + "\n"
        hosts = self._home / "hosts"
        if hosts.read_text() != text:
            hosts.write_text(text)  # in place: it is mounted

    def _names_of(self, service: dict[str, Any], pods: list[dict[str, Any]]) -> list[str]:
        selector, meta = service["spec"].get("selector"), service["metadata"]
        if not selector:
            return []
        lines = []
        base = f"{meta['name']}.{meta['namespace']}"
        for pod in pods:
            labels, status = pod["metadata"].get("labels") or {}, pod.get("status") or {}
            fits = pod["metadata"]["namespace"] == meta["namespace"] and selector.items() <= labels.items()
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
            if not fits or not status.get("podIP") or not (ready or service["spec"].get("publishNotReadyAddresses")):
                continue
            address, own = status["podIP"], pod["metadata"]["name"]
            names = [meta["name"], base, f"{base}.svc", f"{base}.svc.cluster.local"]
            if pod["spec"].get("subdomain") == meta["name"]:
                names += [f"{own}.{name}" for name in names]
            lines.append(f"{address} {' '.join(names)}")
        return lines


async def main(home: Path) -> None:
    """Until SIGTERM."""
    for name in ("pods", "claims", "log", "ctl"):
        (home / name).mkdir(exist_ok=True)
    (home / "hosts").touch()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = f"https://{os.environ['KUBELET_API_HOST']}:{os.environ['KUBELET_API_PORT']}"
    async with Client(url, home / "pki") as client:
        kubelets = Kubelets(client, home)
        running = asyncio.create_task(kubelets.run())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        kubelets.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

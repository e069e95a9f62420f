"""One pod on a node: its volumes, its containers one after the other, their probes, its end."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.kubelet import sandbox
from support.kubelet.client import STRATEGIC, ApiError, Client
from support.kubelet.expansion import command_of, environment_of
from support.kubelet.probing import Watch
from support.kubelet.volumes import NotReadyError, Volumes, field_of

TICK_S = 0.3
BACKOFF_S = 2.0
DEFAULT_COMMANDS = {name: ["python", "-m", f"pbx_{name.replace('-', '_')}"] for name in (
    "registrar", "signaling", "media-relay", "events", "operator")}  # fmt: skip
"""The images' own, by the end of their names (Dockerfile)."""


def stamp() -> str:
    """Now, as Kubernetes writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Box:
    """A container over its restarts."""

    spec: dict[str, Any]
    process: sandbox.Process | None = None
    restarts: int = 0
    started_at: str = ""
    waiting: tuple[str, str] = ("ContainerCreating", "")
    exit_code: int | None = None
    again_at: float = 0.0
    watches: dict[str, Watch] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.popen.poll() is None

    @property
    def has_started(self) -> bool:
        """Whether its startup probe has passed."""
        return self.is_running and ("startupProbe" not in self.watches or self.watches["startupProbe"].passed)

    @property
    def is_ready(self) -> bool:
        """Whether its readiness probe passes."""
        return self.has_started and ("readinessProbe" not in self.watches or self.watches["readinessProbe"].passed)

    def status(self) -> dict[str, Any]:
        """As in the pod's status."""
        if self.is_running:
            state: dict[str, Any] = {"running": {"startedAt": self.started_at}}
        elif self.exit_code is not None:
            code = self.exit_code
            state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}}
        else:
            state = {"waiting": {"reason": self.waiting[0], "message": self.waiting[1]}}
        return {
            "name": self.spec["name"], "image": self.spec["image"], "imageID": "", "ready": self.is_ready,
            "started": self.has_started, "restartCount": self.restarts, "state": state,
        }  # fmt: skip


class PodRunner:
    """Runs until the pod is gone. `body` is replaced by whoever lists pods."""

    def __init__(self, client: Client, body: dict[str, Any], network: sandbox.Network, owns: bool, home: Path) -> None:
        self.body = body
        self.force_gone = False
        self._client = client
        self._network = network
        self._owns_network = owns
        self._home = home
        self._where = Path(tempfile.mkdtemp(prefix=f"{body['metadata']['name']}-", dir=home / "pods"))
        self._boxes = [Box(spec) for spec in body["spec"]["containers"]]
        self._inits = [Box(spec) for spec in body["spec"].get("initContainers") or ()]
        self._told: Any = None
        self._directories: dict[str, Path] | None = None

    @property
    def _volumes(self) -> Volumes:
        home = self._home
        return Volumes(self._client, self.body, self._where, home / "claims", home / "hosts", home / "pki")

    async def run(self) -> None:
        """Until it is gone."""
        try:
            while not self.force_gone and "deletionTimestamp" not in self.body["metadata"]:
                await self._step()
                await self._tell()
                await asyncio.sleep(TICK_S)
            if not self.force_gone:
                await self._end()
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to all of it."""
        for box in (*self._inits, *self._boxes):
            if box.process is not None and box.process.popen.poll() is None:
                box.process.popen.kill()
                box.process.popen.wait()
        if self._owns_network:
            self._network.close()

    async def _step(self) -> None:
        if self.body.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        try:
            if self._directories is None:
                self._directories = await self._volumes.prepare()
            await self._volumes.refresh()
            for box in self._inits:
                if box.exit_code != 0:
                    await self._run(box, once=True)
                    return
            for box in self._boxes:
                await self._run(box, once=self._runs_once)
        except (NotReadyError, ApiError) as error:
            for box in self._boxes:
                if not box.is_running:
                    box.waiting = ("CreateContainerConfigError", str(error))

    @property
    def _runs_once(self) -> bool:
        return bool(self.body["spec"].get("restartPolicy") == "Never")

    async def _run(self, box: Box, *, once: bool) -> None:
        """Start it, start it again, or probe it."""
        if box.process is not None and (code := box.process.popen.poll()) is not None:
            box.process = None
            if code == 0 and once:
                box.exit_code = 0
                return
            if once and box not in self._inits:
                box.exit_code = code
                return
            box.restarts += 1
            box.waiting, box.again_at = ("CrashLoopBackOff", f"exit code {code}"), time.monotonic() + BACKOFF_S
        if box.process is None:
            if box.exit_code is None and time.monotonic() >= box.again_at:
                await self._start(box)
            return
        await self._probe(box)

    async def _start(self, box: Box) -> None:
        image = box.spec["image"]
        if "missing" in image:
            box.waiting = ("ImagePullBackOff", f'Back-off pulling image "{image}"')
            return
        values: dict[int, str | None] = {}
        for entry in box.spec.get("env") or ():
            if "valueFrom" in entry:
                values[id(entry["valueFrom"])] = await self._value(entry["valueFrom"])
        environment = environment_of(box.spec, lambda source: values[id(source)])
        environment |= {"KUBERNETES_SERVICE_HOST": os.environ["KUBELET_API_HOST"],
                        "KUBERNETES_SERVICE_PORT": os.environ["KUBELET_API_PORT"],
                        "HOSTNAME": self.body["metadata"]["name"]}  # fmt: skip
        name = image.partition(":")[0].rpartition("sip-pbx-")[2]
        command = command_of(box.spec, environment) or DEFAULT_COMMANDS[name]
        mounts = await self._volumes.mounts(box.spec, self._directories or {})
        scratch = Path(tempfile.mkdtemp(prefix="root-", dir=self._where))
        log = self._home / "log" / f"{self.body['metadata']['name']}.{box.spec['name']}.log"
        with log.open("ab") as out:
            box.process = sandbox.start(self._network, scratch, mounts, box.spec, command, environment, out)
        box.started_at = stamp()
        kinds = ("startupProbe", "livenessProbe", "readinessProbe")
        box.watches = {kind: Watch(box.spec[kind]) for kind in kinds if kind in box.spec}

    async def _value(self, source: dict[str, Any]) -> str | None:
        if "fieldRef" in source:
            path = source["fieldRef"]["fieldPath"]
            return self._network.address if path == "status.podIP" else field_of(self.body, path)
        ref = source["secretKeyRef"]
        return await self._volumes.secret(ref["name"], ref["key"], optional=bool(ref.get("optional")))

    async def _probe(self, box: Box) -> None:
        assert box.process is not None
        startup = box.watches.get("startupProbe")
        kinds = ["startupProbe"] if startup and not startup.passed else ["livenessProbe", "readinessProbe"]
        for kind in kinds:
            watch = box.watches.get(kind)
            if watch is None:
                continue
            await watch.look(box.spec, box.process, self._network.address)
            if watch.reason:
                self._note(f"{kind} of {box.spec['name']}: {watch.reason}")
            if watch.failed and kind != "readinessProbe":
                box.process.signal(signal.SIGTERM)  # started again by the next step
                watch.failed = False

    def _note(self, text: str) -> None:
        with (self._home / "log" / "probes.log").open("a") as log:
            meta = self.body["metadata"]
            log.write(f"{stamp()} {meta['name']} {meta['uid']} {text}\n")

    async def _end(self) -> None:
        meta = self.body["metadata"]
        for box in self._boxes:
            hook = ((box.spec.get("lifecycle") or {}).get("preStop") or {}).get("exec")
            if hook and box.process is not None and box.is_running:
                await asyncio.to_thread(subprocess.run, box.process.inside(hook["command"]), check=False,
                                        capture_output=True)  # fmt: skip
            if box.process is not None:
                box.process.signal(signal.SIGTERM)
        grace = meta.get("deletionGracePeriodSeconds") or 0
        end = time.monotonic() + grace
        while any(box.is_running for box in self._boxes) and not self.force_gone:
            if self.body["metadata"]["deletionGracePeriodSeconds"] != grace:  # deleted again: from now on
                grace = self.body["metadata"]["deletionGracePeriodSeconds"]
                end = time.monotonic() + grace
            if time.monotonic() >= end:
                self._note(f"SIGKILL after {grace} s")
                break
            for box in self._boxes:
                if box.is_running:
                    await self._probe(box)
            await self._tell()
            await asyncio.sleep(TICK_S)
        self._note("ended")
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        with contextlib.suppress(ApiError):
            await self._client.call("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", options)

    async def _tell(self) -> None:
        status = self._status()
        if status == self._told:
            return
        meta = self.body["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        try:
            await self._client.call("PATCH", path, {"status": status}, STRATEGIC)
        except ApiError as error:
            if error.status != 404:
                self._note(f"status: {error}")
            return
        self._told = status

    def _status(self) -> dict[str, Any]:
        ready = all(box.is_ready for box in self._boxes)
        ran = [box.exit_code for box in self._boxes]
        phase = "Pending"
        if all(code is not None for code in ran):
            phase = "Succeeded" if all(code == 0 for code in ran) else "Failed"
        elif any(box.process is not None or box.restarts for box in self._boxes):
            phase = "Running"
        initialized = all(box.exit_code == 0 for box in self._inits)
        earlier = {c["type"]: c for c in (self._told or {}).get("conditions", ())}
        conditions = []
        for kind, truth in (("Initialized", initialized), ("ContainersReady", ready), ("Ready", ready)):
            value = "True" if truth else "False"
            same = earlier.get(kind, {}).get("status") == value
            since = earlier[kind]["lastTransitionTime"] if same else stamp()
            conditions.append({"type": kind, "status": value, "lastTransitionTime": since})
        address, spec = self._network.address, self.body["spec"]
        status: dict[str, Any] = {
            "phase": phase, "conditions": conditions, "podIP": address, "podIPs": [{"ip": address}],
            "hostIP": address if spec.get("hostNetwork") else "10.77.1.1",
            "startTime": (self._told or {}).get("startTime") or stamp(),
            "containerStatuses": [box.status() for box in self._boxes],
        }  # fmt: skip
        if self._inits:
            status["initContainerStatuses"] = [box.status() for box in self._inits]
        return status

"""Probes, run for real: exec in the container, HTTP, TCP and gRPC from the node, with the kubelet's counting."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.kubelet.expansion import probe_command
from support.kubelet.sandbox import Process

Container = dict[str, Any]


async def attempt(probe: dict[str, Any], container: Container, process: Process, address: str) -> str:
    """One probe. Returns why it failed; empty: it passed."""
    limit = float(probe.get("timeoutSeconds") or 1)
    try:
        async with asyncio.timeout(limit):
            return await _attempt(probe, container, process, address)
    except TimeoutError:
        return f"no answer within {limit:g} s"
    except OSError as error:
        return str(error)


async def _attempt(probe: dict[str, Any], container: Container, process: Process, address: str) -> str:
    if "exec" in probe:
        return await _exec(process.inside(probe_command(container, probe["exec"]["command"])))
    if "httpGet" in probe:
        get = probe["httpGet"]
        host = get.get("host") or address
        port = _port(container, get["port"])
        url = f"http://[{host}]:{port}{get['path']}" if ":" in host else f"http://{host}:{port}{get['path']}"
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return (
                    "" if 200 <= response.status < 400 else f"HTTP {response.status}: {(await response.text())[:300]}"
                )
        except aiohttp.ClientError as error:
            return str(error)
    if "tcpSocket" in probe:
        _, writer = await asyncio.open_connection(address, _port(container, probe["tcpSocket"]["port"]))
        writer.close()
        return ""
    async with grpc.aio.insecure_channel(f"{address}:{probe['grpc']['port']}") as channel:
        request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(request)
        except grpc.aio.AioRpcError as error:
            return str(error.details())
        return "" if answer.status == health_pb2.HealthCheckResponse.SERVING else "not serving"


async def _exec(command: list[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        out, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return "" if process.returncode == 0 else f"exit code {process.returncode}: {out.decode(errors='replace')[:300]}"


def _port(container: Container, port: int | str) -> int:
    if isinstance(port, int):
        return port
    return int(next(entry["containerPort"] for entry in container["ports"] if entry.get("name") == port))


@dataclass
class Watch:
    """One probe of a container over time."""

    probe: dict[str, Any]
    passed: bool = False
    failed: bool = False
    """More often in a row than the threshold allows."""
    reason: str = ""
    _due: float = field(default=0.0)
    _failures: int = 0

    async def look(self, container: Container, process: Process, address: str) -> None:
        """Probe where it is time to."""
        now = time.monotonic()
        if not self._due:
            self._due = now + float(self.probe.get("initialDelaySeconds") or 0)
        if now < self._due:
            return
        self._due = now + float(self.probe.get("periodSeconds") or 10)
        self.reason = await attempt(self.probe, container, process, address)
        self._failures = self._failures + 1 if self.reason else 0
        if not self.reason:
            self.passed, self.failed = True, False
        elif self._failures >= int(self.probe.get("failureThreshold") or 3):
            self.passed, self.failed = False, True

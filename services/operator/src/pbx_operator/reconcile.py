"""One pass over all pools: read the world, plan, perform, write the status.

The only state between passes is what the API server holds. An action that fails is logged and counted; the next pass
sees the world as it is and plans anew, so nothing here retries.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final

from pbx_operator.addressing import control_host
from pbx_operator.clients.relay import RelayControl
from pbx_operator.kube import ConflictError, Kinds, Kube, KubeError, NotFoundError
from pbx_operator.observe import Observer
from pbx_operator.observed import (
    COMPONENT,
    LABEL_COMPONENT,
    LABEL_SESSIONS,
    Manifest,
    Node,
    Pod,
    Pool,
    RelayReport,
    Shard,
    World,
)
from pbx_operator.plan import (
    Action,
    CreatePod,
    CreateShard,
    DeletePod,
    DeleteShard,
    LabelPod,
    SetDrain,
    SetReplicas,
    TellDrain,
    plan,
)
from pbx_operator.render.budget import budget_manifest
from pbx_operator.render.event import event_manifest, message_of
from pbx_operator.render.pod import pod_manifest, template_digest
from pbx_operator.render.shard import drain_patch, shard_manifest
from pbx_operator.status import invalid_status, pool_status, shard_status

RELAYS_AT_ONCE: Final = 64
"""Relays asked at the same time."""


class Reconciler:
    """Performs passes. `may_act` is asked before every write: a leader that lost its lease stops in mid-pass."""

    def __init__(
        self,
        kube: Kube,
        relays: RelayControl,
        observer: Observer,
        clock: Callable[[], datetime],
        may_act: Callable[[], bool] = lambda: True,
        namespace: str = "",
    ) -> None:
        self._kube = kube
        self._relays = relays
        self._observer = observer
        self._clock = clock
        self._may_act = may_act
        self._namespace = namespace

    async def run_once(self) -> bool:
        """One pass over every pool. Returns whether all of it succeeded."""
        try:
            bodies = await self._kube.list(Kinds.POOL, self._namespace)
            clean = True
            for body in bodies:
                clean &= await self._pool(body)
        except KubeError as error:
            self._observer.failed("read", error)
            return False
        return clean

    async def _pool(self, body: Manifest) -> bool:
        try:
            pool = Pool.from_manifest(body)
        except ValueError as error:
            problem = "; ".join(str(error).splitlines()[1:]) or str(error)
            return await self._write_status(body, invalid_status(body, problem, self._clock()), Kinds.POOL)
        world = await self._observe(pool)
        template = template_digest(pool)
        clean = await self._ensure_budget(pool)
        for action in plan(world, template):
            clean &= await self._attempt(world, action)
        return clean & await self._tell_status(body, world, template)

    async def _observe(self, pool: Pool) -> World:
        # Shards before pods: what is listed later can only add ports that are held, never hide some.
        nodes = [Node.from_manifest(body) for body in await self._kube.list(Kinds.NODE)]
        shards = [Shard.from_manifest(body) for body in await self._kube.list(Kinds.SHARD, self._namespace)]
        selector = f"{LABEL_COMPONENT}={COMPONENT}"
        pods = [Pod.from_manifest(body) for body in await self._kube.list(Kinds.POD, self._namespace, selector)]
        world = World(pool, self._clock(), {node.name: node for node in nodes}, tuple(shards), tuple(pods), {})
        return World(pool, world.now, world.nodes, world.shards, world.pods, await self._ask(world))

    async def _ask(self, world: World) -> dict[str, RelayReport]:
        gate = asyncio.Semaphore(RELAYS_AT_ONCE)

        async def ask(shard: Shard) -> tuple[str, RelayReport | None]:
            async with gate:
                return shard.name, await self._relays.report(relay_address(world, shard))

        running = [s for s in world.own_shards if (p := world.pod_of(s)) and p.has_started and relay_address(world, s)]
        answers = await asyncio.gather(*map(ask, running))
        return {name: report for name, report in answers if report is not None}

    async def _attempt(self, world: World, action: Action) -> bool:
        if not self._may_act():
            return False
        try:
            await self._perform(world, action)
        except (NotFoundError, ConflictError) as error:
            self._observer.raced(action, error)  # somebody was faster; the next pass sees what they did
            return False
        except KubeError as error:
            self._observer.failed(type(action).__name__, error)
            return False
        self._observer.acted(action)
        return await self._tell_event(world.pool, action)

    async def _perform(self, world: World, action: Action) -> None:
        kube, pool = self._kube, world.pool
        match action:
            case CreateShard():
                await kube.create(Kinds.SHARD, shard_manifest(pool, action.name, action.place))
            case CreatePod():
                body = pod_manifest(pool, action.shard, action.advertise, action.control_host)
                await kube.create(Kinds.POD, body)
            case SetDrain(shard=shard):
                patch = drain_patch(shard.resource_version, action.drain)
                await kube.patch(Kinds.SHARD, shard.namespace, shard.name, patch)
            case TellDrain():
                await self._relays.drain(relay_address(world, action.shard), action.deadline_s)
            case DeletePod(pod=pod):
                await kube.delete(Kinds.POD, pod.namespace, pod.name, pod.uid, action.grace_s)
            case DeleteShard(shard=shard):
                await kube.delete(Kinds.SHARD, shard.namespace, shard.name, shard.uid, None)
            case LabelPod(pod=pod):
                labels = {"metadata": {"labels": {LABEL_SESSIONS: action.sessions}}}
                await kube.patch(Kinds.POD, pod.namespace, pod.name, labels)
            case SetReplicas():
                await kube.patch(Kinds.POOL, pool.namespace, pool.name, {"spec": {"replicas": action.replicas}})

    async def _tell_event(self, pool: Pool, action: Action) -> bool:
        content = message_of(action)
        if content is None:
            return True
        name = f"{pool.name}.{secrets.token_hex(8)}"
        try:
            await self._kube.create(Kinds.EVENT, event_manifest(pool, content, name, self._clock()))
        except KubeError as error:
            self._observer.failed("event", error)
            return False
        return True

    async def _ensure_budget(self, pool: Pool) -> bool:
        wanted = budget_manifest(pool)
        try:
            await self._kube.get(Kinds.BUDGET, pool.namespace, wanted["metadata"]["name"])
        except NotFoundError:
            return pool.is_deleting or await self._create_budget(wanted)
        except KubeError as error:
            self._observer.failed("budget", error)
            return False
        return True

    async def _create_budget(self, wanted: Manifest) -> bool:
        if not self._may_act():
            return False
        try:
            await self._kube.create(Kinds.BUDGET, wanted)
        except KubeError as error:
            self._observer.failed("budget", error)
            return False
        return True

    async def _tell_status(self, body: Manifest, world: World, template: str) -> bool:
        self._observer.saw(world)
        clean = True
        for shard in world.own_shards:
            clean &= await self._shard_status(shard, world)
        return clean & await self._write_status(body, pool_status(world, template), Kinds.POOL)

    async def _shard_status(self, shard: Shard, world: World) -> bool:
        body = {"metadata": {"name": shard.name, "namespace": shard.namespace}, "status": shard.status}
        return await self._write_status(body, shard_status(shard, world), Kinds.SHARD)

    async def _write_status(self, body: Manifest, status: Manifest, kind: Kinds) -> bool:
        now = body.get("status") or {}
        if all(now.get(key) == value for key, value in status.items()) or not self._may_act():
            return True
        meta = body["metadata"]
        try:
            await self._kube.patch(kind, meta.get("namespace", ""), meta["name"], {"status": status}, status=True)
        except NotFoundError:
            return True  # deleted meanwhile
        except KubeError as error:
            self._observer.failed("status", error)
            return False
        return True


def relay_address(world: World, shard: Shard) -> str:
    """Where a relay's gRPC server is reached; empty: its node is gone or has no address."""
    node = world.nodes.get(shard.spec.node)
    host = control_host(node) if node else ""
    if not host:
        return ""
    return f"[{host}]:{shard.control.first}" if ":" in host else f"{host}:{shard.control.first}"

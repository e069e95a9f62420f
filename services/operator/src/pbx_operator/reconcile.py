"""One pass over all pools: read the world, plan, perform, write the status.

The only state between passes is what the API server holds. An action that fails is logged and counted; the next pass
sees the world as it is and plans anew, so nothing here retries. What the API server refuses stands in the condition
`Reconciled`, in its own words.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pbx_operator.addressing import control_host
from pbx_operator.clients.relay import RelayControl
from pbx_operator.kube import ConflictError, Kinds, Kube, KubeError, NotFoundError
from pbx_operator.lease import NAME as LEASE_NAME
from pbx_operator.lease import is_held
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
    CreateWanted,
    DeletePod,
    DeleteShard,
    LabelPod,
    SetDrain,
    SetReplicas,
    TellDrain,
    plan,
)
from pbx_operator.policy import Policy
from pbx_operator.render.budget import budget_manifest
from pbx_operator.render.event import event_manifest, message_of, refused, started
from pbx_operator.render.pod import pod_manifest, template_digest
from pbx_operator.render.shard import drain_patch, shard_manifest
from pbx_operator.render.wanted import wanted_manifest
from pbx_operator.status import (
    Refusal,
    has_started_anew,
    invalid_status,
    newly_refused,
    pool_status,
    shard_status,
)

RELAYS_AT_ONCE: Final = 64
"""Relays asked at the same time."""
FORBIDDEN: Final = 403


@dataclass(frozen=True, slots=True)
class Scope:
    """Which pools are this operator's."""

    namespace: str = ""
    """Those of this namespace; empty: of all."""
    home: str = ""
    """The operator's own namespace. Of the others, those that have an operator of their own are left to that."""


@dataclass(slots=True)
class _Pass:
    """One pass over one pool."""

    world: World
    template: str
    refusals: list[Refusal] = field(default_factory=list)


class Reconciler:
    """Performs passes. `may_act` is asked before every write: a leader that lost its lease stops in mid-pass."""

    def __init__(
        self,
        kube: Kube,
        relays: RelayControl,
        observer: Observer,
        clock: Callable[[], datetime],
        policy: Policy,
        may_act: Callable[[], bool] = lambda: True,
        scope: Scope = Scope(),
    ) -> None:
        self._kube = kube
        self._relays = relays
        self._observer = observer
        self._clock = clock
        self._policy = policy
        self._may_act = may_act
        self._scope = scope
        self._sees_others = True

    async def run_once(self) -> bool:
        """One pass over every pool. Returns whether all of it succeeded."""
        try:
            bodies = await self._kube.list(Kinds.POOL, self._scope.namespace)
            foreign = await self._foreign({body["metadata"].get("namespace", "") for body in bodies})
            clean = True
            for body in bodies:
                if body["metadata"].get("namespace", "") not in foreign:
                    clean &= await self._pool(body)
        except KubeError as error:
            self._observer.failed("read", error)
            return False
        return clean

    async def _foreign(self, namespaces: set[str]) -> set[str]:
        """Of these namespaces, those where another operator acts: one that serves all keeps its hands off them."""
        if self._scope.namespace or not self._scope.home:
            return set()
        found = set()
        for namespace in namespaces - {self._scope.home}:
            try:
                lease = await self._kube.get(Kinds.LEASE, namespace, LEASE_NAME)
            except NotFoundError:
                continue
            if is_held(lease, self._clock()):
                found.add(namespace)
        return found

    async def _pool(self, body: Manifest) -> bool:
        try:
            pool = Pool.from_manifest(body)
        except ValueError as error:
            problem = "; ".join(str(error).splitlines()[1:]) or str(error)
            return await self._write_pool_status(body, invalid_status(body, problem, self._clock()))
        problem = "" if pool.is_deleting else self._policy.problem(pool.spec)
        if problem:
            return await self._write_pool_status(body, invalid_status(body, problem, self._clock()))
        current = _Pass(await self._observe(pool), template_digest(pool, self._policy))
        clean = await self._ensure_budget(current)
        for action in plan(current.world, current.template):
            clean &= await self._attempt(current, action)
        return clean & await self._tell_status(body, current)

    async def _observe(self, pool: Pool) -> World:
        # Shards before pods: what is listed later can only add ports that are held, never hide some.
        nodes = [Node.from_manifest(body) for body in await self._kube.list(Kinds.NODE)]
        shards = await self._shards()
        selector = f"{LABEL_COMPONENT}={COMPONENT}"
        pods = [Pod.from_manifest(body) for body in await self._kube.list(Kinds.POD, self._scope.namespace, selector)]
        world = World(pool, self._clock(), {node.name: node for node in nodes}, tuple(shards), tuple(pods), {})
        return World(pool, world.now, world.nodes, world.shards, world.pods, await self._ask(world))

    async def _shards(self) -> list[Shard]:
        """Of all namespaces where that may be read: relays of other installations hold ports of the same nodes."""
        if self._sees_others:
            try:
                return self._readable(await self._kube.list(Kinds.SHARD))
            except KubeError as error:
                if error.status != FORBIDDEN or not self._scope.namespace:
                    raise
                self._sees_others = False
                self._observer.failed("shards of other namespaces", error)
        return self._readable(await self._kube.list(Kinds.SHARD, self._scope.namespace))

    def _readable(self, bodies: list[Manifest]) -> list[Shard]:
        shards = []
        for body in bodies:
            try:
                shards.append(Shard.from_manifest(body))
            except ValueError as error:  # of a newer operator, in another namespace
                self._observer.failed("shard", KubeError(0, f"{body['metadata']['name']}: {error}"))
        return shards

    async def _ask(self, world: World) -> dict[str, RelayReport]:
        gate = asyncio.Semaphore(RELAYS_AT_ONCE)

        async def ask(shard: Shard) -> tuple[str, RelayReport | None]:
            async with gate:
                return shard.name, await self._relays.report(relay_address(world, shard))

        running = [s for s in world.own_shards if (p := world.pod_of(s)) and p.has_started and relay_address(world, s)]
        answers = await asyncio.gather(*map(ask, running))
        return {name: report for name, report in answers if report is not None}

    async def _attempt(self, current: _Pass, action: Action) -> bool:
        if not self._may_act():
            return False
        world = current.world
        try:
            await self._perform(world, action)
        except (NotFoundError, ConflictError) as error:
            self._observer.raced(action, error)  # somebody was faster; the next pass sees what they did
            return False
        except KubeError as error:
            self._observer.failed(type(action).__name__, error)
            current.refusals.append(refusal_of(action, error))
            return False
        self._observer.acted(action)
        return await self._tell_event(world.pool, action)

    async def _perform(self, world: World, action: Action) -> None:
        kube, pool = self._kube, world.pool
        match action:
            case CreateShard():
                await kube.create(Kinds.SHARD, shard_manifest(pool, action.name, action.place))
            case CreatePod():
                body = pod_manifest(pool, action.shard, action.advertise, action.control_host, self._policy)
                await kube.create(Kinds.POD, body)
            case CreateWanted():
                await kube.create(Kinds.POD, wanted_manifest(pool, action.name, action.elsewhere, self._policy))
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
        return content is None or await self._tell(identity_of(pool), content)

    async def _tell(self, about: Manifest, content: tuple[str, str, str]) -> bool:
        try:
            name = f"{about['metadata']['name']}.{secrets.token_hex(8)}"
            body = event_manifest(about, content, name, self._clock())
            await self._kube.create(Kinds.EVENT, body)
        except KubeError as error:
            self._observer.failed("event", error)
            return False
        return True

    async def _ensure_budget(self, current: _Pass) -> bool:
        pool = current.world.pool
        wanted = budget_manifest(pool)
        try:
            await self._kube.get(Kinds.BUDGET, pool.namespace, wanted["metadata"]["name"])
        except NotFoundError:
            return pool.is_deleting or await self._create_budget(current, wanted)
        except KubeError as error:
            self._observer.failed("budget", error)
            return False
        return True

    async def _create_budget(self, current: _Pass, wanted: Manifest) -> bool:
        if not self._may_act():
            return False
        try:
            await self._kube.create(Kinds.BUDGET, wanted)
        except KubeError as error:
            self._observer.failed("budget", error)
            if not isinstance(error, ConflictError):
                current.refusals.append(Refusal("creating the disruption budget", "", error.words, error.status))
            return False
        return True

    async def _tell_status(self, body: Manifest, current: _Pass) -> bool:
        self._observer.saw(current.world)
        clean = True
        for shard in current.world.own_shards:
            clean &= await self._shard_status(shard, current)
        refusals = tuple(current.refusals)
        return clean & await self._write_pool_status(body, pool_status(current.world, current.template, refusals))

    async def _shard_status(self, shard: Shard, current: _Pass) -> bool:
        body = {"metadata": {"name": shard.name, "namespace": shard.namespace}, "status": shard.status}
        status = shard_status(shard, current.world, tuple(current.refusals))
        if not await self._write_status(body, status, Kinds.SHARD):
            return False
        if self._may_act() and has_started_anew(shard, status):
            return await self._tell(identity_of(current.world.pool), started(shard.name, status["advertise"]))
        return True

    async def _write_pool_status(self, body: Manifest, status: Manifest) -> bool:
        news = newly_refused(body, status)
        clean = await self._write_status(body, status, Kinds.POOL)
        if clean and news and self._may_act():
            clean &= await self._tell(body, refused(news))
        return clean

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


def identity_of(pool: Pool) -> Manifest:
    """A pool's metadata, as far as an event needs it."""
    return {"metadata": {"name": pool.name, "namespace": pool.namespace, "uid": pool.uid}}


def refusal_of(action: Action, error: KubeError) -> Refusal:
    """What the API server did not take of an action."""
    match action:
        case CreateShard(name=name):
            return Refusal(f"creating the shard {name}", name, error.words, error.status)
        case CreatePod(shard=shard):
            return Refusal(f"creating the pod {shard.name}", shard.name, error.words, error.status)
        case CreateWanted(name=name):
            return Refusal(f"creating the pod {name}", "", error.words, error.status)
        case SetDrain(shard=shard) | TellDrain(shard=shard):
            return Refusal(f"draining {shard.name}", shard.name, error.words, error.status)
        case DeletePod(pod=pod):
            return Refusal(f"deleting the pod {pod.name}", pod.shard, error.words, error.status)
        case DeleteShard(shard=shard):
            return Refusal(f"deleting the shard {shard.name}", shard.name, error.words, error.status)
        case LabelPod(pod=pod):
            return Refusal(f"labelling the pod {pod.name}", pod.shard, error.words, error.status)
        case SetReplicas(replicas=replicas):
            return Refusal(f"scaling to {replicas}", "", error.words, error.status)


def relay_address(world: World, shard: Shard) -> str:
    """Where a relay's gRPC server is reached; empty: its node is gone or has no address."""
    node = world.nodes.get(shard.spec.node)
    host = control_host(node) if node else ""
    if not host:
        return ""
    return f"[{host}]:{shard.control.first}" if ":" in host else f"{host}:{shard.control.first}"

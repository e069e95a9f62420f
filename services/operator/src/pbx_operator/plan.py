"""From what is seen to what is to be done: the operator's decisions. Pure.

Theory of operation. A pass reads the world, `plan` answers actions, the executor performs them, and the next pass
reads the world again: nothing is remembered between passes but what the custom resources say. Each action is safe
to repeat and safe to lose. Three rules keep calls alive:

- a shard keeps its node and its ports for life, and its ports are free again only when its pod is gone as well;
- a relay is drained before its pod is deleted, and deleted when it is empty or at its deadline;
- one upgrade at a time, and none while another relay of the pool is not ready.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from pbx_operator import addressing, autoscale, drain, placement
from pbx_operator.crd.shard import DrainReason, ShardDrain
from pbx_operator.observed import SESSIONS_ACTIVE, SESSIONS_IDLE, Pod, Shard, World
from pbx_operator.placement import Place

CREATES_PER_PASS: Final = 50
"""Shards made in one pass: a typing error in `replicas` must not flood the API server."""
WANTED_MAX: Final = 20
"""Pods that stand for relays without a place, at once: a cluster autoscaler answers them with machines, which cost."""
REFUSALS_MAX: Final = 3
"""Nodes that the scheduler may refuse before a new one is asked for, though others are left to be tried."""
END_SPARE_S: Final = 3
"""What a relay that is to be killed gets after it has dropped its calls: time to tell signaling which."""


@dataclass(frozen=True, slots=True)
class CreateShard:
    """A new relay: its place, for ever."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class CreatePod:
    """The pod of a shard that has none."""

    shard: Shard
    advertise: tuple[str, ...]
    control_host: str


@dataclass(frozen=True, slots=True)
class SetDrain:
    """Begin a drain, change its reason, or (None) end it."""

    shard: Shard
    drain: ShardDrain | None
    note: str = ""
    """What has changed, for a person."""


@dataclass(frozen=True, slots=True)
class TellDrain:
    """Tell the relay itself."""

    shard: Shard
    pod: Pod
    deadline_s: int
    calls: int = 0
    """Calls that it drops then, because somebody deleted its pod with little grace."""


@dataclass(frozen=True, slots=True)
class DeletePod:
    """End a relay."""

    pod: Pod
    grace_s: int | None
    """Seconds until SIGKILL; 0 forgets the pod of a node that is gone; None: the pod's own."""
    reason: str
    calls: int = 0
    """Calls that it still holds, and drops."""


@dataclass(frozen=True, slots=True)
class DeleteShard:
    """Give the place back: no pod holds it any more."""

    shard: Shard
    reason: str


@dataclass(frozen=True, slots=True)
class LabelPod:
    """Say on the pod whether it holds calls: the disruption budget protects those that do."""

    pod: Pod
    sessions: str


@dataclass(frozen=True, slots=True)
class SetReplicas:
    """Scale, as the autoscaler wants."""

    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class CreateWanted:
    """A pod that stands for a relay without a place: it stays pending, and a cluster autoscaler adds a node for it."""

    name: str
    elsewhere: tuple[str, ...]
    """Nodes where it must not go: the operator knows that they have no room for a relay."""


Action = (
    CreateShard | CreatePod | SetDrain | TellDrain | DeletePod | DeleteShard | LabelPod | SetReplicas | CreateWanted
)


def plan(world: World, template: str) -> list[Action]:
    """What to do now. `template` is the digest of the pod that the pool asks for."""
    if world.pool.is_deleting:
        return []  # owner references take everything along; relays drain themselves on SIGTERM
    actions: list[Action] = []
    actions += _forget_lost(world)
    actions += _leave_nodes(world)
    actions += _leave_refusals(world)
    actions += _scale(world, actions)
    actions += _ask_for_nodes(world, actions)
    actions += _upgrade(world, template, actions)
    for shard in world.own_shards:
        actions += _advance(world, _after(shard, actions), actions)
    actions += _label(world)
    wish = autoscale.wish(world)
    if wish is not None and wish.replicas != world.pool.spec.replicas:
        actions.append(SetReplicas(wish.replicas, wish.reason))
    return actions


def _after(shard: Shard, actions: list[Action]) -> Shard:
    """The shard as it will be once the drains planned in this pass are written."""
    for action in actions:
        if isinstance(action, SetDrain) and action.shard.name == shard.name:
            shard = replace(shard, spec=shard.spec.model_copy(update={"drain": action.drain}))
    return shard


def _is_gone(shard: Shard, world: World) -> bool:
    return shard.spec.node not in world.nodes


def _forget_lost(world: World) -> list[Action]:
    """Shards of nodes that exist no more; their pods first, since nobody else ends those."""
    actions: list[Action] = []
    for shard in world.own_shards:
        if not _is_gone(shard, world):
            continue
        pod = world.pod_of(shard)
        if pod is None:
            actions.append(DeleteShard(shard, f"node {shard.spec.node} is gone"))
        else:
            actions.append(DeletePod(pod, 0, f"node {shard.spec.node} is gone"))
    return actions


def _begin(shard: Shard, reason: DrainReason, world: World) -> SetDrain:
    """A drain, or another reason for the one under way (its deadline stays)."""
    if shard.drain is not None:
        return SetDrain(shard, shard.drain.model_copy(update={"reason": reason}))
    deadline = world.now + timedelta(seconds=world.pool.spec.drain.deadline_seconds)
    return SetDrain(shard, ShardDrain(reason=reason, since=world.now, deadline=deadline))


def _leave_nodes(world: World) -> list[Action]:
    """Relays of nodes that are being drained, and upgrades on lost nodes: those have been replaced already."""
    actions: list[Action] = []
    for shard in world.own_shards:
        node = world.nodes.get(shard.spec.node)
        if node is None or shard.is_leaving:
            continue
        is_replaced = shard.drain is not None and world.is_lost(node.name)
        if is_replaced or placement.repels(node, world.pool.spec.placement):
            actions.append(_begin(shard, DrainReason.NODE_DRAIN, world))
    return actions


def _leave_refusals(world: World) -> list[Action]:
    """Relays that the scheduler refuses, or whose ports another one holds, where there is another place for them."""
    actions: list[Action] = []
    places: list[Place] = []
    for shard in world.own_shards:
        if shard.drain is not None or shard.is_deleting or _is_gone(shard, world):
            continue
        clash = _lost_clash(world, shard)
        if clash is None and not world.is_refused(shard):
            continue
        found = placement.place(world, tuple(places))
        if found is not None:
            places.append(found)
            pod = world.pod_of(shard)
            note = f"its ports are {clash.namespace}/{clash.name}'s" if clash else pod.message if pod else ""
            actions.append(replace(_begin(shard, DrainReason.REFUSED, world), note=note))
    return actions


def _lost_clash(world: World, shard: Shard) -> Shard | None:
    """The shard of another installation that holds the ports of this one, which is younger and does not run yet."""
    pod, other = world.pod_of(shard), world.clash_of(shard)
    if other is None or (pod is not None and pod.has_started):
        return None
    return other if _seniority(other) < _seniority(shard) else None


def _seniority(shard: Shard) -> tuple[bool, float, str, str]:
    """Sorts shards by who may keep what two of them hold: who runs, who was first, and then by name."""
    runs = shard.status.get("phase") not in (None, "", "Pending")
    born = shard.created_at.timestamp() if shard.created_at else 0.0
    return not runs, born, shard.namespace, shard.name


def _has_run(shard: Shard, world: World) -> bool:
    pod = world.pod_of(shard)
    return pod is not None and pod.has_started


def _ask_for_nodes(world: World, before: list[Action]) -> list[Action]:
    """Pods that stand for relays without a place: as many as there are such relays, none on a node that is known."""
    moved = {action.shard.name for action in before if isinstance(action, SetDrain)}
    coming = sum(isinstance(action, CreateShard) for action in before)
    here = [shard for shard in staying(world) if shard.name not in moved]
    tries = len(world.refused_nodes())
    stuck = sum(world.is_refused(s) or (tries >= REFUSALS_MAX and not _has_run(s, world)) for s in here)
    lacking = 0 if coming >= CREATES_PER_PASS else max(0, world.pool.spec.replicas - len(here) - coming) + stuck
    wanted = [f"{world.pool.name}-wanted-{number}" for number in range(min(lacking, WANTED_MAX))]
    present = {pod.name: pod for pod in world.wanted_pods}
    surplus = [pod for name, pod in present.items() if name not in wanted or pod.node or pod.is_over]
    actions: list[Action] = [
        DeletePod(pod, 0, "a relay has a place" if pod.name not in wanted else "it is to be pending")
        for pod in surplus
        if not pod.is_terminating
    ]
    known = tuple(sorted(world.nodes))
    return [*actions, *(CreateWanted(name, known) for name in wanted if name not in present)]


def staying(world: World) -> list[Shard]:
    """Shards that count as relays: not on their way out, their node not lost."""
    return [s for s in world.own_shards if not s.is_leaving and not world.is_lost(s.spec.node)]


def _scale(world: World, before: list[Action]) -> list[Action]:
    leaving = {action.shard.name for action in before if isinstance(action, SetDrain)}
    counted = [shard for shard in staying(world) if shard.name not in leaving]
    surplus = len(counted) - world.pool.spec.replicas
    if surplus > 0:
        return [_begin(s, DrainReason.SCALE_IN, world) for s in drain.victims(counted, surplus, world)]
    return _create(world, -surplus)


def _create(world: World, count: int) -> list[Action]:
    places: list[Place] = []
    for _ in range(min(count, CREATES_PER_PASS)):
        found = placement.place(world, tuple(places))
        if found is None:
            break
        places.append(found)
    return [CreateShard(placement.shard_name(world.pool.name, found), found) for found in places]


def outdated(world: World, shard: Shard, template: str) -> str:
    """In what a relay differs from what the pool asks for, for a person; empty: in nothing."""
    if is_misplaced(shard, world):
        return f"ports {shard.ports}, control {shard.control}: not what the pool has now"
    pod, node = world.pod_of(shard), world.nodes.get(shard.spec.node)
    if pod is None:
        return ""
    if pod.template != template:
        return "made of an earlier template"
    wanted = ",".join(addressing.advertised(node, world.pool.spec.addressing)) if node else ""
    if wanted and pod.advertise and pod.advertise != wanted:
        return f"announces {pod.advertise}, now {wanted}"
    return ""


def is_misplaced(shard: Shard, world: World) -> bool:
    """Whether a shard's ports are not what the pool gives relays now. They never change: another shard must come."""
    spec = world.pool.spec
    has_size = len(shard.ports) == spec.block_size
    return not (
        has_size and spec.ports.block.contains(shard.ports) and spec.control_ports.block.contains(shard.control)
    )


def _upgrade(world: World, template: str, before: list[Action]) -> list[Action]:
    """The next relay to be replaced: one at a time, broken ones first, then the emptiest.

    It comes back on its place, or where its ports are of yesterday it goes, and another one comes.
    """
    leaving = {action.shard.name for action in before if isinstance(action, SetDrain)}
    shards = [shard for shard in staying(world) if shard.name not in leaving]
    if any(_is_upgrading(shard) and not _is_gone(shard, world) for shard in world.own_shards):
        return []
    notes = {shard.name: outdated(world, shard, template) for shard in shards}
    behind = [shard for shard in shards if notes[shard.name]]
    broken = [shard for shard in behind if not _is_ready(shard, world)]
    is_growing = any(isinstance(action, CreateShard) for action in before)  # those are not ready either
    others_ready = not is_growing and all(_is_ready(shard, world) for shard in shards if shard not in behind)
    eligible = broken or (behind if others_ready else [])
    return [
        replace(_begin(shard, _reason_to_replace(shard, world), world), note=notes[shard.name])
        for shard in drain.victims(eligible, 1, world)
    ]


def _reason_to_replace(shard: Shard, world: World) -> DrainReason:
    return DrainReason.MOVE if is_misplaced(shard, world) else DrainReason.UPGRADE


def _is_upgrading(shard: Shard) -> bool:
    return shard.drain is not None and shard.drain.reason in (DrainReason.UPGRADE, DrainReason.MOVE)


def _is_ready(shard: Shard, world: World) -> bool:
    pod = world.pod_of(shard)
    return pod is not None and pod.is_ready and not pod.is_terminating


def _advance(world: World, shard: Shard, before: list[Action]) -> list[Action]:
    """The next step of one shard on a node that exists."""
    if _is_gone(shard, world):
        return []
    pod = world.pod_of(shard)
    if pod is None:
        return _without_pod(world, shard)
    if pod.is_terminating:
        return _hurry(world, shard, pod)  # its ports are held until it is gone
    if shard.drain is None:
        return [DeletePod(pod, EMPTY, "it ended")] if pod.is_over else []
    return _drain_step(world, shard, pod)


EMPTY: Final = drain.EMPTY_GRACE_S


def _without_pod(world: World, shard: Shard) -> list[Action]:
    if shard.is_deleting:
        return []
    if shard.is_leaving:
        reason = shard.drain.reason.value if shard.drain else "deleted"
        return [DeleteShard(shard, f"drained: {reason}")]
    if shard.drain is not None:
        return [SetDrain(shard, None)]
    node = world.nodes[shard.spec.node]
    advertise, host = addressing.advertised(node, world.pool.spec.addressing), addressing.control_host(node)
    if not node.is_ready or not advertise or not host:
        return []  # said in the conditions
    return [CreatePod(shard, advertise, host)]


def _hurry(world: World, shard: Shard, pod: Pod) -> list[Action]:
    """Tells a relay that somebody deleted with less grace than its pod has, so that it drops its calls in order."""
    report, own = world.report_of(shard), world.pool.spec.drain.deadline_seconds
    if report is None or not report.calls or pod.ends_at is None or pod.grace_s is None or pod.grace_s >= own:
        return []
    left_s = int((pod.ends_at - world.now).total_seconds()) - END_SPARE_S
    is_told = cut_short(shard, world) in str(shard.status.get("message", ""))
    return [TellDrain(shard, pod, max(1, left_s), 0 if is_told else report.calls)]


def cut_short(shard: Shard, world: World) -> str:
    """What a shard's status says of a pod that was deleted with less grace than a drain has; empty: it was not."""
    pod = world.pod_of(shard)
    if pod is None or pod.grace_s is None or pod.grace_s >= world.pool.spec.drain.deadline_seconds:
        return ""
    return f"deleted with {pod.grace_s} s of grace"


def _drain_step(world: World, shard: Shard, pod: Pod) -> list[Action]:
    assert shard.drain is not None
    report = world.report_of(shard)
    calls = report.calls if report else 0
    match drain.verdict(shard, pod, report, world):
        case drain.Verdict.EMPTY:
            return [DeletePod(pod, drain.EMPTY_GRACE_S, f"drained: {shard.drain.reason.value}")]
        case drain.Verdict.OVERDUE:
            return [DeletePod(pod, drain.DEADLINE_GRACE_S, "its drain's deadline has passed", calls)]
    if report is None or report.is_draining:
        return []
    left_s = max(1, int((shard.drain.deadline - world.now).total_seconds()))
    return [TellDrain(shard, pod, left_s)]


def _label(world: World) -> list[Action]:
    actions: list[Action] = []
    for shard in world.own_shards:
        pod, report = world.pod_of(shard), world.report_of(shard)
        if pod is None or report is None or pod.is_terminating:
            continue  # unknown: the label stays, on the safe side if it was active
        sessions = SESSIONS_ACTIVE if report.calls else SESSIONS_IDLE
        if pod.sessions != sessions:
            actions.append(LabelPod(pod, sessions))
    return actions

"""On which node the next relay goes, and with which ports. Pure.

Labels, taints, cordons and the limit per node rule nodes out; of the others the one in the emptiest zone wins, then
the one with the fewest relays, then the first by name. The pod is bound there by node affinity, so that the scheduler
still refuses what it knows better (resources, a hostPort that somebody else holds).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from pbx_operator.crd.pool import Placement, Toleration
from pbx_operator.observed import Node, Taint, World
from pbx_operator.ports import CONTROL_PORTS, GRID, PORTS_PER_SLOT, Block, cells, free_block

NODE_PART_MAX = 18
"""30 of the pool, 18, 6 of the digest, 5 of the port and three dashes: 62."""
REPELLING = ("NoSchedule", "NoExecute")
CONDITION_TAINTS = frozenset({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})
"""Set by the control plane for a node that is away: `is_lost` decides about those, with its own patience."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a new relay goes."""

    node: str
    ports: Block
    control: Block


def tolerates(tolerations: tuple[Toleration, ...], taint: Taint) -> bool:
    """Whether one of the tolerations covers a taint (as the scheduler sees it)."""
    return any(_matches(toleration, taint) for toleration in tolerations)


def _matches(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if not toleration.key:
        return toleration.operator == "Exists"
    if toleration.key != taint.key:
        return False
    return toleration.operator == "Exists" or toleration.value == taint.value


def unfit(node: Node, placement: Placement) -> str:
    """Why relays may not be on a node; empty: they may."""
    if node.is_cordoned:
        return "cordoned"
    for key, value in placement.node_selector.items():
        if node.labels.get(key) != value:
            return f"without the label {key}={value}"
    for taint in node.taints:
        repelling = taint.effect in REPELLING and taint.key not in CONDITION_TAINTS
        if repelling and not tolerates(placement.tolerations, taint):
            return f"tainted {taint.key}={taint.value}:{taint.effect}"
    return ""


def repels(node: Node, placement: Placement) -> bool:
    """Whether relays that run on a node have to leave: it is cordoned, or tainted NoExecute.

    A label that is gone or a NoSchedule taint keeps new relays away only, as for any pod.
    """
    if node.is_cordoned:
        return True
    harsh = (t for t in node.taints if t.effect == "NoExecute" and t.key not in CONDITION_TAINTS)
    return any(not tolerates(placement.tolerations, taint) for taint in harsh)


def place(world: World, taken_now: tuple[Place, ...] = ()) -> Place | None:
    """Where the next relay goes, given those placed in this pass already; None: no room anywhere."""
    counts = _relays_per_node(world, taken_now)
    zones = _relays_per_zone(world, counts)
    label = world.pool.spec.placement.zone_label

    def weight(node: Node) -> tuple[int, int, str]:
        return zones[node.labels.get(label, "")] if label else 0, counts[node.name], node.name

    for node in sorted(_candidates(world, counts), key=weight):
        found = _room(world, node.name, taken_now)
        if found:
            return found
    return None


def why_no_place(world: World) -> str:
    """What keeps relays from being placed, for a person."""
    placement, refused = world.pool.spec.placement, world.refused_nodes()
    reasons: Counter[str] = Counter()
    for node in world.nodes.values():
        if not node.is_ready:
            reasons["not ready"] += 1
        elif node.name in refused:
            reasons["refused by the scheduler"] += 1
        else:
            reasons[unfit(node, placement) or "out of ports, or holding relaysPerNodeMax relays"] += 1
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"no node has room for a relay ({len(world.nodes)} nodes: {listed or 'none'})"


def _candidates(world: World, counts: Counter[str]) -> list[Node]:
    placement, refused = world.pool.spec.placement, world.refused_nodes()
    return [
        node
        for node in world.nodes.values()
        if node.is_ready
        and node.name not in refused
        and not unfit(node, placement)
        and counts[node.name] < placement.relays_per_node_max
    ]


def _relays_per_node(world: World, taken_now: tuple[Place, ...]) -> Counter[str]:
    return Counter([shard.spec.node for shard in world.own_shards] + [place.node for place in taken_now])


def _relays_per_zone(world: World, counts: Counter[str]) -> Counter[str]:
    label = world.pool.spec.placement.zone_label
    zones: Counter[str] = Counter()
    for name, count in counts.items():
        node = world.nodes.get(name)
        if node:
            zones[node.labels.get(label, "")] += count
    return zones


def _room(world: World, node: str, taken_now: tuple[Place, ...]) -> Place | None:
    spec = world.pool.spec
    media, control = world.taken(node)
    media += [place.ports for place in taken_now if place.node == node]
    control += [place.control for place in taken_now if place.node == node]
    ports = free_block(spec.ports.block, spec.block_size, PORTS_PER_SLOT, map(cells, media), GRID)
    pair = free_block(spec.control_ports.block, CONTROL_PORTS, CONTROL_PORTS, control)
    return Place(node, ports, pair) if ports and pair else None


def shard_name(pool: str, where: Place) -> str:
    """A name of pool, node and first port: two operators that choose the same block collide on it (409).

    The node's part is cut to fit 63 characters, and told from its like by a digest.
    """
    digest = hashlib.sha256(where.node.encode()).hexdigest()[:6]
    stem = where.node.split(".")[0][:NODE_PART_MAX].rstrip("-")
    return f"{pool}-{stem}-{digest}-{where.ports.first}"
